"""``Portal``: an event loop in its own thread, where a manager works for callers from anywhere.

Blocking code waits for it, and tasks of other event loops await it. It knows no verbs; those are in
:mod:`agent_cores.session.sync_manager` and :mod:`agent_cores.session.any_loop`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from agent_cores.session.mailbox import own_mailbox
from agent_cores.session.portal.block import AwaitedBlock, BlockingBlock
from agent_cores.session.portal.lifetime import Lifetime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from agent_cores.session.mailbox import Mailbox
    from agent_cores.session.portal.thread import PortalThread

P = ParamSpec("P")
T = TypeVar("T")


class Portal(Lifetime):
    """Runs one manager for any number of threads and event loops.

    Its thread starts with the first call and has ended once the ``shutdown()`` that matches the
    last ``initialize()`` returns. Calls in flight are finished first. A block that is still held
    (see ``hold``) keeps the thread until the block ends. The end of the program waits for no block.
    """

    # ── for blocking code ────────────────────────────────────────────────────────────────────────

    def initialize(self) -> None:
        """Start the thread and the manager, or count one more user."""
        thread = self.enter(users=1)
        try:
            thread.blocking(partial(self._start_manager, thread))
        except BaseException:
            if self.user_gone(thread):
                thread.wait_until_ended()
            raise

    def shutdown(self) -> None:
        """Count one user less; the last one stops the manager and the thread."""
        self.refuse_here()
        thread = self.thread_to_stop()
        if thread is not None:
            thread.wait_until_ended()
            thread.raise_failure()

    def call(
        self, verb: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a verb in the thread, wait for it, return its result or raise its error."""
        return self.enter().blocking(partial(verb, *args, **kwargs))

    def hold(
        self,
        block: Callable[P, AbstractAsyncContextManager[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AbstractContextManager[T]:
        """Return a block that enters and leaves an asynchronous context manager in the thread."""
        return BlockingBlock(self, partial(block, *args, **kwargs))

    # ── for tasks of any event loop ──────────────────────────────────────────────────────────────

    async def await_initialize(self) -> None:
        """Like ``initialize``, for a task; also for a task in the portal's own loop."""
        caller = own_mailbox()
        thread = await self.enter_soon(users=1)
        try:
            if thread.is_here:
                try:
                    await self._start_manager(thread)
                finally:
                    thread.leave()
            else:
                await thread.awaited(partial(self._start_manager, thread), caller)
        except BaseException as error:
            stopping = self.user_gone(thread)
            if stopping and not isinstance(error, GeneratorExit) and not thread.is_here:
                await thread.until_ended()
            raise

    async def await_shutdown(self) -> None:
        """Like ``shutdown``, for a task. One in the portal's own loop does not wait for the end."""
        thread = self.thread_to_stop()
        if thread is not None and not thread.is_here:
            await thread.until_ended()
            thread.raise_failure()

    def await_call(self, verb: Callable[[], Coroutine[Any, Any, T]]) -> Awaitable[T]:
        """Run a verb in the thread for a task of another event loop, which awaits this at once."""
        caller = own_mailbox()  # raises where no event loop runs, so before the call is counted
        thread = self.enter_at_once()
        if thread is None:
            return self._await_later(verb, caller)
        return thread.awaited(verb, caller)

    async def _await_later(self, verb: Callable[[], Coroutine[Any, Any, T]], caller: Mailbox) -> T:
        thread = await self.enter_soon()
        return await thread.awaited(verb, caller)

    def hold_for_task(
        self, block: Callable[[], AbstractAsyncContextManager[T]]
    ) -> AbstractAsyncContextManager[T]:
        """Return a block for a task of another event loop."""
        return AwaitedBlock(self, block)

    async def _start_manager(self, thread: PortalThread) -> None:
        async with thread.starting:
            if not thread.initialized:
                await self._manager.initialize()
                thread.initialized = True
