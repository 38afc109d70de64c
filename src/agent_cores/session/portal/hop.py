"""Run a coroutine in the event loop of another thread, and wait for its result.

``AwaitedCall`` waits in an event loop, ``BlockingCall`` in a thread without one. Neither knows what
runs, or where the other loop comes from: see :mod:`agent_cores.session.portal.portal`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agent_cores.session.threads import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
Loop = asyncio.AbstractEventLoop


class Mailbox:
    """Passes callbacks between event loops: those for one loop, and those that it sends to others.

    A wake-up is a system call that hands the GIL to the loop that it wakes. One serves all queued
    callbacks, and what a loop sends in one of its iterations wakes another loop once.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._callbacks: deque[Callable[[], None]] = deque()
        self._is_woken = False
        self._to_wake: set[Mailbox] = set()

    def post(self, callback: Callable[[], None]) -> None:
        """Have the loop call this soon; no effect once it is closed. Called in any thread."""
        self._callbacks.append(callback)
        self.wake()

    def send(self, callback: Callable[[], None], to: Mailbox) -> None:
        """Have another loop call this, after this loop's iteration. Called in this loop."""
        to._callbacks.append(callback)
        if not self._to_wake:
            self.loop.call_soon(self.flush)
        self._to_wake.add(to)

    def flush(self) -> None:
        """Wake the loops that something was sent to."""
        mailboxes, self._to_wake = self._to_wake, set()
        for mailbox in mailboxes:
            mailbox.wake()

    def wake(self) -> None:
        """Have the loop call what is queued; no effect once it is closed."""
        if not self._is_woken:
            self._is_woken = True
            try:
                self.loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # it is closed
                pass
            except BaseException:  # interrupted: the next callback wakes it
                self._is_woken = False
                raise

    def _deliver(self) -> None:
        # This order matters: a callback posted after the flag is cleared wakes the loop again.
        self._is_woken = False
        for _ in range(len(self._callbacks)):
            self._callbacks.popleft()()


_own = threading.local()
"""``mailbox``: that of the event loop that this thread ran last."""


def own_mailbox() -> Mailbox:
    """Return the running loop's mailbox."""
    loop = asyncio.get_running_loop()
    mailbox: Mailbox | None = getattr(_own, "mailbox", None)
    if mailbox is None or mailbox.loop is not loop:
        mailbox = _own.mailbox = Mailbox(loop)
    return mailbox


class Call(Generic[T]):
    """One coroutine that runs in another thread's loop, in its caller's context.

    ``begin`` and ``cancel`` are called in that loop, and so is ``ended`` when it is over.
    """

    caller: Mailbox | None
    """The waiting event loop's; ``None`` if a thread waits."""
    _task: asyncio.Task[None] | None = None
    _is_running: bool = False
    _value: T
    _error: BaseException | None = None

    def __init__(
        self,
        function: Callable[[], Coroutine[Any, Any, T]],
        ended: Callable[[Call[Any]], None],
        caller: Mailbox | None = None,
    ) -> None:
        self._function = function
        self._ended = ended
        self.caller = caller
        self._context = copy_context()

    @property
    def has_begun(self) -> bool:
        """Whether it was started."""
        return self._task is not None

    def begin(self) -> None:
        """Start the coroutine in a task of its own."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), context=self._context)

    def cancel(self) -> None:
        """Cancel the task, which may have ended already."""
        task = self._task
        if task is None or task.done():
            return
        task.cancel()
        if not self._is_running:  # before its first step, which it will not take
            self._is_running = True
            self._error = asyncio.CancelledError()
            self._ended(self)

    def resume(self) -> None:
        """Continue the caller, now that it is over. Called in the caller's loop, if it has one."""
        raise NotImplementedError

    async def _run(self) -> None:
        self._is_running = True
        try:
            self._value = await self._function()
        except BaseException as error:  # noqa: BLE001 - raised in the waiting caller
            self._error = error
        self._ended(self)

    def outcome(self) -> T:
        """Return or raise what the coroutine did."""
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # it refers to this frame


class BlockingCall(Call[T]):
    """A call whose caller blocks its thread until it is over."""

    def __init__(
        self,
        function: Callable[[], Coroutine[Any, Any, T]],
        ended: Callable[[Call[Any]], None],
    ) -> None:
        super().__init__(function, ended)
        self._over: Future[None] = Future()

    def resume(self) -> None:
        """Wake the waiting thread."""
        self._over.set_result(None)

    def wait(self) -> None:
        """Wait until the coroutine is over."""
        wait_for(self._over)


class AwaitedCall(Call[T]):
    """A call that a task of another event loop awaits."""

    caller: Mailbox
    is_over: bool = False
    _waiter: asyncio.Future[None] | None = None

    def next_wait(self) -> asyncio.Future[None]:
        """Return a future that is done when the coroutine is over. Called in the caller's loop."""
        self._waiter = self.caller.loop.create_future()
        return self._waiter

    def resume(self) -> None:
        """Wake the waiting task."""
        self.is_over = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
