"""How calls from other event loops reach a portal's thread, and how their results return."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from agent_cores.session.mailbox import Mailbox, own_mailbox
from agent_cores.session.portal import Portal, thread
from agent_cores.session.portal.thread import PortalThread

T = TypeVar("T")


class Nothing:
    """A manager with nothing to start or stop."""

    async def initialize(self) -> None: ...

    async def shutdown(self) -> None: ...


async def call(portal: Portal, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function in the portal's loop."""
    return await portal.await_call(function)


@asynccontextmanager
async def hold_nothing() -> AsyncIterator[None]:
    yield


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    portal = Portal(Nothing(), after_fork=lambda: None)
    await portal.await_initialize()
    yield portal
    async with asyncio.timeout(10):
        await portal.await_shutdown()


async def test_results_of_one_iteration_wake_the_waiting_loop_once(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()  # of the portal's loop, where everything waits for it
    all_wait = threading.Event()
    running = 0

    async def wait() -> None:
        nonlocal running
        running += 1
        if running == len(calls):
            all_wait.set()
        await gate.wait()

    async def open_gate() -> None:
        asyncio.get_running_loop().call_soon(gate.set)

    calls = [asyncio.create_task(call(portal, wait)) for _ in range(100)]
    assert await asyncio.to_thread(all_wait.wait, 10)
    ring, rung = Mailbox.ring, list[Mailbox]()

    def counted(mailbox: Mailbox) -> None:
        rung.append(mailbox)
        ring(mailbox)
        mailbox._is_woken = False  # noqa: SLF001 - as if it had answered at once

    monkeypatch.setattr(Mailbox, "ring", counted)
    await asyncio.gather(call(portal, open_gate), *calls)
    assert 1 <= rung.count(own_mailbox()) <= 2  # for what opened the gate, and for the hundred


async def test_a_call_cancelled_before_its_first_step_never_runs(portal: Portal) -> None:
    blocked, released, ran = threading.Event(), threading.Event(), []

    async def block_the_loop() -> None:
        blocked.set()
        released.wait(10)

    async def run() -> None:
        ran.append(1)

    blocking = asyncio.create_task(call(portal, block_the_loop))
    assert await asyncio.to_thread(blocked.wait, 10)
    cancelled = asyncio.create_task(call(portal, run))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    released.set()
    await blocking
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert not ran


async def test_managers_that_do_not_start_leave_no_thread() -> None:
    class Broken(Nothing):
        async def initialize(self) -> None:
            raise ConnectionError

    before = threading.active_count()
    for _ in range(20):
        with pytest.raises(ConnectionError):
            await Portal(Broken(), after_fork=lambda: None).await_initialize()
    assert threading.active_count() == before


def test_a_thread_that_cannot_make_its_loop_says_so_and_the_next_call_starts_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    portal = Portal(Nothing(), after_fork=lambda: None)

    def none_left() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as full:
        full.setattr(asyncio, "new_event_loop", none_left)
        full.setattr(asyncio.events, "new_event_loop", none_left)
        with pytest.raises(OSError, match="Too many open files"):
            portal.initialize()
    portal.initialize()
    portal.shutdown()
    assert portal.is_over


async def test_an_interrupt_while_a_loop_is_woken_loses_no_callback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delivered = list[int]()
    mailbox = own_mailbox()
    with monkeypatch.context() as interrupted:
        interrupted.setattr(mailbox, "ring", interrupt)
        with pytest.raises(KeyboardInterrupt):
            mailbox.post(lambda: delivered.append(1))
    both = asyncio.Event()
    mailbox.post(both.set)
    async with asyncio.timeout(10):
        await both.wait()
    assert delivered == [1]


@pytest.mark.parametrize(
    ("where", "name"),
    [(PortalThread, "wait_until_made"), (thread, "BlockingCall")],
)
def test_a_caller_interrupted_before_its_call_begins_does_not_keep_the_thread_from_ending(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str
) -> None:
    portal = Portal(Nothing(), after_fork=lambda: None)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(where, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            portal.initialize()
    portal.initialize()
    stopping = threading.Thread(target=portal.shutdown, daemon=True)
    stopping.start()
    stopping.join(10)
    assert portal.is_over


def test_a_call_whose_loop_is_closed_is_cancelled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "WATCH_SECONDS", 0.01)
    portal = Portal(Nothing(), after_fork=lambda: None)
    portal.initialize()
    started, ended = threading.Event(), []

    async def wait() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)
            ended.append(1)

    loop = asyncio.new_event_loop()
    waiting = loop.create_task(call(portal, wait))
    assert loop.run_until_complete(loop.run_in_executor(None, started.wait, 10))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    portal.shutdown()
    assert ended == [1]
    assert not waiting.done()


async def test_a_callback_that_fails_does_not_keep_the_rest_from_being_called() -> None:
    mailbox, both = own_mailbox(), asyncio.Event()
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))

    def fail() -> None:
        raise LookupError

    mailbox.post(fail)
    mailbox.post(both.set)
    async with asyncio.timeout(10):
        await both.wait()
    assert isinstance(errors[0]["exception"], LookupError)


@pytest.mark.parametrize("kind", ["descriptor", "call"])
async def test_a_loop_that_runs_in_a_continued_caller_gets_the_results_of_the_rest(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As ``nest_asyncio`` makes it run, in notebooks."""
    if kind == "call":
        monkeypatch.delattr(os, "eventfd", raising=False)
    loop, both, late = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    mailbox, seen = Mailbox(loop), list[bool]()

    def run_loop() -> None:
        mailbox.post(late.set)
        asyncio._set_running_loop(None)  # noqa: SLF001 - see above
        loop._run_once()  # type: ignore[attr-defined]  # noqa: SLF001
        asyncio._set_running_loop(loop)  # noqa: SLF001
        seen.extend([both.is_set(), late.is_set()])

    mailbox.post(run_loop)
    mailbox.post(both.set)
    async with asyncio.timeout(10):
        await both.wait()
    assert seen == [True, True]


def descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_loops_and_threads_that_have_ended_leave_no_descriptor_open() -> None:
    portal = Portal(Nothing(), after_fork=lambda: None)
    asyncio.run(call(portal, Nothing().initialize))
    before = descriptors()
    for _ in range(20):
        asyncio.run(call(portal, Nothing().initialize))
    assert descriptors() <= before
    portal.initialize()
    portal.shutdown()
    assert descriptors() < before


@pytest.mark.parametrize("missing", ["eventfd", "room"])
def test_loops_that_get_no_descriptor_of_their_own_are_woken_nevertheless(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    started = Portal(Nothing(), after_fork=lambda: None)

    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    async def add(number: int) -> int:
        return number + 1

    async def calls() -> list[int]:
        return await asyncio.gather(*(call(started, partial(add, one)) for one in range(20)))

    if missing == "room":
        monkeypatch.setattr(os, "eventfd", none_left, raising=False)
    else:
        monkeypatch.delattr(os, "eventfd", raising=False)
    started.initialize()
    assert asyncio.run(calls()) == list(range(1, 21))
    started.shutdown()


def test_uvloop_calls_and_is_continued() -> None:
    started = Portal(Nothing(), after_fork=lambda: None)

    async def add(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    async def calls() -> list[int]:
        return await asyncio.gather(*(call(started, partial(add, one)) for one in range(20)))

    started.initialize()
    for _ in range(3):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(calls()) == list(range(1, 21))
    started.shutdown()


def test_a_coroutine_that_no_event_loop_runs_is_refused_and_does_not_keep_the_thread() -> None:
    portal = Portal(Nothing(), after_fork=lambda: None)
    portal.initialize()
    for work in (
        call(portal, Nothing().initialize),
        portal.await_initialize(),
        portal.hold_for_task(hold_nothing).__aenter__(),
    ):
        with pytest.raises(RuntimeError, match="no running event loop"):
            work.send(None)
    stopping = threading.Thread(target=portal.shutdown, daemon=True)
    stopping.start()
    stopping.join(10)
    assert portal.is_over


async def test_a_cancelled_caller_gets_its_message_and_may_be_cancelled_again(
    portal: Portal,
) -> None:
    running, refused = threading.Event(), threading.Event()

    async def work() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            refused.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call(portal, work))
    assert await asyncio.to_thread(running.wait, 10)
    task.cancel("shut down")
    assert await asyncio.to_thread(refused.wait, 10)
    assert not task.done()
    task.cancel("now")
    with pytest.raises(asyncio.CancelledError, match="now"):
        await task


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
