"""Run a coroutine in the event loop of another thread, and wait for its result.

``AwaitedCall`` waits in an event loop, ``BlockingCall`` in a thread without one. Neither knows what
runs, or where the other loop comes from: see :mod:`agent_cores.session.portal.portal`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from agent_cores.session.threads import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
Loop = asyncio.AbstractEventLoop


class Mailbox:
    """Passes callbacks from any thread to one event loop, which calls them in order.

    One wake-up serves all queued callbacks, since each is a system call that releases the GIL.
    """

    def __init__(self) -> None:
        self._callbacks: deque[Callable[[], None]] = deque()
        self._woken = False

    def post(self, loop: Loop, callback: Callable[[], None]) -> None:
        """Schedule a callback in the loop; ``RuntimeError`` if the loop is closed."""
        self._callbacks.append(callback)
        if not self._woken:
            self._woken = True
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # This order matters: a callback posted after the flag is cleared wakes the loop again.
        self._woken = False
        for _ in range(len(self._callbacks)):
            self._callbacks.popleft()()


_mailboxes: WeakKeyDictionary[Loop, Mailbox] = WeakKeyDictionary()
"""Mailboxes that return results to the loops that wait for them."""


def _own_mailbox(loop: Loop) -> Mailbox:
    """Return the running loop's mailbox; only the loop's own thread asks, so no lock is needed."""
    mailbox = _mailboxes.get(loop)
    if mailbox is None:
        mailbox = _mailboxes[loop] = Mailbox()
    return mailbox


class Call(Generic[T]):
    """One coroutine that runs in another thread's loop, in its caller's context.

    ``begin`` and ``cancel`` are called in that loop, and so is ``ended`` when it is over.
    """

    caller: Loop | None = None
    """The event loop that waits; ``None`` if a thread does."""

    def __init__(
        self,
        function: Callable[[], Coroutine[Any, Any, T]],
        post: Callable[[Callable[[], None]], None],
        ended: Callable[[Call[Any]], None],
    ) -> None:
        self._function = function
        self._post = post
        self._ended = ended
        self._context = copy_context()
        self._task: asyncio.Task[None] | None = None
        self._value: T
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Start the coroutine in a task of its own."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), context=self._context)
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        """Cancel the task, which may have ended already."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            self._value = await self._function()
        except BaseException as error:  # noqa: BLE001 - raised in the waiting caller
            self._error = error

    def _end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first step
            self._error = asyncio.CancelledError()
        self._ended(self)
        self._notify()

    def _notify(self) -> None:
        raise NotImplementedError

    def _outcome(self) -> T:
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # it refers to this frame


class BlockingCall(Call[T]):
    """A call whose caller blocks its thread until it is over."""

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - those of Call
        super().__init__(*arguments)
        self._over: Future[None] = Future()

    def _notify(self) -> None:
        self._over.set_result(None)

    def wait(self) -> T:
        """Return or raise what the coroutine does. An interrupted wait cancels it."""
        try:
            wait_for(self._over)
        except BaseException:
            self._post(self.cancel)
            raise
        return self._outcome()


class AwaitedCall(Call[T]):
    """A call that a task of another event loop awaits."""

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - those of Call
        super().__init__(*arguments)
        self._loop = asyncio.get_running_loop()
        self.caller: Loop | None = self._loop
        self._mailbox = _own_mailbox(self._loop)
        self._over = False
        self._waiter: asyncio.Future[None] | None = None

    def _notify(self) -> None:
        with suppress(RuntimeError):  # a closed loop: nobody waits there any more
            self._mailbox.post(self._loop, self._resume)

    def _resume(self) -> None:
        self._over = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> T:
        """Return or raise what the coroutine does.

        A caller that is cancelled cancels the coroutine and waits for its end, so that nothing
        continues on its behalf afterwards. Cancelling the caller again has the same effect.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self._over:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = error
                self._post(self.cancel)
            except GeneratorExit:  # the caller is being finalized and may not await
                self._post(self.cancel)
                raise
        if cancelled is not None:
            raise cancelled
        return self._outcome()
