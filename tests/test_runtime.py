"""How a manager starts and stops: by whom, how often, and where."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import datetime

import pytest

from agent_cores.session import SessionEvent, SessionManager, SessionSettings
from agent_cores.session.errors import StorageUnavailableError, WrongContextError
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.testing import ManualClock, suite_settings


class Counting(MemoryProvider):
    """Tells how often it was opened and closed; ``broken`` and ``lost`` fail it."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = self.closed = 0
        self.broken = self.lost = False
        self.closing: asyncio.Event | None = None

    async def initialize(self) -> None:
        await asyncio.sleep(0)
        self._fail(self.broken)
        self.opened += 1

    async def shutdown(self) -> None:
        if self.closing is not None:
            await self.closing.wait()
        self.closed += 1

    async def store_time(self) -> datetime | None:
        for _ in range(5):  # others run meanwhile
            await asyncio.sleep(0)
        self._fail(self.lost)
        return None

    def _fail(self, failing: bool) -> None:
        if failing:
            detail = "no answer"
            raise StorageUnavailableError(detail)


@pytest.fixture
def store() -> Counting:
    return Counting()


@pytest.fixture
def sessions(store: Counting) -> SessionManager:
    return SessionManager(store)


# ── starting ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_first_verb_starts_a_manager_that_nobody_initialized(
    store: Counting, sessions: SessionManager
) -> None:
    await sessions.create_session("ann")
    assert (store.opened, store.closed) == (1, 0)
    await sessions.shutdown()
    assert (store.opened, store.closed) == (1, 1)


async def test_fifty_first_verbs_at_once_start_it_once(
    store: Counting, sessions: SessionManager
) -> None:
    ids = await asyncio.gather(*(sessions.create_session("ann") for _ in range(50)))
    assert len(set(ids)) == 50
    assert store.opened == 1
    await sessions.shutdown()


async def test_a_view_starts_and_stops_the_manager_that_it_is_of(
    store: Counting, sessions: SessionManager
) -> None:
    await sessions.for_namespace("acme").create_session("ann")
    await sessions.create_session("ann")
    assert store.opened == 1
    await sessions.for_namespace("other").shutdown()
    assert store.closed == 1


async def test_a_store_that_does_not_start_is_tried_again(
    store: Counting, sessions: SessionManager
) -> None:
    store.broken = True
    for attempt in (sessions.initialize, sessions.get_statistics):
        with pytest.raises(StorageUnavailableError):
            await attempt()
    store.broken = False
    async with sessions:
        assert store.opened == 1
    assert store.closed == 1


async def test_a_store_that_is_lost_while_starting_is_closed(
    store: Counting, sessions: SessionManager
) -> None:
    store.lost = True
    with pytest.raises(StorageUnavailableError):
        await sessions.initialize()
    assert (store.opened, store.closed) == (1, 1)
    store.lost = False
    async with sessions:
        assert store.opened == 2


async def test_the_log_says_once_which_store_is_used_and_why(
    sessions: SessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "agent_cores.session"):
        async with sessions, sessions:
            await sessions.create_session("ann")
    assert [record.message for record in caplog.records] == [
        "sessions are kept in Counting (given as argument)"
    ]


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_shutdown_that_matches_the_last_initialize_stops_it(
    store: Counting, sessions: SessionManager
) -> None:
    for _ in range(3):
        await sessions.initialize()
    for closed in (0, 0, 1):
        await sessions.shutdown()
        assert (store.opened, store.closed) == (1, closed)


async def test_a_shutdown_too_many_does_nothing(store: Counting, sessions: SessionManager) -> None:
    await sessions.shutdown()
    async with sessions:
        pass
    await sessions.shutdown()
    assert (store.opened, store.closed) == (1, 1)


@pytest.mark.parametrize("users", [1, 2, 3])
async def test_shutdowns_at_once_do_not_wait_for_each_other(
    users: int, store: Counting, sessions: SessionManager
) -> None:
    for _ in range(users):
        await sessions.initialize()
    async with asyncio.timeout(5):
        await asyncio.gather(*(sessions.shutdown() for _ in range(3)))
    assert (store.opened, store.closed) == (1, 1)
    async with sessions:
        assert await sessions.create_session("ann")
    assert (store.opened, store.closed) == (2, 2)


async def test_one_user_who_leaves_while_another_arrives_does_not_stop_it(
    store: Counting, sessions: SessionManager
) -> None:
    arriving = asyncio.create_task(sessions.initialize())
    await asyncio.sleep(0)  # it is on its way
    async with sessions:
        pass
    await arriving
    assert (store.opened, store.closed) == (1, 0)
    assert await sessions.create_session("ann")
    await sessions.shutdown()


async def test_a_shutdown_that_is_refused_in_a_hook_does_not_count(store: Counting) -> None:
    refused = asyncio.Event()

    async def leave(_: SessionEvent) -> None:
        with pytest.raises(WrongContextError, match="shut its manager down"):
            await manager.shutdown()
        refused.set()

    clock = ManualClock()
    settings = suite_settings(cleanup_interval=0.01)
    manager = SessionManager(store, settings=settings, clock=clock)
    manager.lifecycle.on("session.expired", leave)
    async with manager, manager:
        await manager.create_session("ann", ttl_hours=1)
        clock.advance(3_601)
        await asyncio.wait_for(refused.wait(), 10)
        await manager.shutdown()
        assert store.closed == 0
        assert await manager.create_session("ann")
        await manager.initialize()
    assert store.closed == 1


async def test_two_managers_of_one_provider_open_and_close_it_once(store: Counting) -> None:
    one, other = SessionManager(store), SessionManager(store)
    await asyncio.gather(one.initialize(), other.initialize())
    await one.shutdown()
    assert (store.opened, store.closed) == (1, 0)
    assert await other.create_session("ann")
    async with one:
        await other.shutdown()
        assert (store.opened, store.closed) == (1, 0)
    assert (store.opened, store.closed) == (1, 1)


async def test_a_provider_that_its_maker_opened_stays_open(store: Counting) -> None:
    await store.initialize()
    async with SessionManager(store) as sessions:
        await sessions.create_session("ann")
    assert (store.opened, store.closed) == (1, 0)
    await store.shutdown()
    assert (store.opened, store.closed) == (1, 1)


async def test_a_provider_that_cannot_be_opened_has_no_user(store: Counting) -> None:
    store.broken = True
    for _ in range(2):
        with pytest.raises(StorageUnavailableError):
            await store.initialize()
    store.broken = False
    await store.initialize()
    await store.shutdown()
    assert (store.opened, store.closed) == (1, 1)


async def test_a_provider_whose_class_extends_another_is_opened_once() -> None:
    class Extended(Counting):
        async def initialize(self) -> None:
            await super().initialize()

        async def shutdown(self) -> None:
            await super().shutdown()

    store = Extended()
    async with SessionManager(store), SessionManager(store):
        assert (store.opened, store.closed) == (1, 0)
    assert (store.opened, store.closed) == (1, 1)


async def test_a_manager_taken_up_while_it_stops_starts_again(
    store: Counting, sessions: SessionManager
) -> None:
    await sessions.initialize()
    store.closing = asyncio.Event()
    leaving = asyncio.create_task(sessions.shutdown())
    for _ in range(5):  # until it waits in the store's own shutdown
        await asyncio.sleep(0)
    arriving = asyncio.create_task(sessions.initialize())
    await asyncio.sleep(0)
    store.closing.set()
    await asyncio.gather(leaving, arriving)
    assert (store.opened, store.closed) == (2, 1)
    assert await sessions.create_session("ann")
    await sessions.shutdown()


async def test_nothing_runs_on_after_the_last_shutdown(sessions: SessionManager) -> None:
    before = asyncio.all_tasks()
    async with sessions:
        await sessions.create_session("ann")
        assert len(asyncio.all_tasks() - before) == 1  # it sweeps
    assert asyncio.all_tasks() == before


async def test_no_sweeper_runs_with_an_interval_of_zero(store: Counting) -> None:
    before = asyncio.all_tasks()
    async with SessionManager(store, settings=SessionSettings(cleanup_interval=0)):
        assert asyncio.all_tasks() == before


# ── where it may be used ─────────────────────────────────────────────────────────────────────────


def test_a_manager_of_another_event_loop_is_refused(
    store: Counting, sessions: SessionManager
) -> None:
    with asyncio.Runner() as home, asyncio.Runner() as other:
        home.run(sessions.initialize())
        for attempt in (sessions.initialize, sessions.get_statistics, sessions.shutdown):
            with pytest.raises(WrongContextError, match="another event loop"):
                other.run(attempt())
        assert home.run(sessions.get_statistics())["sessions"] == 0
        assert store.closed == 0
        home.run(sessions.shutdown())
        assert store.closed == 1


def test_a_manager_that_was_shut_down_may_go_on_in_another_event_loop(
    store: Counting, sessions: SessionManager
) -> None:
    async def many() -> int:
        async with sessions:
            await asyncio.gather(*(sessions.create_session("ann") for _ in range(5)))
            return len(await sessions.list_user_sessions("ann"))

    assert [asyncio.run(many()), asyncio.run(many())] == [5, 10]
    assert (store.opened, store.closed) == (2, 2)


def test_a_manager_of_another_process_is_refused() -> None:
    program = """
import asyncio, os
from agent_cores.session import SessionManager
from agent_cores.session.errors import WrongContextError

def refused(runner):
    try:
        runner.run(sessions.create_session("ann"))
    except WrongContextError as error:
        return "after a fork" in str(error)

with asyncio.Runner() as runner:
    sessions = SessionManager("memory://")
    runner.run(sessions.initialize())
    child = os.fork()
    if child == 0:
        os._exit(7 if refused(runner) and refused(asyncio.Runner()) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    runner.run(sessions.shutdown())
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("7\n", "")
