"""Run a coroutine in the event loop of another thread, and wait for its outcome.

``AwaitedCall`` waits in an event loop, ``BlockingCall`` in a thread that has none. Neither knows
what runs, or where the other loop comes from: see :mod:`agent_cores.session.portal.portal`.
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

    One wake-up serves all callbacks that wait: each wake-up is a system call that releases the GIL.
    """

    def __init__(self) -> None:
        self._callbacks: deque[Callable[[], None]] = deque()
        self._woken = False

    def post(self, loop: Loop, callback: Callable[[], None]) -> None:
        """Have the loop call it soon; ``RuntimeError`` if the loop is closed."""
        self._callbacks.append(callback)
        if not self._woken:
            self._woken = True
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # In this order: what is posted after the flag fell wakes the loop again.
        self._woken = False
        for _ in range(len(self._callbacks)):
            self._callbacks.popleft()()


_mailboxes: WeakKeyDictionary[Loop, Mailbox] = WeakKeyDictionary()
"""By which the outcomes of calls get back to the loops that wait for them."""


def _own_mailbox(loop: Loop) -> Mailbox:
    """Return the mailbox of the running loop; only its own thread asks, so no lock is needed."""
    mailbox = _mailboxes.get(loop)
    if mailbox is None:
        mailbox = _mailboxes[loop] = Mailbox()
    return mailbox


class Call(Generic[T]):
    """One coroutine that runs in the loop of another thread, in the context of its caller.

    ``begin`` and ``cancel`` are called in that loop; ``ended`` is called there when it is over.
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
        """Cancel the task, which may be over by now."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            self._value = await self._function()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
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
        self.caller = self._loop = asyncio.get_running_loop()
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

        A caller that is cancelled cancels the coroutine and waits until that is over, so that
        nothing goes on in its name after it was told; cancelling it again does the same again.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self._over:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = error
                self._post(self.cancel)
            except GeneratorExit:  # the caller is thrown away, and may not wait any more
                self._post(self.cancel)
                raise
        if cancelled is not None:
            raise cancelled
        return self._outcome()
