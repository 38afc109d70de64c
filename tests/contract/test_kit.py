"""The kit itself: a provider with a fault fails it, and no subclass turns a case off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from agent_cores.session.storage.memory_provider import MemoryProvider
from agent_cores.session.testing import ManualClock, ProviderContract, Store, VerbContract
from agent_cores.session.testing.provider.random_changes import run_machine
from agent_cores.session.testing.wrapping import WrappingProvider

if TYPE_CHECKING:
    from datetime import datetime

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


def test_the_clock_only_moves_forward() -> None:
    clock = ManualClock()
    before = clock()
    assert clock() == before
    assert (clock.advance(1.5) - before).total_seconds() == 1.5
    with pytest.raises(ValueError, match="forward"):
        clock.advance_to(before)
