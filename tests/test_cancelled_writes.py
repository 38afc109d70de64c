"""A write whose caller was cancelled takes effect before later ones to the session, or never.

Each store is held up at its driver while a write is in flight, as a slow network or disk would.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.examples.custom_provider import CustomStorageProvider
from agent_cores.session.models import SeqRange, Window
from agent_cores.session.models.selection import END
from agent_cores.session.models.times import utc_now
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage.factory import StorageFactory
from agent_cores.session.storage.redis import connection
from agent_cores.session.storage.sqlite.batches import Batches
from agent_cores.session.testing.samples import (
    change_of,
    creation,
    new_context,
    new_header,
    new_message,
)
from tests.stores_by_url import STORES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent_cores.session.models import Change, Session, SessionMetadata
    from agent_cores.session.storage.base import StorageProvider

MOMENT = 0.1
"""Seconds in which a call that nothing holds up would be over."""
LONGEST = 30.0


class Gate:
    """Holds up the first write that arrives after ``close``, and lets others pass."""

    def __init__(self) -> None:
        self._is_armed = False
        self._arrived = threading.Event()
        self._may_go = threading.Event()

    def close(self) -> None:
        """Hold up the next write."""
        self._arrived.clear()
        self._may_go.clear()
        self._is_armed = True

    def open(self) -> None:
        """Let the write go on."""
        self._may_go.set()

    def block(self) -> None:
        """Pass, in a thread."""
        if self._is_armed:
            self._is_armed = False
            self._arrived.set()
            assert self._may_go.wait(LONGEST)

    async def passed(self) -> None:
        """Pass, in the event loop."""
        if self._is_armed:
            self._is_armed = False
            self._arrived.set()
            await _soon(self._may_go)

    async def arrived(self) -> None:
        """Return once a write is held up."""
        await _soon(self._arrived)


async def _soon(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, LONGEST)


SERVERS = [name for name in STORES if name != "sqlite"]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture(params=[*STORES, "seven methods"])
async def provider(
    request: pytest.FixtureRequest, tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StorageProvider]:
    name = request.param
    provider = StorageFactory.create(STORES[name](tmp_path)) if name in STORES else Slow(gate)
    await provider.initialize()
    if name == "sqlite":
        _hold_batches(gate, monkeypatch)
    elif name in {"valkey", "cluster"}:
        _hold_flights(gate, monkeypatch)
    elif name in STORES:
        _hold_connections(gate, provider, monkeypatch)
    yield provider
    gate.open()
    await provider.shutdown()


class Slow(CustomStorageProvider):
    """The provider of the tutorial, with a gate before its writes."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    async def save_session(self, session: Session) -> None:
        await self._gate.passed()
        await super().save_session(session)

    async def delete_session(self, session_id: str) -> bool:
        await self._gate.passed()
        return await super().delete_session(session_id)


def _hold_batches(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Batches.write

    def late(*arguments: Any) -> Any:  # noqa: ANN401 - handed on
        gate.block()
        return write(*arguments)

    monkeypatch.setattr(Batches, "write", late)


def _hold_flights(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    go = connection._Flight.go  # noqa: SLF001 - where commands leave

    async def late(self: Any, *arguments: Any) -> None:  # noqa: ANN401 - handed on
        if not all(command.reads for command in self._commands):
            await gate.passed()
        await go(self, *arguments)

    monkeypatch.setattr(connection._Flight, "go", late)  # noqa: SLF001


def _hold_connections(gate: Gate, provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    acquire = provider.database._acquire  # noqa: SLF001 - where transactions begin

    async def late(*arguments: Any) -> Any:  # noqa: ANN401 - handed on
        await gate.passed()
        return await acquire(*arguments)

    monkeypatch.setattr(provider.database, "_acquire", late)


@asynccontextmanager
async def cancelled(provider: StorageProvider, gate: Gate, change: Change) -> AsyncIterator[None]:
    """Run a block while a change is in flight whose caller was cancelled."""
    gate.close()
    caller = asyncio.create_task(provider.apply(change))
    await gate.arrived()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    yield
    gate.open()


async def applied_after(
    provider: StorageProvider, gate: Gate, first: Change, second: Change
) -> None:
    """Apply a change after one whose caller was cancelled; return once both are over."""
    async with cancelled(provider, gate, first):
        later = asyncio.create_task(provider.apply(second))
        await asyncio.wait([later], timeout=MOMENT)
    await later
    await provider.shutdown()  # finishes what is in flight
    await provider.initialize()


async def begin(provider: StorageProvider) -> SessionMetadata:
    """Create a session of one message."""
    header = new_header(at=utc_now())
    await provider.apply(creation(header))
    return (await provider.apply(append(header, "old"))).header


def append(header: SessionMetadata, message_id: str, text: str = "hello") -> Change:
    at = utc_now()
    return change_of(
        header,
        at,
        basis=header,
        access_revision=header.access_revision,
        append=(new_message(message_id, text, at=at),),
    )


async def ids(provider: StorageProvider) -> list[str]:
    snapshot = await provider.read("default", "talk", window=Window(limit=10))
    assert snapshot is not None
    return [message.id for message in snapshot.messages or ()]


@pytest.mark.parametrize("size", [1, 100_000, 400_000])
async def test_an_append_comes_before_the_next_one(
    provider: StorageProvider, gate: Gate, size: int
) -> None:
    header = await begin(provider)
    first = append(header, "cancelled", "x" * size)
    await applied_after(provider, gate, first, append(header, "next"))
    assert await ids(provider) == ["old", "cancelled", "next"]


async def test_a_removal_leaves_what_is_appended_after_it(
    provider: StorageProvider, gate: Gate
) -> None:
    header = await begin(provider)
    clear = change_of(header, utc_now(), remove=SeqRange(1, END))
    await applied_after(provider, gate, clear, append(header, "next"))
    assert await ids(provider) == ["next"]


async def test_an_update_undoes_no_later_one(provider: StorageProvider, gate: Gate) -> None:
    header = await begin(provider)
    first, second = (
        change_of(header, utc_now(), context_set=new_context(a=value)) for value in (1, 2)
    )
    await applied_after(provider, gate, first, second)
    snapshot = await provider.read("default", "talk", context=True)
    assert snapshot is not None
    assert snapshot.context == new_context(a=2)


async def test_a_deletion_spares_the_session_that_is_created_after_it(
    provider: StorageProvider, gate: Gate
) -> None:
    header = await begin(provider)
    deletion = change_of(header, utc_now(), delete=True)
    again = creation(new_header(at=utc_now(), incarnation=2))
    await applied_after(provider, gate, deletion, again)
    snapshot = await provider.read("default", "talk")
    assert snapshot is not None
    assert snapshot.header.incarnation == 2


@pytest.mark.parametrize("messages", [0, 1])
async def test_a_session_does_not_come_after_its_deletion(
    provider: StorageProvider, gate: Gate, messages: int
) -> None:
    header = new_header(at=utc_now())
    begun_with = tuple(new_message(f"m{n}", at=header.created_at) for n in range(messages))
    deletion = change_of(header, utc_now(), delete=True)
    await applied_after(provider, gate, creation(header, append=begun_with), deletion)
    assert await provider.read("default", "talk") is None


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_caller_cancelled_while_it_waits_for_an_earlier_write_writes_nothing(
    provider: StorageProvider, gate: Gate
) -> None:
    header = await begin(provider)
    async with cancelled(provider, gate, append(header, "cancelled")):
        waiting = asyncio.create_task(provider.apply(append(header, "withdrawn")))
        await asyncio.wait([waiting], timeout=MOMENT)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await provider.apply(append(header, "next"))
    assert await ids(provider) == ["old", "cancelled", "next"]


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_write_past_its_deadline_comes_before_the_next_one_too(
    provider: StorageProvider, gate: Gate
) -> None:
    hasty = SessionSettings(cleanup_interval=0, timeout=MOMENT)
    patient = SessionSettings(cleanup_interval=0)
    async with (
        SessionManager(provider, settings=patient) as manager,
        SessionManager(provider, settings=hasty) as late,
    ):
        await manager.create_session("ann", session_id="talk")
        await manager.add_message("talk", "ann", "user", "old")
        await late.get_session_messages("talk", "ann", 10)
        gate.close()
        with pytest.raises(StorageUnavailableError) as first:
            await late.update_session("talk", "ann", {"a": 1})
        with pytest.raises(StorageUnavailableError) as second:
            await late.add_message("talk", "ann", "user", "too late")
        assert (first.value.outcome_unknown, second.value.outcome_unknown) == (True, False)
        others = asyncio.create_task(manager.update_session("talk", "ann", {"a": 2}))
        await asyncio.wait([others], timeout=MOMENT)
        gate.open()
        await others
        session = await manager.get_session("talk", "ann")
    assert session.context == {"a": 2}
    assert [message.content for message in session.messages or ()] == ["old"]
