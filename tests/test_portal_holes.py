"""Callers of a portal that are cancelled, interrupted or gone at the worst moment."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest

from agent_cores.session.mailbox import Mailbox, own_mailbox
from agent_cores.session.portal import Portal, thread
from tests.test_portal import Nothing, call, descriptors, hold_nothing, interrupt

SECONDS = 10


class Block:
    """A block that says when it is being left, and when it was."""

    def __init__(self) -> None:
        self.leaving, self.left = threading.Event(), threading.Event()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self.leaving.set()
            await asyncio.sleep(0.1)
            self.left.set()


@pytest.fixture
def portal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Portal]:
    """A portal that ends, whatever its callers did."""
    monkeypatch.setattr(thread, "WATCH_SECONDS", 0.01)
    portal = Portal(Nothing(), after_fork=lambda: None)
    portal.initialize()
    yield portal
    stopping = threading.Thread(target=portal.shutdown, daemon=True)
    stopping.start()
    stopping.join(SECONDS)
    patience_ends = time.monotonic() + SECONDS
    while not portal.is_over and time.monotonic() < patience_ends:
        time.sleep(0.01)  # the last block ends
    assert portal.is_over


@contextmanager
def busy(portal: Portal) -> Iterator[None]:
    """Keep the portal's loop from doing anything else."""
    blocked, released = threading.Event(), threading.Event()

    async def block_the_loop() -> None:
        blocked.set()
        released.wait(SECONDS)

    blocking = threading.Thread(target=portal.call, args=(block_the_loop,))
    blocking.start()
    assert blocked.wait(SECONDS)
    try:
        yield
    finally:
        released.set()
        blocking.join(SECONDS)


def begin_in_a_loop_that_closes(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Run ``work`` until it waits; return its task, which never ends."""

    async def begin() -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        await asyncio.sleep(0)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(begin())
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - on purpose
    return task


async def test_a_block_is_left_whose_holder_is_cancelled_before_leaving_begins(
    portal: Portal,
) -> None:
    block, inside, leave = Block(), asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with portal.hold_for_task(block.hold):
            inside.set()
            await leave.wait()

    holder = asyncio.create_task(hold())
    await inside.wait()
    with busy(portal):
        leave.set()
        await asyncio.sleep(0)
        holder.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await holder
    assert await asyncio.to_thread(block.left.wait, SECONDS)


def test_a_block_is_left_whose_holder_is_interrupted_before_leaving_begins(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Block()
    held = portal.hold(block.hold)
    held.__enter__()
    with monkeypatch.context() as interrupted:
        interrupted.setattr(thread, "BlockingCall", interrupt)
        with pytest.raises(KeyboardInterrupt):
            held.__exit__(None, None, None)
    assert block.left.wait(SECONDS)


def test_a_block_that_is_being_left_is_left_to_its_end_when_the_loop_of_its_holder_closes(
    portal: Portal,
) -> None:
    block = Block()

    async def hold() -> None:
        async with portal.hold_for_task(block.hold):
            pass

    async def begin() -> asyncio.Task[None]:
        task = asyncio.create_task(hold())
        await asyncio.to_thread(block.leaving.wait, SECONDS)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(begin())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - on purpose
    assert block.left.wait(SECONDS)


async def test_entering_a_block_has_ended_when_a_caller_that_was_cancelled_twice_goes_on(
    portal: Portal,
) -> None:
    entering, refused, ended = threading.Event(), threading.Event(), threading.Event()

    @asynccontextmanager
    async def stubborn() -> AsyncIterator[None]:
        entering.set()
        try:
            await asyncio.Event().wait()
            yield
        finally:
            refused.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.1)
                ended.set()

    holder = asyncio.ensure_future(portal.hold_for_task(stubborn).__aenter__())
    assert await asyncio.to_thread(entering.wait, SECONDS)
    holder.cancel()
    assert await asyncio.to_thread(refused.wait, SECONDS)
    holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
    assert ended.is_set()


def test_a_call_never_runs_whose_loop_was_closed_before_it_began(portal: Portal) -> None:
    ran = list[int]()

    async def run() -> None:
        ran.append(1)
        await asyncio.Event().wait()

    with busy(portal):
        task = begin_in_a_loop_that_closes(call(portal, run))
    portal.call(Nothing().initialize)
    assert not ran
    assert not task.done()


def test_a_block_whose_loop_was_closed_before_it_was_entered_does_not_keep_the_thread(
    portal: Portal,
) -> None:
    with busy(portal):
        task = begin_in_a_loop_that_closes(portal.hold_for_task(hold_nothing).__aenter__())
    portal.call(Nothing().initialize)
    portal.shutdown()
    assert portal.is_over
    assert not task.done()


@pytest.mark.parametrize(("where", "name"), [(thread, "AwaitedCall"), (Mailbox, "ring")])
async def test_a_task_interrupted_before_its_call_begins_does_not_keep_the_thread(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, where: object, name: str
) -> None:
    with monkeypatch.context() as interrupted:
        interrupted.setattr(where, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            portal.await_call(Nothing().initialize)
    await call(portal, Nothing().initialize)


def test_two_loops_that_alternate_in_a_thread_keep_one_descriptor_each(portal: Portal) -> None:
    loops = asyncio.new_event_loop(), asyncio.new_event_loop()

    def call_from_both() -> None:
        for loop in loops:
            loop.run_until_complete(call(portal, Nothing().initialize))

    call_from_both()
    before = descriptors()
    for _ in range(20):
        call_from_both()
    assert descriptors() <= before
    for loop in loops:
        loop.close()


def test_a_loop_that_threads_take_turns_to_run_keeps_one_descriptor(portal: Portal) -> None:
    loop = asyncio.new_event_loop()

    def call_in_a_thread() -> None:
        work = partial(call, portal, Nothing().initialize)
        run: Callable[[], None] = lambda: loop.run_until_complete(work())  # noqa: E731
        running = threading.Thread(target=run)
        running.start()
        running.join(SECONDS)

    call_in_a_thread()
    before = descriptors()
    for _ in range(20):
        call_in_a_thread()
    assert descriptors() <= before
    loop.close()


async def test_a_wake_up_that_somebody_else_has_read_delivers_nevertheless() -> None:
    mailbox, delivered = own_mailbox(), asyncio.Event()
    loop: Any = asyncio.get_running_loop()
    mailbox.post(delivered.set)
    loop._process_events(loop._selector.select(0))  # noqa: SLF001 - as nest_asyncio may
    if mailbox._descriptor is not None:  # noqa: SLF001
        os.eventfd_read(mailbox._descriptor)  # noqa: SLF001
    async with asyncio.timeout(SECONDS):
        await delivered.wait()


def test_a_loop_interrupted_while_it_is_woken_can_be_woken_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, read = asyncio.new_event_loop(), os.eventfd_read
    first, second = list[int](), asyncio.Event()

    async def post_and_wait() -> None:
        own_mailbox().post(lambda: first.append(1))
        await asyncio.Event().wait()

    async def post_again() -> None:
        own_mailbox().post(second.set)
        await second.wait()

    def read_and_interrupt(descriptor: int) -> None:
        read(descriptor)
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(os, "eventfd_read", read_and_interrupt)
        waiting = loop.create_task(post_and_wait())
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    loop.run_until_complete(asyncio.wait_for(post_again(), SECONDS))
    assert first == [1]
    waiting.cancel()
    loop.run_until_complete(asyncio.wait([waiting]))
    loop.close()
