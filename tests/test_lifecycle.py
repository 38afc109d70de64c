"""``LifecycleManager``: hooks, and the sweeper in the background."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import msgspec
import pytest

from agent_cores.session import SessionEvent, SessionManager, SessionSettings
from agent_cores.session.errors import (
    ConflictError,
    CorruptRecordError,
    InvalidInputError,
    SessionNotFoundError,
    StaleHeaderError,
    StorageUnavailableError,
)
from agent_cores.session.lifecycle import EVENT_NAMES
from agent_cores.session.models.change import Applied, Change
from agent_cores.session.models.query import Ended
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.testing.clock import ManualClock

NEVER = SessionSettings(cleanup_interval=0)
OFTEN = SessionSettings(cleanup_interval=0.005)
A_SECOND = 1 / 3600
"""In hours."""


class Recorder:
    """A handler that remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[SessionEvent] = []
        self.something = asyncio.Event()

    def __call__(self, event: SessionEvent) -> None:
        self.events.append(event)
        self.something.set()

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def sessions(clock: ManualClock) -> AsyncIterator[SessionManager]:
    async with SessionManager("memory://", settings=NEVER, clock=clock) as manager:
        yield manager


@pytest.fixture
def recorder(sessions: SessionManager) -> Recorder:
    recorder = Recorder()
    for name in EVENT_NAMES:
        sessions.lifecycle.on(name, recorder)
    return recorder


# ── what a sweep counts ──────────────────────────────────────────────────────────────────────────


class Erasing(MemoryProvider):
    """Has erased what came due by itself; what is left of it goes, or not, by ``answer``."""

    answer: Exception = SessionNotFoundError()

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        ended = await super().due(at, limit, lease_seconds)
        return [msgspec.structs.replace(session, header=None) for session in ended]

    async def apply(self, change: Change) -> Applied:
        if change.delete:
            raise self.answer
        return await super().apply(change)


@pytest.mark.parametrize(
    ("answer", "removed"),
    [
        (SessionNotFoundError(), 1),
        (StaleHeaderError(), 1),  # there is another session under its id
        (StorageUnavailableError("no answer"), 0),
        (StorageUnavailableError("no answer", outcome_unknown=True), 0),
        (CorruptRecordError("default", "talk", "not JSON"), 0),
        (ConflictError("locked"), 0),
    ],
)
async def test_a_session_without_a_header_counts_only_if_it_is_gone(
    clock: ManualClock, answer: Exception, removed: int
) -> None:
    store = Erasing()
    store.answer = answer
    async with SessionManager(store, settings=NEVER, clock=clock) as manager:
        await manager.create_session("ann", ttl_hours=A_SECOND)
        clock.advance(2)
        assert await manager.clean_expired_sessions() == removed


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_hook_is_told_what_happened_by_whom_and_when(
    sessions: SessionManager, recorder: Recorder, clock: ManualClock
) -> None:
    session_id = await sessions.create_session("ann", {"tags": ["demo"]})
    (created,) = recorder.events
    assert (created.name, created.at, created.user_id) == ("session.created", clock(), "ann")
    assert (created.namespace, created.session_id) == ("default", session_id)
    assert created.session is not None
    assert created.session.tags == ("demo",)
    assert created.message is None


async def test_every_message_is_told_by_itself_in_order(
    sessions: SessionManager, recorder: Recorder
) -> None:
    session_id = await sessions.create_session("ann")
    batch = [{"role": "user", "content": str(number)} for number in range(3)]
    await sessions.add_messages(session_id, "ann", batch, context_updates={"k": 1})
    messages = [event.message for event in recorder.events if event.message is not None]
    assert [message.content for message in messages] == ["0", "1", "2"]
    assert recorder.names == ["session.created", *["message.appended"] * 3, "session.updated"]


async def test_each_kind_of_write_has_its_event(
    sessions: SessionManager, recorder: Recorder
) -> None:
    session_id = await sessions.create_session("ann")
    await sessions.add_messages(session_id, "ann", [{"role": "user", "content": "x"}] * 3)
    recorder.events.clear()
    await sessions.update_session(session_id, "ann", {"k": 1})
    await sessions.share_session(session_id, "ann", "bob")
    await sessions.archive_session(session_id, "ann")
    await sessions.unarchive_session(session_id, "ann")
    await sessions.delete_message(session_id, "ann", 1)
    await sessions.rewind_session(session_id, "ann", 2)
    await sessions.delete_session(session_id, "ann")
    assert recorder.names == [
        "session.updated",
        "session.access_changed",
        "session.archived",
        "session.unarchived",
        "message.deleted",
        "session.rewound",
        "session.deleted",
    ]
    assert [event.seq for event in recorder.events[4:6]] == [1, 2]


async def test_what_changes_nothing_tells_nothing(
    sessions: SessionManager, recorder: Recorder
) -> None:
    session_id = await sessions.create_session("ann")
    await sessions.add_message(session_id, "ann", "user", "x", message_id="m")
    recorder.events.clear()
    await sessions.add_message(session_id, "ann", "user", "x", message_id="m")
    await sessions.update_session(session_id, "ann")
    await sessions.unarchive_session(session_id, "ann")
    await sessions.renew_session(session_id, "ann")
    await sessions.get_session(session_id, "ann")
    async with sessions.turn(session_id, "ann"):
        pass
    with pytest.raises(SessionNotFoundError):
        await sessions.delete_session(session_id, "eve")
    assert recorder.names == []


async def test_handlers_run_in_the_order_they_were_added_before_the_verb_returns(
    sessions: SessionManager,
) -> None:
    ran: list[str] = []

    async def first(_event: SessionEvent) -> None:
        await asyncio.sleep(0)
        ran.append("first")

    sessions.lifecycle.on("session.created", first)
    sessions.lifecycle.on("session.created", lambda _event: ran.append("second"))
    await sessions.create_session("ann")
    assert ran == ["first", "second"]


async def test_a_handler_finds_the_write_done_and_may_call_verbs(sessions: SessionManager) -> None:
    seqs: list[int] = []

    async def greet(event: SessionEvent) -> None:
        message = await sessions.add_message(event.session_id, "ann", "assistant", "Hello")
        seqs.append(message.seq)

    sessions.lifecycle.on("session.created", greet)
    session_id = await sessions.create_session("ann")
    assert seqs == [1]
    assert len(await sessions.get_session_messages(session_id, "ann")) == 1


async def test_a_handler_that_fails_is_logged_and_stops_nothing(
    sessions: SessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(_event: SessionEvent) -> None:
        detail = "out of paper"
        raise ValueError(detail)

    def failing_at_once(_event: SessionEvent) -> None:
        raise KeyError

    recorder = Recorder()
    for handler in (failing, failing_at_once, recorder):
        sessions.lifecycle.on("session.created", handler)
    session_id = await sessions.create_session("ann")
    assert recorder.names == ["session.created"]
    assert (await sessions.get_session(session_id, "ann")).id == session_id
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "out of paper" in caplog.text


async def test_a_handler_taken_away_is_told_nothing_more(
    sessions: SessionManager, recorder: Recorder
) -> None:
    sessions.lifecycle.off("session.created", recorder)
    sessions.lifecycle.off("session.created", recorder)
    await sessions.create_session("ann")
    assert recorder.names == []


async def test_a_view_shares_the_hooks(sessions: SessionManager, recorder: Recorder) -> None:
    await sessions.for_namespace("acme").create_session("ann")
    assert [event.namespace for event in recorder.events] == ["acme"]


async def test_an_event_that_does_not_exist_is_refused(sessions: SessionManager) -> None:
    with pytest.raises(InvalidInputError, match=r"session\.created"):
        sessions.lifecycle.on("session.began", print)


async def test_a_hook_never_sees_the_token_of_a_turn(
    sessions: SessionManager, recorder: Recorder
) -> None:
    session_id = await sessions.create_session("ann")
    async with sessions.turn(session_id, "ann"):
        await sessions.update_session(session_id, "ann", {"k": 1})
    header = recorder.events[-1].session
    assert header is not None
    assert header.turn is not None
    assert header.turn.token is None


# ── sweeping ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_background_sweeps_what_has_ended_and_tells_it(clock: ManualClock) -> None:
    gone = asyncio.Event()

    class Removing(MemoryProvider):
        async def apply(self, change: Change) -> Applied:
            applied = await super().apply(change)
            if applied.deleted:
                gone.set()
            return applied

    async with SessionManager(Removing, settings=OFTEN, clock=clock) as sessions:
        recorder = Recorder()
        sessions.lifecycle.on("session.expired", recorder)
        ended = await sessions.create_session("ann", ttl_hours=A_SECOND)
        await sessions.create_session("ann", ttl_hours=None)
        clock.advance(1)
        async with asyncio.timeout(30):
            await gone.wait()
        (event,) = recorder.events
        assert (event.session_id, event.user_id) == (ended, None)
        assert event.session is not None
        assert event.session.owner_id == "ann"
        assert await sessions.get_statistics() == {"sessions": 1, "due": 0}


async def test_the_background_goes_on_after_a_sweep_that_failed(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(MemoryProvider):
        failures = 2

        async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
            if self.failures:
                self.failures -= 1
                raise RuntimeError  # what no provider should let through
            return await super().due(at, limit, lease_seconds)

    async with SessionManager(Failing, settings=OFTEN, clock=clock) as sessions:
        recorder = Recorder()
        sessions.lifecycle.on("session.expired", recorder)
        await sessions.create_session("ann", ttl_hours=A_SECOND)
        clock.advance(1)
        async with asyncio.timeout(30):
            await recorder.something.wait()
    assert [record.message for record in caplog.records].count(
        "sweeping failed; it is tried again after SESSION_CLEANUP_INTERVAL"
    ) == 2


async def test_a_sweep_by_hand_counts_those_of_its_namespace(
    sessions: SessionManager, recorder: Recorder, clock: ManualClock
) -> None:
    await sessions.create_session("ann", ttl_hours=A_SECOND)
    await sessions.for_namespace("acme").create_session("ann", ttl_hours=A_SECOND)
    clock.advance(0.999)
    assert await sessions.clean_expired_sessions() == 0
    clock.advance(0.001)
    assert await sessions.clean_expired_sessions() == 1
    assert recorder.names.count("session.expired") == 2
    assert await sessions.clean_expired_sessions() == 0


async def test_a_session_that_takes_the_place_of_an_ended_one_tells_its_end(
    sessions: SessionManager, recorder: Recorder, clock: ManualClock
) -> None:
    await sessions.create_session("ann", session_id="s", ttl_hours=A_SECOND)
    clock.advance(1)
    await sessions.create_session("bob", session_id="s")
    assert recorder.names == ["session.created", "session.expired", "session.created"]
    ended = recorder.events[1].session
    assert ended is not None
    assert ended.owner_id == "ann"
