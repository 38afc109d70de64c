"""Managers made with ``any_loop=True``: called from many loops and threads, cancelled, ended."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent_cores.session import (
    SessionEvent,
    SessionManager,
    SyncSessionManager,
    get_session_manager,
)
from agent_cores.session.errors import (
    ConfigurationError,
    SessionNotFoundError,
    StorageUnavailableError,
    TurnHeldError,
    WrongContextError,
)
from agent_cores.session.portal import thread
from agent_cores.session.storage.memory.provider import MemoryProvider

T = TypeVar("T")
STORES = ("memory://", "sqlite:///{folder}/sessions.db")


@pytest.fixture
def manager() -> Iterator[SessionManager]:
    made = SessionManager("memory://", any_loop=True)
    yield made
    asyncio.run(made.shutdown())


def own_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "agent-sessions"]


# ── from anywhere ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("store", STORES)
def test_eight_loops_in_eight_threads_append_to_one_session(tmp_path: Path, store: str) -> None:
    manager = SessionManager(store.format(folder=tmp_path), any_loop=True)

    async def append(caller: str) -> list[int]:
        return [
            (await manager.add_message("talk", "ann", "user", f"{caller} {number}")).seq
            for number in range(10)
        ]

    async def eight_callers(loop: int) -> list[list[int]]:
        return await asyncio.gather(*(append(f"{loop}.{caller}") for caller in range(8)))

    async def contents() -> list[object]:
        page = await manager.get_session_messages("talk", "ann", 1000)
        return [message.content for message in page]

    asyncio.run(manager.create_session("ann", session_id="talk"))
    with ThreadPoolExecutor(8) as pool:
        runs = pool.map(lambda loop: asyncio.run(eight_callers(loop)), range(8))
        seqs = [seqs for run in runs for seqs in run]
    assert all(numbers == sorted(numbers) for numbers in seqs)
    assert sorted(seq for numbers in seqs for seq in numbers) == list(range(1, 641))
    said = asyncio.run(contents())
    for caller in (f"{loop}.{number}" for loop in range(8) for number in range(8)):
        own = [content for content in said if str(content).split()[0] == caller]
        assert own == [f"{caller} {number}" for number in range(10)]
    asyncio.run(manager.shutdown())
    assert own_threads() == []


def test_one_manager_serves_one_loop_after_another(manager: SessionManager) -> None:
    asyncio.run(manager.create_session("ann", session_id="talk"))
    seqs = [asyncio.run(manager.add_message("talk", "ann", "user", "x")).seq for _ in range(3)]
    assert seqs == [1, 2, 3]


def test_blocking_verbs_share_the_store_of_a_manager(manager: SessionManager) -> None:
    blocking = SyncSessionManager.of(manager)
    blocking.create_session("ann", session_id="talk")
    assert asyncio.run(manager.get_session("talk", "ann")).id == "talk"
    assert blocking.lifecycle is manager.lifecycle
    assert len(own_threads()) == 1


def test_a_manager_of_one_loop_has_no_blocking_verbs() -> None:
    with pytest.raises(ConfigurationError, match="any_loop=True"):
        SyncSessionManager.of(SessionManager("memory://"))


async def test_blocking_verbs_work_inside_a_running_loop(manager: SessionManager) -> None:
    blocking = SyncSessionManager.of(manager)
    session_id = blocking.create_session("ann")
    with blocking.turn(session_id, "ann") as turn:
        message = await manager.add_message(session_id, "ann", "user", "x", turn=turn.token)
    assert message.seq == 1


async def test_a_view_and_a_turn_work_from_another_loop(manager: SessionManager) -> None:
    view = manager.for_namespace("acme", groups_of=lambda _: ["staff"])
    session_id = await view.create_session("ann")
    await view.share_session(session_id, "ann", "group:staff", role="editor")
    async with view.turn(session_id, "bob") as turn:
        await view.add_message(session_id, "bob", "user", "x", turn=turn.token)
        with pytest.raises(TurnHeldError):
            await view.take_turn(session_id, "ann")
    assert (await view.take_turn(session_id, "ann")).token
    with pytest.raises(SessionNotFoundError):
        await manager.get_session(session_id, "ann")
    assert isinstance(view, SessionManager)


def test_the_process_wide_manager_is_shared_by_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    async def count() -> int:
        manager = get_session_manager("memory://", any_loop=True)
        await manager.create_session("ann")
        return int((await manager.get_statistics())["sessions"])

    before = get_session_manager("memory://", any_loop=True)
    assert [asyncio.run(count()) for _ in range(3)] == [1, 2, 3]
    asyncio.run(before.shutdown())
    assert get_session_manager("memory://", any_loop=True) is not before
    assert get_session_manager("memory://") is not before


# ── hooks, contexts, errors ──────────────────────────────────────────────────────────────────────


async def test_a_hook_calls_verbs_in_the_managers_own_loop(manager: SessionManager) -> None:
    async def answer(event: SessionEvent) -> None:
        async with manager.turn(event.session_id, "ann") as turn:
            await manager.add_message(event.session_id, "ann", "user", "hi", turn=turn.token)
        loops.append(asyncio.get_running_loop())

    loops: list[asyncio.AbstractEventLoop] = []
    manager.lifecycle.on("session.created", answer)
    session_id = await manager.create_session("ann")
    assert (await manager.get_session(session_id, "ann")).metadata.message_count == 1
    assert loops != [asyncio.get_running_loop()]


async def test_a_hook_that_blocks_its_own_loop_is_refused(manager: SessionManager) -> None:
    async def answer(event: SessionEvent) -> None:
        with pytest.raises(WrongContextError, match="may not block") as caught:
            SyncSessionManager.of(manager).get_session(event.session_id, "ann")
        refused.append(caught.value)

    refused: list[WrongContextError] = []
    manager.lifecycle.on("session.created", answer)
    await manager.create_session("ann")
    assert len(refused) == 1


async def test_a_hook_may_shut_its_manager_down() -> None:
    manager = SessionManager("memory://", any_loop=True)

    async def stop(_event: SessionEvent) -> None:
        await manager.shutdown()

    await manager.initialize()
    manager.lifecycle.on("session.created", stop)
    await manager.create_session("ann")
    await manager.shutdown()
    assert own_threads() == []


async def test_context_variables_of_the_caller_reach_hooks_and_groups_of() -> None:
    trace: ContextVar[str] = ContextVar("trace", default="none")
    seen: list[str] = []

    def groups_of(_user_id: str) -> list[str]:
        seen.append(trace.get())
        return []

    manager = SessionManager("memory://", any_loop=True, groups_of=groups_of)
    manager.lifecycle.on("session.created", lambda _event: seen.append(trace.get()))

    async def call(number: int) -> None:
        trace.set(f"request {number}")
        session_id = await manager.create_session(f"user{number}")
        await manager.share_session(session_id, f"user{number}", "group:staff")
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(session_id, "stranger")

    await asyncio.gather(*(call(number) for number in range(5)))
    assert sorted(seen) == sorted(2 * [f"request {number}" for number in range(5)])
    assert trace.get() == "none"
    await manager.shutdown()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (LookupError("no such user"), LookupError),
        (StopIteration(1), RuntimeError),
        (StopAsyncIteration(), StopAsyncIteration),
        (SystemExit(3), SystemExit),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_an_error_comes_back_with_its_traceback_and_ends_nothing_else(
    raised: BaseException, expected: type[BaseException]
) -> None:
    def groups_of(_user_id: str) -> list[str]:
        raise raised

    manager = SessionManager("memory://", any_loop=True, groups_of=groups_of)

    async def call() -> str:
        session_id = await manager.create_session("ann")
        await manager.share_session(session_id, "ann", "group:staff")
        try:
            await manager.get_session(session_id, "stranger")
        except expected as error:
            return "".join(traceback.format_exception(error))
        pytest.fail("nothing was raised")

    lines = asyncio.run(call())
    assert "in groups_of" in lines
    assert "in call" in lines
    assert asyncio.run(manager.get_statistics())["sessions"] == 1
    asyncio.run(manager.shutdown())


# ── cancellation ─────────────────────────────────────────────────────────────────────────────────


class Stuck:
    """A hook that waits until it is cancelled, ``stubborn`` times over, or is let go."""

    def __init__(self, stubborn: int = 0) -> None:
        self.entered = threading.Event()
        self.refused = threading.Event()
        self.ended = threading.Event()
        self.cancellations = 0
        self._stubborn = stubborn

    async def __call__(self, _event: SessionEvent) -> None:
        self.entered.set()
        try:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cancellations += 1
                    self.refused.set()
                    if self.cancellations > self._stubborn:
                        raise
        finally:
            self.ended.set()


async def entered(stuck: Stuck) -> None:
    assert await asyncio.to_thread(stuck.entered.wait, 30)


async def test_a_cancelled_caller_returns_once_its_verb_is_over(manager: SessionManager) -> None:
    stuck = Stuck()
    manager.lifecycle.on("session.created", stuck)
    call = asyncio.create_task(manager.create_session("ann", session_id="talk"))
    await entered(stuck)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert stuck.ended.is_set()
    assert (await manager.get_session("talk", "ann")).id == "talk"  # written before the hook ran


async def test_a_caller_that_is_cancelled_again_cancels_its_verb_again(
    manager: SessionManager,
) -> None:
    stuck = Stuck(stubborn=1)
    manager.lifecycle.on("session.created", stuck)
    call = asyncio.create_task(manager.create_session("ann"))
    await entered(stuck)
    call.cancel()
    assert await asyncio.to_thread(stuck.refused.wait, 30)
    assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert stuck.ended.is_set()


async def test_a_caller_cancelled_at_any_moment_leaves_all_or_nothing(
    manager: SessionManager,
) -> None:
    await manager.create_session("ann", session_id="talk")
    answered = 0
    for steps in range(60):
        call = asyncio.create_task(manager.add_message("talk", "ann", "user", str(steps)))
        await asyncio.sleep(steps / 60_000)
        call.cancel()
        answered += isinstance((await asyncio.gather(call, return_exceptions=True))[0], Exception)
        before = await manager.get_session_messages("talk", "ann", 1000)
        await asyncio.sleep(0.001)
        after = await manager.get_session_messages("talk", "ann", 1000)
        assert [one.seq for one in before] == [one.seq for one in after]  # nothing comes later
        assert [one.seq for one in after] == list(range(1, len(after) + 1))
    assert answered == 0


async def test_a_turn_cancelled_at_any_moment_is_given_back(manager: SessionManager) -> None:
    async def hold() -> None:
        async with manager.turn("talk", "ann", lease_seconds=300):
            await asyncio.sleep(10)

    await manager.create_session("ann", session_id="talk")
    for steps in range(40):
        holder = asyncio.create_task(hold())
        await asyncio.sleep(steps / 20_000)
        holder.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder
        async with manager.turn("talk", "ann", wait_seconds=20):
            pass


async def test_a_timeout_of_the_caller_ends_the_verb(manager: SessionManager) -> None:
    stuck = Stuck()
    manager.lifecycle.on("session.created", stuck)

    async def create() -> None:
        async with asyncio.timeout(None) as limit:
            call = asyncio.create_task(entered(stuck))
            call.add_done_callback(lambda _: limit.reschedule(0))
            await manager.create_session("ann")

    with pytest.raises(TimeoutError):
        await create()
    assert stuck.ended.is_set()


@pytest.fixture
def abandon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., asyncio.Task[Any]]]:
    """Run a coroutine up to an event in a loop that is closed then; return its task, pending."""
    monkeypatch.setattr(thread, "WATCH_SECONDS", 0.01)
    left: list[asyncio.Task[Any]] = []

    def begin(work: Coroutine[Any, Any, Any], reached: threading.Event) -> asyncio.Task[Any]:
        async def until_reached() -> asyncio.Task[Any]:
            task = asyncio.create_task(work)
            await asyncio.to_thread(reached.wait, 30)
            return task

        loop = asyncio.new_event_loop()
        task = loop.run_until_complete(until_reached())
        loop.close()
        left.append(task)
        return task

    yield begin
    for task in left:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - on purpose


def test_a_verb_whose_callers_loop_was_closed_is_ended(
    manager: SessionManager, abandon: Callable[..., asyncio.Task[Any]]
) -> None:
    stuck = Stuck()
    manager.lifecycle.on("session.created", stuck)
    task = abandon(manager.create_session("ann"), stuck.entered)
    assert stuck.ended.wait(30)
    assert not task.done()


def test_a_turn_whose_holders_loop_was_closed_is_given_back(
    manager: SessionManager, abandon: Callable[..., asyncio.Task[Any]]
) -> None:
    async def hold() -> None:
        async with manager.turn("talk", "ann", lease_seconds=300):
            held.set()
            await asyncio.Event().wait()

    async def take() -> None:
        async with manager.turn("talk", "ann", wait_seconds=20):
            pass

    held = threading.Event()
    asyncio.run(manager.create_session("ann", session_id="talk"))
    task = abandon(hold(), held)
    asyncio.run(take())
    del task


# ── starting and stopping ────────────────────────────────────────────────────────────────────────


async def test_the_last_of_many_shutdowns_ends_the_thread() -> None:
    manager = SessionManager("memory://", any_loop=True)
    async with manager:
        async with manager:
            await manager.create_session("ann")
        assert len(own_threads()) == 1
    assert own_threads() == []
    async with manager:  # a memory store keeps what it has
        assert (await manager.get_statistics())["sessions"] == 1


async def test_a_shutdown_within_a_turn_takes_effect_at_its_end() -> None:
    manager = SessionManager("memory://", any_loop=True)
    session_id = await manager.create_session("ann")
    async with manager.turn(session_id, "ann") as turn:
        await manager.shutdown()
        await manager.add_message(session_id, "ann", "user", "x", turn=turn.token)
    assert own_threads() == []


async def test_a_store_that_does_not_start_leaves_no_thread() -> None:
    class Broken(MemoryProvider):
        async def initialize(self) -> None:
            detail = "no answer"
            raise StorageUnavailableError(detail)

    with pytest.raises(StorageUnavailableError, match="no answer"):
        await SessionManager(Broken, any_loop=True).initialize()
    assert own_threads() == []


async def test_calls_while_another_thread_shuts_down_are_answered() -> None:
    manager = SessionManager("memory://", any_loop=True)
    await manager.create_session("ann", session_id="talk")
    blocking = SyncSessionManager.of(manager)
    stops = [asyncio.to_thread(blocking.shutdown) for _ in range(20)]
    calls = [manager.add_message("talk", "ann", "user", "x") for _ in range(50)]
    await asyncio.gather(*(one for pair in zip(stops, calls, strict=False) for one in pair))
    await asyncio.gather(*calls[len(stops) :])
    assert (await manager.get_session("talk", "ann")).metadata.message_count == 50
    await manager.shutdown()
    assert own_threads() == []
