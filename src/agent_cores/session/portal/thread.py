"""``PortalThread``: one run of a portal's thread, from the start of its event loop to its end."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agent_cores.session.mailbox import own_mailbox
from agent_cores.session.portal.hop import AwaitedCall, BlockingCall, Call
from agent_cores.session.process import keep_in_children, original, process_id
from agent_cores.session.threads import start_thread, wait_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from agent_cores.session.mailbox import Loop, Mailbox

T = TypeVar("T")

get_ident: Callable[[], int] = original("_thread", "get_ident")

WATCH_SECONDS = 1.0
"""How often to check for callers whose event loop closed before their call ended."""


class Manager(Protocol):
    """What a portal needs from its manager."""

    async def initialize(self) -> None:
        """Start, or count one more user."""

    async def shutdown(self) -> None:
        """Count one user less; the last one stops."""


class Waiting(Protocol):
    """Work in the thread on behalf of a caller: a call, or a block that is held."""

    caller: Mailbox | None
    """The waiting event loop's; ``None`` if a thread waits."""

    def stop(self) -> None:
        """Cancel it, since nobody waits for it any more."""


class PortalThread:
    """A thread with an event loop, and the work in it.

    ``entered``, ``blocks``, ``stopping`` and ``gone`` are guarded by ``lock``, which is held only
    briefly. The thread ends once ``stopping`` is set and no call is in flight. From then on it is
    ``gone``: no call is counted or begins.
    """

    def __init__(
        self,
        manager: Manager,
        lock: Any,  # noqa: ANN401 - a native lock
        ended: Callable[[], None],
    ) -> None:
        self.process_id: int = process_id()
        self.ident: int | None = None
        self.entered: int = 0
        self.blocks: int = 0
        self.is_made: bool = False
        self.stopping: bool = False
        self.gone: bool = False
        self.initialized: bool = False
        self.starting: asyncio.Lock
        self._manager = manager
        self._lock = lock
        self._notify = ended
        self._is_over = False
        self._left = 0  # changed in the loop alone
        self._failure: BaseException | None = None
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # cancelling a waiter must not cancel it
        self.loop: Loop
        self._mailbox: Mailbox
        self._woken: asyncio.Future[None]
        self._in_flight: set[Call[Any]] = set()
        self._held: set[Waiting] = set()
        self._abandoned: set[Waiting] = set()
        self._watching = False
        self._patience_ends = math.inf
        self._made: Future[None] = Future()
        keep_in_children(self)
        self._join = start_thread(self._work, "agent-sessions")

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in this thread."""
        return self.ident == get_ident()

    @property
    def calls(self) -> int:
        """How many calls are in flight."""
        return self.entered - self._left

    # ── from any thread ──────────────────────────────────────────────────────────────────────────

    def wait_until_made(self) -> None:
        """Wait for the loop, which takes the millisecond that a thread needs to start.

        Raises what kept it from starting, such as ``OSError`` if too many files are open.
        """
        if not self.is_made:
            wait_for(self._made)

    def wait_until_ended(self, timeout: float | None = None) -> None:
        """Wait for the end of the thread; ``TimeoutError`` after that many seconds."""
        wait_for(self._ended, timeout)
        self._join()

    async def until_ended(self) -> None:
        """Like ``wait_until_ended``, for a task of another event loop."""
        await asyncio.wait([asyncio.wrap_future(self._ended)])
        self._join()

    def raise_failure(self) -> None:
        """Raise the error that the manager raised in ``shutdown()``."""
        if self._failure is not None:
            raise self._failure

    def blocking(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function for a blocked thread. The call is already counted.

        An interrupted caller cancels the coroutine.
        """
        call: BlockingCall[T] | None = None
        try:
            call = BlockingCall(function, self)
            self.post(call.begin)
            call.wait()
        except BaseException:
            self.post(partial(self._drop, call))
            raise
        return call.outcome()

    def awaited(
        self, function: Callable[[], Coroutine[Any, Any, T]], caller: Mailbox
    ) -> Awaitable[T]:
        """Run a coroutine function for a task of another loop, which awaits this at once.

        The call is already counted.
        """
        call: AwaitedCall[T] | None = None
        try:
            call = AwaitedCall(function, self, caller)
            self._mailbox.post(call.begin)
            if self._is_over:
                self._mailbox.call_the_rest()
        except BaseException:  # interrupted
            self.post(partial(self._drop, call))
            raise
        return call

    def post(self, callback: Callable[[], None]) -> None:
        """Schedule a call in the loop; once the loop has ended, call it here."""
        if self.is_made:
            self._mailbox.post(callback)
            if self._is_over:
                self._mailbox.call_the_rest()

    def stop(self, *, within: float | None = None) -> None:
        """End the thread once no call is in flight, or after that many seconds.

        Called with the lock held.
        """
        self.stopping = True
        if self.is_made and not self.gone:  # else what others have posted might be called here
            self.post(self._wake)
            if within is not None:
                self.post(lambda: self._wake_later(within))

    def hold(self, block: Waiting) -> None:
        """Record a block of another event loop, before the call that enters it."""
        self._held.add(block)

    # ── in the loop ──────────────────────────────────────────────────────────────────────────────

    def let_go(self, block: Waiting) -> None:
        """Forget a block that has ended."""
        self._held.discard(block)
        self._abandoned.discard(block)
        with self._lock:
            self.blocks -= 1

    def begun(self, call: Call[Any]) -> None:
        """Record a call in flight."""
        self._in_flight.add(call)
        if not self._watching and call.caller is not None:
            self._watch()

    def _drop(self, call: Call[Any] | None) -> None:
        """Cancel an interrupted caller's call; one that will not begin has only been counted."""
        if call is None or not call.has_begun:
            self.leave()
        else:
            call.stop()

    def ended(self, call: Call[Any]) -> None:
        """Forget a call, and have its caller continued."""
        self._in_flight.discard(call)
        if self._abandoned:
            self._abandoned.discard(call)
        self.leave()  # before the caller goes on, which may stop a thread without calls
        caller = call.caller
        if caller is None:
            call.resume()
        elif self.gone:  # perhaps the loop has ended, and this is another thread
            caller.post(call.resume)
        elif self._in_flight or not self._mailbox.is_empty:
            self._mailbox.send(call.resume, to=caller)
        else:  # there is nothing that could go with it
            self._mailbox.send_now(call.resume, to=caller)

    def leave(self) -> None:
        """Count one call less."""
        self._left += 1
        if self.stopping:
            self._wake()

    def _watch(self) -> None:
        """Cancel the calls of event loops that are closed, since nobody waits for them.

        Once each: a second time would interrupt what they do to end.
        """
        everything: tuple[Waiting, ...] = (*self._in_flight, *self._held)
        waiting = [one for one in everything if one.caller is not None]
        for one in waiting:
            is_closed = one.caller is not None and one.caller.loop.is_closed()
            if is_closed and one not in self._abandoned:
                self._abandoned.add(one)
                one.stop()
        self._watching = bool(waiting)
        if waiting:
            asyncio.get_running_loop().call_later(WATCH_SECONDS, self._watch)

    def _wake_later(self, seconds: float) -> None:
        self._patience_ends = time.monotonic() + seconds
        asyncio.get_running_loop().call_later(seconds, self._wake)

    def _wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    def _may_end(self) -> bool:
        with self._lock:
            if self.stopping and (not self.calls or time.monotonic() >= self._patience_ends):
                self.gone = True
            return self.gone

    async def _serve(self) -> None:
        self.loop = loop = asyncio.get_running_loop()  # gevent's sockets belong to one thread
        self._mailbox = own_mailbox()
        self.ident = get_ident()
        self._woken = loop.create_future()
        self.starting = asyncio.Lock()
        self.is_made = True
        self._made.set_result(None)
        try:
            while not self._may_end():
                await self._woken
                self._woken = loop.create_future()
            await self._manager.shutdown()
        finally:
            with self._lock:
                self.stopping = self.gone = True
            for call in tuple(self._in_flight):  # at exit, if its patience has ended
                call.stop()

    def _work(self) -> None:
        try:
            with asyncio.Runner() as runner:  # fails before there is a coroutine
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits for the thread
            self._failure = error
        if self.is_made:
            # Before the next line: what is posted later is called by its poster.
            self._is_over = True
            self._mailbox.call_the_rest()
            self._mailbox.flush()
        self.ident = None  # another thread may get it
        self._notify()
        if not self.is_made:
            self._made.set_exception(self._failure or RuntimeError("the thread did not start"))
        self._ended.set_result(None)
