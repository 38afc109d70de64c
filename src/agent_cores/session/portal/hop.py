"""Run a coroutine in the event loop of another thread, and wait for its result.

``AwaitedCall`` waits in an event loop, ``BlockingCall`` in a thread without one. Neither knows what
runs, or where the other loop comes from: see :mod:`agent_cores.session.portal.portal`.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from agent_cores.session.threads import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context

    from agent_cores.session.mailbox import Loop, Mailbox

T = TypeVar("T")

if sys.version_info >= (3, 12):  # at once, not in the loop's next iteration
    start_task = partial(asyncio.Task, eager_start=True)
else:
    start_task = asyncio.Task


class Host(Protocol):
    """Where calls run."""

    loop: Loop
    gone: bool
    """Whether no call may begin any more."""

    def post(self, callback: Callable[[], None]) -> None:
        """Have the loop call this soon. Called in any thread."""

    def begun(self, call: Call[Any]) -> None:
        """Record a call. Called in the loop."""

    def ended(self, call: Call[Any]) -> None:
        """Forget a call, and have its caller continued. Called in the loop."""


class Call(Generic[T]):
    """One coroutine that runs in its host's loop, in its caller's context.

    ``begin`` and ``stop`` are called in that loop, or in any thread once the loop has ended.
    """

    caller: Mailbox | None
    """The waiting event loop's; ``None`` if a thread waits."""
    has_begun: bool = False
    """Whether ``begin`` was called."""
    _task: asyncio.Task[None] | None = None
    _is_running: bool = False
    _is_unwanted: bool = False
    _value: T
    _error: BaseException | None = None

    def __init__(
        self,
        function: Callable[[], Coroutine[Any, Any, T]],
        host: Host,
        caller: Mailbox | None = None,
    ) -> None:
        self._function = function
        self._host = host
        self.caller = caller
        self._context = copy_context()

    def begin(self) -> None:
        """Start the coroutine in a task of its own, unless nobody wants it or the host is gone."""
        self.has_begun = True
        self._host.begun(self)
        if self._is_unwanted or self._host.gone:
            self._error = asyncio.CancelledError()
            self._host.ended(self)
            return
        self._task = start_task(self._run(), loop=self._host.loop, context=self._context)

    def stop(self) -> None:
        """Cancel the task, which may have ended already, or keep it from starting."""
        task = self._task
        if task is None:
            self._is_unwanted = True
            return
        if task.done():
            return
        task.cancel()
        if not self._is_running:  # before its first step, which it will not take
            self._is_running = True
            self._error = asyncio.CancelledError()
            self._host.ended(self)

    def resume(self) -> None:
        """Continue the caller, now that it is over. Called in the caller's loop, if it has one."""
        raise NotImplementedError

    async def _run(self) -> None:
        self._is_running = True
        try:
            self._value = await self._function()
        except BaseException as error:  # noqa: BLE001 - raised in the waiting caller
            self._error = error
        self._host.ended(self)

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

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]], host: Host) -> None:
        super().__init__(function, host)
        self._over: Future[None] = Future()

    def resume(self) -> None:
        """Wake the waiting thread."""
        self._over.set_result(None)

    def wait(self) -> None:
        """Wait until the coroutine is over."""
        wait_for(self._over)


class AwaitedCall(Call[T]):
    """A call that a task of another event loop awaits.

    A task that is cancelled has the coroutine cancelled and waits on for its end, so that nothing
    continues on its behalf afterwards. Cancelling the task again has the same effect.

    To its task this is a future (asyncio asks for the attribute, not the type). Unlike asyncio's
    own, it continues the task at once, not in the loop's next iteration, and it does not stop
    waiting when it is cancelled: `any-loop` measures both.
    """

    caller: Mailbox
    _asyncio_future_blocking: bool = False
    _is_over: bool = False
    _cancelled: asyncio.CancelledError | None = None
    _wake: Callable[[AwaitedCall[T]], object] | None = None
    _waiting_in: Context

    def __await__(self) -> Generator[AwaitedCall[T], None, T]:
        if not self._is_over:
            self._asyncio_future_blocking = True
            try:
                yield self
            except GeneratorExit:  # the task is being finalized
                self._host.post(self.stop)
                raise
        return self._value if self._error is None else self.outcome()

    def resume(self) -> None:
        """Continue the waiting task."""
        self._is_over = True
        if self._wake is not None:
            self._waiting_in.run(self._wake, self)

    # ── what a task asks of a future ─────────────────────────────────────────────────────────────

    def get_loop(self) -> Loop:
        """Return the waiting loop."""
        return self.caller.loop

    def add_done_callback(
        self, wake: Callable[[AwaitedCall[T]], object], *, context: Context
    ) -> None:
        """Wait for the end."""
        self._wake, self._waiting_in = wake, context

    def cancel(self, msg: object = None) -> bool:
        """Cancel the coroutine, whose end the task still waits for."""
        self._is_unwanted = True
        self._cancelled = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._host.post(self.stop)
        return True

    def result(self) -> None:
        """Raise ``CancelledError`` if the task was cancelled; ``outcome`` has the rest."""
        cancelled, self._cancelled = self._cancelled, None
        if cancelled is not None:
            raise cancelled
