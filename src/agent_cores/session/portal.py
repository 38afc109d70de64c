"""``Portal``: an event loop in a thread of its own, in which a manager works for blocking code.

It knows no verb: those stand in :mod:`agent_cores.session.sync_manager`.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401 - its exit hook has to be there before ours
import logging
import os
import threading
import time
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal

from agent_cores.session.errors import WrongContextError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from agent_cores.session.session_manager import SessionManager

P = ParamSpec("P")
T = TypeVar("T")

EXIT_SECONDS = 5.0
"""How long the end of the program waits for a manager that nobody shut down."""

logger = logging.getLogger("agent_cores.session")


class _Running(NamedTuple):
    """The thread at work."""

    blocking: BlockingPortal
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    process_id: int


class Portal:
    """Runs the verbs of one manager for any number of threads.

    Its thread starts with the first call and is gone once the ``shutdown()`` that matches the last
    ``initialize()`` has returned. Calls under way are finished first. A block that is held then
    (see ``hold``) puts the end off to its own. The end of the program waits for no block.
    """

    def __init__(self, manager: SessionManager) -> None:
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
                    _run(running.blocking, self._manager.initialize)
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
            return _run(running.blocking, partial(verb, *args, **kwargs))
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

    def block_begins(self) -> BlockingPortal:
        """Count one block more."""
        self._check_context()
        with self._changed:
            running = self._started()
            self._blocks += 1
            return running.blocking

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
        if running.process_id != os.getpid():
            detail = "this manager was started in another process; make a new one after a fork"
            raise WrongContextError(detail)
        if running.thread is threading.current_thread():
            detail = "a handler runs in the manager's own thread and may not call its verbs"
            raise WrongContextError(detail)

    def _started(self) -> _Running:
        """Return the running thread, or start one."""
        self._changed.wait_for(lambda: not self._stopping)
        if self._running is None:
            _close_all_at_exit()
            made: Future[BlockingPortal] = Future()
            thread = threading.Thread(
                target=lambda: asyncio.run(_serve(made)), name="agent-sessions", daemon=True
            )
            thread.start()
            blocking = made.result()
            loop = blocking.call(asyncio.get_running_loop)
            self._running = _Running(blocking, loop, thread, os.getpid())
            _portals.add(self)
        return self._running

    def _stop(self, running: _Running) -> None:
        self._stopping = True
        try:
            self._changed.wait_for(lambda: not self._calls)
            _run(running.blocking, self._manager.shutdown)
        finally:
            # What is left in there now was interrupted: nobody waits for it.
            running.blocking.call(partial(running.blocking.stop, cancel_remaining=True))
            running.thread.join()
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
        if running is None or running.process_id != os.getpid():
            return
        if not self._changed.acquire(timeout=EXIT_SECONDS):
            return
        self._stopping = True
        try:
            self._changed.wait_for(lambda: not self._calls, EXIT_SECONDS)
            closing = asyncio.run_coroutine_threadsafe(self._close(running), running.loop)
            closing.result(max(deadline - time.monotonic(), 0.1))
        except Exception:
            logger.exception("a session manager was not shut down, nor could it be at exit")
        finally:
            self._stopped()
            self._changed.release()

    async def _close(self, running: _Running) -> None:
        try:
            await self._manager.shutdown()
        finally:
            await running.blocking.stop(cancel_remaining=True)


class _Block(AbstractContextManager[T], Generic[T]):
    """One asynchronous context manager, held by a thread outside.

    Not a generator: one that is left behind would be finished when there is no loop any more.
    """

    def __init__(self, portal: Portal, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._portal = portal
        self._make = make
        self._held: AbstractContextManager[T]

    def __enter__(self) -> T:
        blocking = self._portal.block_begins()
        try:
            self._held = blocking.wrap_async_context_manager(self._make())
            return self._held.__enter__()
        except BaseException:
            self._portal.block_ends()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return self._held.__exit__(kind, error, traceback)
        finally:
            self._portal.block_ends()


async def _serve(made: Future[BlockingPortal]) -> None:
    async with BlockingPortal() as blocking:
        made.set_result(blocking)
        await blocking.sleep_until_stopped()


def _run(blocking: BlockingPortal, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Wait for a coroutine function in the portal; an interrupted wait cancels it."""
    future: Future[T] = blocking.start_task_soon(function)
    try:
        return future.result()
    except BaseException:
        future.cancel()  # of no effect on one that ended by itself
        raise


_portals: set[Portal] = set()
"""Those whose thread runs."""


@cache
def _close_all_at_exit() -> None:
    """Have everything closed that is still open at the end of the program.

    First while thread pools still take work, which stores need to close; then what threads that
    outlive the main one have opened since.
    """
    early = getattr(threading, "_register_atexit", atexit.register)  # not documented, yet in use
    early(_close_all)
    atexit.register(_close_all)


def _close_all() -> None:
    for portal in tuple(_portals):
        portal.stop_at_exit()
