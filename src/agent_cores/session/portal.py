"""``Portal``: an event loop in its own thread, in which a manager works for blocking code.

It knows no verb; those are in :mod:`agent_cores.session.sync_manager`.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, Protocol, TypeVar

from agent_cores.session.errors import WrongContextError
from agent_cores.session.process import keep_in_children, process_id
from agent_cores.session.threads import start_thread, wait_for

with suppress(RuntimeError):  # the main thread has ended, and no thread pool will start any more
    import concurrent.futures.thread  # noqa: F401 - its exit hook has to be there before ours

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    _Raised = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

P = ParamSpec("P")
T = TypeVar("T")

EXIT_SECONDS = 5.0
"""How long the end of the program waits for a manager that nobody shut down."""

logger = logging.getLogger("agent_cores.session")


class Manager(Protocol):
    """What a portal needs of the manager that it runs."""

    async def initialize(self) -> None:
        """Start, or count one more user."""

    async def shutdown(self) -> None:
        """Count one user less; the last one stops."""


class _Running(NamedTuple):
    """The thread at work."""

    loop: asyncio.AbstractEventLoop
    stopping: asyncio.Event
    ended: Future[None]
    process_id: int
    join: Callable[[], None] = lambda: None

    def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for a coroutine function in the thread; an interrupted wait cancels it."""
        future = asyncio.run_coroutine_threadsafe(function(), self.loop)
        try:
            return wait_for(future)
        except BaseException:
            future.cancel()  # of no effect on one that ended by itself
            raise

    def stop(self) -> None:
        """End the thread. What is left in there is cancelled."""
        self.loop.call_soon_threadsafe(self.stopping.set)
        wait_for(self.ended)
        self.join()


class Portal:
    """Runs the verbs of one manager for any number of threads.

    Its thread starts with the first call and is gone once the ``shutdown()`` that matches the last
    ``initialize()`` has returned. Calls under way are finished first. A block that is held then
    (see ``hold``) puts the end off to its own. The end of the program waits for no block.
    """

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._changed = threading.Condition()  # guards everything below
        self._running: _Running | None = None
        self._initialized = False
        self._users = 0
        self._calls = 0
        self._blocks = 0
        self._stopping = False
        self._stops_after_blocks = False

    def initialize(self) -> None:
        """Start the thread and the manager, or count one more user."""
        self._check_context()
        with self._changed:
            running = self._started()
            if not self._initialized:
                try:
                    running.run(self._manager.initialize)
                    self._initialized = True
                except BaseException:
                    if not self._calls and not self._blocks:
                        self._stop(running)
                    raise
            self._users += 1
            self._stops_after_blocks = False

    def shutdown(self) -> None:
        """Count one user less; the last one stops the manager and the thread."""
        self._check_context()
        with self._changed:
            self._changed.wait_for(lambda: not self._stopping)
            self._users = max(self._users - 1, 0)
            if self._users or self._running is None:
                return
            if self._blocks:
                self._stops_after_blocks = True
            else:
                self._stop(self._running)

    def call(
        self, verb: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a verb in the thread, wait for it, return its result or raise its error."""
        self._check_context()
        with self._changed:
            running = self._started()
            self._calls += 1
        try:
            return running.run(partial(verb, *args, **kwargs))
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    def hold(
        self,
        block: Callable[P, AbstractAsyncContextManager[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AbstractContextManager[T]:
        """Return a block that enters an asynchronous one in the thread, and leaves it there."""
        return _Block(self, partial(block, *args, **kwargs))

    def block_begins(self) -> _Running:
        """Count one block more."""
        self._check_context()
        with self._changed:
            running = self._started()
            self._blocks += 1
            return running

    def block_ends(self) -> None:
        """Count one block less; stop if only that was waited for."""
        with self._changed:
            self._blocks -= 1
            if self._stops_after_blocks and not self._blocks and self._running is not None:
                self._stop(self._running)

    def _check_context(self) -> None:
        running = self._running
        if running is None:
            return
        if running.process_id != process_id():
            detail = "this manager was started in another process; make a new one after a fork"
            raise WrongContextError(detail)
        if running.loop is asyncio._get_running_loop():  # noqa: SLF001 - and no error where there is none
            detail = "a handler runs in the manager's own thread and may not call its verbs"
            raise WrongContextError(detail)

    def _started(self) -> _Running:
        """Return the running thread, or start one."""
        self._changed.wait_for(lambda: not self._stopping)
        if self._running is None:
            _close_all_at_exit()
            made: Future[_Running] = Future()
            join = start_thread(partial(_work, made), "agent-sessions")
            self._running = wait_for(made)._replace(join=join)
            _portals.add(self)
            keep_in_children(self)
        return self._running

    def _stop(self, running: _Running) -> None:
        self._stopping = True
        try:
            self._changed.wait_for(lambda: not self._calls)
            running.run(self._manager.shutdown)
        finally:
            # What is left in there now was interrupted: nobody waits for it.
            running.stop()
            self._stopped()

    def _stopped(self) -> None:
        _portals.discard(self)
        self._running = None
        self._initialized = self._stopping = self._stops_after_blocks = False
        self._changed.notify_all()

    def stop_at_exit(self) -> None:
        """Stop at the end of the program, without ever waiting for long.

        Other threads may be in the middle of a call, and the loop may be stuck in a handler.
        """
        deadline = time.monotonic() + EXIT_SECONDS
        running = self._running
        if running is None or running.process_id != process_id():
            return
        if not self._changed.acquire(timeout=EXIT_SECONDS):
            return
        self._stopping = True
        try:
            self._changed.wait_for(lambda: not self._calls, EXIT_SECONDS)
            closing = asyncio.run_coroutine_threadsafe(self._close(running), running.loop)
            wait_for(closing, max(deadline - time.monotonic(), 0.1))
            wait_for(running.ended, max(deadline - time.monotonic(), 0.1))
        except Exception:
            logger.exception("a session manager was not shut down, nor could it be at exit")
        finally:
            self._stopped()
            self._changed.release()

    async def _close(self, running: _Running) -> None:
        try:
            await self._manager.shutdown()
        finally:
            running.stopping.set()


class _Block(AbstractContextManager[T], Generic[T]):
    """One asynchronous context manager, held by a thread outside.

    Not a generator: one that is left behind would be finished when there is no loop any more.
    """

    def __init__(self, portal: Portal, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._portal = portal
        self._make = make
        self._running: _Running
        self._left: Future[bool | None]
        self._leaving: asyncio.Future[_Raised]

    def __enter__(self) -> T:
        self._running = self._portal.block_begins()
        entered: Future[T] = Future()
        self._left = asyncio.run_coroutine_threadsafe(self._held(entered), self._running.loop)
        try:
            return wait_for(entered)
        except BaseException:
            self._left.cancel()
            self._portal.block_ends()
            raise

    async def _held(self, entered: Future[T]) -> bool | None:
        """Enter, wait for the thread outside to leave its block, and leave. In one task."""
        block = self._make()
        self._leaving = asyncio.get_running_loop().create_future()
        try:
            value = await block.__aenter__()
        except BaseException as error:
            entered.set_exception(error)
            raise
        entered.set_result(value)
        try:
            raised = await self._leaving
        except BaseException as error:
            await block.__aexit__(type(error), error, error.__traceback__)
            raise
        return await block.__aexit__(*raised)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            raised = (kind, error, traceback)
            self._running.loop.call_soon_threadsafe(self._leave, raised)
            return wait_for(self._left)
        finally:
            self._portal.block_ends()

    def _leave(self, raised: _Raised) -> None:
        if not self._leaving.done():
            self._leaving.set_result(raised)


def _work(made: Future[_Running]) -> None:
    """Run an event loop until it is told to stop."""
    ended: Future[None] = Future()
    try:
        asyncio.run(_serve(made, ended))
    except BaseException as error:  # noqa: BLE001 - raised where the thread is waited for
        ended.set_exception(error)
    else:
        ended.set_result(None)


async def _serve(made: Future[_Running], ended: Future[None]) -> None:
    stopping = asyncio.Event()
    made.set_result(_Running(asyncio.get_running_loop(), stopping, ended, process_id()))
    await stopping.wait()


_portals: set[Portal] = set()
"""Those whose thread runs."""


@cache
def _close_all_at_exit() -> None:
    """Have everything closed that is still open at the end of the program.

    First while thread pools still take work, which stores need to close; then what threads that
    outlive the main one have opened since.
    """
    early = getattr(threading, "_register_atexit", atexit.register)  # not documented, yet in use
    with suppress(RuntimeError):  # the main thread has ended
        early(_close_all)
    atexit.register(_close_all)


def _close_all() -> None:
    for portal in tuple(_portals):
        portal.stop_at_exit()
