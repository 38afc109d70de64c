"""``Block``: an asynchronous context manager held in a portal's thread for a caller elsewhere.

One task both enters and leaves it, as timeouts and task groups inside it require.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agent_cores.session.mailbox import own_mailbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from agent_cores.session.mailbox import Mailbox
    from agent_cores.session.portal.lifetime import Lifetime
    from agent_cores.session.portal.thread import PortalThread

    Raised = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

T = TypeVar("T")


class Block(Generic[T]):
    """The part that runs in the thread: all of its methods are called in its loop.

    ``stop`` ends it even if ``enter`` never began.
    """

    def __init__(
        self,
        make: Callable[[], AbstractAsyncContextManager[T]],
        thread: PortalThread,
        over: Callable[[], None],
        caller: Mailbox | None,
    ) -> None:
        self.caller = caller
        self._make = make
        self._thread = thread
        self._over = over
        self._is_over = False
        self._task: asyncio.Task[bool | None] | None = None

    async def enter(self) -> T:
        """Enter the context manager and hold it until ``leave`` or ``stop``."""
        loop = asyncio.get_running_loop()
        self._entered: asyncio.Future[T] = loop.create_future()
        self._leaving: asyncio.Future[Raised] = loop.create_future()
        self._task = task = loop.create_task(self._hold())
        either: list[asyncio.Future[Any]] = [task, self._entered]
        task.add_done_callback(self._end)
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            while not task.done():  # cancelled again: so is what the task does to end
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            raise
        if not self._entered.done():
            await task  # raises what entering raised
        return self._entered.result()

    async def leave(self, raised: Raised) -> bool | None:
        """Leave the context manager; return whether it suppressed the block's exception."""
        if self._task is None or self._task.cancelled():
            return False  # cancelled: the caller is gone, or the program ends
        self.begin_to_leave(raised)
        return await asyncio.shield(self._task)

    def begin_to_leave(self, raised: Raised) -> None:
        """Leave the context manager, which was entered, with nobody waiting."""
        if not self._leaving.done():
            self._leaving.set_result(raised)

    def stop(self) -> None:
        """Leave as if the block had been cancelled, with nobody waiting; unless it is leaving."""
        if self._task is None:
            self._end(None)
        elif not self._leaving.done():
            self._task.cancel()

    async def _hold(self) -> bool | None:
        block = self._make()
        value = await block.__aenter__()
        self._entered.set_result(value)
        try:
            raised = await self._leaving
        except BaseException as error:
            await block.__aexit__(type(error), error, error.__traceback__)
            raise
        return await block.__aexit__(*raised)

    def _end(self, task: asyncio.Task[bool | None] | None) -> None:
        if task is not None and not task.cancelled():
            task.exception()  # raised on leaving the block, if anybody does
        if not self._is_over:
            self._is_over = True
            self._thread.let_go(self)
            self._over()


class BlockingBlock(AbstractContextManager[T], Generic[T]):
    """A block for a caller that blocks its thread.

    Not a generator: an abandoned one would be finalized when no loop runs any more.
    """

    def __init__(
        self, lifetime: Lifetime, make: Callable[[], AbstractAsyncContextManager[T]]
    ) -> None:
        self._lifetime = lifetime
        self._make = make

    def __enter__(self) -> T:
        self._thread = self._lifetime.enter(blocks=1)
        self._block = Block(self._make, self._thread, self._lifetime.block_ended, None)
        try:
            return self._thread.blocking(self._block.enter)
        except BaseException:
            self._thread.post(self._block.stop)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        raised = (kind, error, traceback)
        if not self._lifetime.enter_again(self._thread):
            return False
        try:
            suppressed = self._thread.blocking(partial(self._block.leave, raised))
        except BaseException:  # interrupted, perhaps before ``leave`` began
            self._thread.post(partial(self._block.begin_to_leave, raised))
            raise
        if self._thread.stopping:
            self._thread.wait_until_ended()
        return suppressed


class AwaitedBlock(AbstractAsyncContextManager[T], Generic[T]):
    """A block for a task of another event loop."""

    def __init__(
        self, lifetime: Lifetime, make: Callable[[], AbstractAsyncContextManager[T]]
    ) -> None:
        self._lifetime = lifetime
        self._make = make

    async def __aenter__(self) -> T:
        caller = own_mailbox()
        self._thread = await self._lifetime.enter_soon(blocks=1)
        self._block = Block(self._make, self._thread, self._lifetime.block_ended, caller)
        try:
            self._thread.hold(self._block)
            return await self._thread.awaited(self._block.enter, caller)
        except BaseException:
            self._thread.post(self._block.stop)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if kind is GeneratorExit:  # the caller is being finalized and may not await
            self._thread.post(self._block.stop)
            return False
        raised, caller = (kind, error, traceback), own_mailbox()
        if not self._lifetime.enter_again(self._thread):
            return False
        try:
            suppressed = await self._thread.awaited(partial(self._block.leave, raised), caller)
        except BaseException:  # cancelled, perhaps before ``leave`` began
            self._thread.post(partial(self._block.begin_to_leave, raised))
            raise
        if self._thread.stopping:
            await self._thread.until_ended()
        return suppressed
