"""The kit itself: a provider with a fault fails it, and no subclass turns a case off."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.testing import ManualClock, ProviderContract, Store, VerbContract
from agent_cores.session.testing.provider.random_changes import run_machine
from agent_cores.session.testing.wrapping import WrappingProvider

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from agent_cores.session.models import (
        Applied,
        Change,
        Ended,
        Found,
        Query,
        Snapshot,
        StoredMessage,
        Window,
    )


def replaced(change: Change, **fields: object) -> Change:
    return msgspec.structs.replace(change, **fields)


class ForgetsTheTurn(WrappingProvider):
    async def apply(self, change: Change) -> Applied:
        return await super().apply(replaced(change, turn=None))


class TrustsAnOldHeader(WrappingProvider):
    async def apply(self, change: Change) -> Applied:
        if change.basis is not None:
            change = replaced(change, access_revision=None, incarnation=None)
        return await super().apply(change)


class StoresAReplayAgain(WrappingProvider):
    async def apply(self, change: Change) -> Applied:
        fresh = tuple(renamed(message, number) for number, message in enumerate(change.append))
        return await super().apply(replaced(change, append=fresh))


def renamed(message: StoredMessage, number: int) -> StoredMessage:
    return msgspec.structs.replace(message, id=f"{message.id}{number}")


class RenewsNothing(WrappingProvider):
    async def apply(self, change: Change) -> Applied:
        applied = await super().apply(change)
        before = applied.before
        if before is None or applied.deleted:
            return applied
        header = msgspec.structs.replace(applied.header, expires_at=before.expires_at)
        return msgspec.structs.replace(applied, header=header)


class ListsArchivedSessions(WrappingProvider):
    async def find(self, query: Query) -> Found:
        return await super().find(msgspec.structs.replace(query, status=None))


class LeasesNothing(WrappingProvider):
    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        ended = await super().due(at, limit, lease_seconds)
        return ended[:-1]


class KnowsNoMore(WrappingProvider):
    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        snapshot = await super().read(namespace, session_id, context=context, window=window)
        return snapshot and msgspec.structs.replace(snapshot, has_more=False)


class SweepsTheLiving(WrappingProvider):
    async def apply(self, change: Change) -> Applied:
        if change.delete:
            header = await self.read(change.namespace, change.session_id)
            expired = header is not None and header.header.is_expired(change.at)
            change = replaced(change, must_be_expired=expired)
        return await super().apply(change)


@pytest.mark.parametrize(
    "faulty",
    [
        ForgetsTheTurn,
        TrustsAnOldHeader,
        StoresAReplayAgain,
        RenewsNothing,
        ListsArchivedSessions,
        LeasesNothing,
        KnowsNoMore,
        SweepsTheLiving,
    ],
)
def test_the_state_machine_finds_the_fault(faulty: type[WrappingProvider]) -> None:
    store = Store(lambda: faulty(MemoryProvider()))
    with pytest.raises(AssertionError):
        run_machine(store, ManualClock(), fast_path=True, examples=600, shrink=False)


def test_a_subclass_may_not_replace_a_case() -> None:
    with pytest.raises(TypeError, match="may not turn cases"):
        type("TestMine", (ProviderContract,), {"test_a_missing_session_is_none": None})


@pytest.mark.parametrize("name", ["pytestmark", "__test__"])
def test_a_subclass_may_not_mark_the_cases(name: str) -> None:
    with pytest.raises(TypeError, match="may not turn cases"):
        type("TestMine", (VerbContract,), {name: False})


def test_a_subclass_may_add_cases() -> None:
    type("TestMine", (VerbContract,), {"test_of_its_own": None})


def test_topics_that_share_a_name_are_refused() -> None:
    kit = {"__module__": "agent_cores.session.testing.manager"}
    one = type("One", (VerbContract,), {**kit, "test_alike": None})
    with pytest.raises(TypeError, match="test_alike"):
        type("Both", (one,), {**kit, "test_alike": None})


PROVIDER = """
import copy, pickle
from pathlib import Path
import pytest
from agent_cores.session.examples.custom_provider import CustomStorageProvider
from agent_cores.session.storage.base import Capabilities
from agent_cores.session.testing import ManagerContract, ProviderContract, Store

class OneFile(CustomStorageProvider):
    capabilities = Capabilities(durable=True)

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.is_open = False

    async def initialize(self):
        assert not self.is_open
        self.is_open = True
        if self.path.exists():
            self._sessions = pickle.loads(self.path.read_bytes())

    async def shutdown(self):
        if self.is_open:
            self.path.write_bytes(pickle.dumps(self._sessions))
        self.is_open = False

    async def load_session(self, session_id):
        assert self.is_open, "used while it is closed"
        return await super().load_session(session_id)

class TestProvider(ProviderContract):
    @pytest.fixture
    def store(self, tmp_path):
        return Store(lambda: OneFile(tmp_path / "sessions"))

class TestManager(ManagerContract):
    @pytest.fixture
    def store(self, tmp_path):
        return Store(lambda: OneFile(tmp_path / "sessions"))
"""


def run_kit(folder: Path, *arguments: str) -> str:
    """Run the contract on a durable store that is not shared; return what pytest prints."""
    (folder / "test_one_file.py").write_text(PROVIDER, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    return ended.stdout + ended.stderr


SOME = "whole_after or what_was_accepted or two_managers or session_is_gone"


def test_a_durable_store_that_is_not_shared_passes(tmp_path: Path) -> None:
    shown = run_kit(tmp_path, "-p", "no:asyncio", "-k", SOME)
    assert "failed" not in shown
    assert "error" not in shown.lower()
    assert re.search(r"[4-9] passed", shown), shown


def test_beside_pytest_asyncio_the_cases_run(tmp_path: Path) -> None:
    shown = run_kit(tmp_path, "-W", "ignore", "-k", SOME)
    assert re.search(r"[4-9] passed", shown), shown
    assert "failed" not in shown


def test_the_auto_mode_of_pytest_asyncio_is_refused_by_name(tmp_path: Path) -> None:
    shown = run_kit(tmp_path, "-W", "ignore", "--asyncio-mode=auto")
    assert "Set asyncio_mode = strict" in shown
    assert "passed" not in shown
    assert "failed" not in shown
    assert "2 errors" in shown


def test_the_clock_only_moves_forward() -> None:
    clock = ManualClock()
    before = clock()
    assert clock() == before
    assert (clock.advance(1.5) - before).total_seconds() == 1.5
    with pytest.raises(ValueError, match="forward"):
        clock.advance_to(before)
