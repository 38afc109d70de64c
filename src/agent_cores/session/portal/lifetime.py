"""``Lifetime``: when a portal's thread starts and when it ends.

It starts with the first call. It ends when nobody uses it any more, or with the program; a forked
child gets a thread of its own.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from agent_cores.session.errors import WrongContextError
from agent_cores.session.portal.thread import PortalThread, get_ident
from agent_cores.session.process import original, process_id

with suppress(RuntimeError):  # the main thread has ended, so no thread pool can start any more
    import concurrent.futures.thread  # noqa: F401 - its exit hook must be registered before ours

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_cores.session.portal.thread import Manager

EXIT_SECONDS = 5.0
"""How long the program waits at exit for a manager that nobody shut down."""

logger: logging.Logger = logging.getLogger("agent_cores.session")


class Lifetime:
    """Counts the users, calls and blocks of one manager, and keeps a thread for them.

    ``after_fork`` gives the manager new connections in a child process, or raises.
    """

    def __init__(self, manager: Manager, *, after_fork: Callable[[], None]) -> None:
        self._manager = manager
        self._after_fork = after_fork
        self._lock = _new_lock()  # guards everything below, and the thread's counters
        self._thread: PortalThread | None = None
        self._users = 0
        self._stops_after_blocks = False
        self._was_forked = False
        self._was_stopped = False
        _lifetimes.add(self)

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in the portal's own event loop."""
        thread = self._thread
        return thread is not None and thread.ident == get_ident()

    @property
    def is_over(self) -> bool:
        """Whether this was shut down and not called since."""
        return self._was_stopped

    def enter(self, *, users: int = 0, blocks: int = 0) -> PortalThread:
        """Count one more call; start the thread if there is none, or after the last has ended."""
        self.refuse_here()
        while True:
            thread, entered = self._try_to_enter(users, blocks)
            if entered:
                return thread
            thread.wait_until_ended()

    async def enter_soon(self, *, users: int = 0, blocks: int = 0) -> PortalThread:
        """Like ``enter``, for a task: waiting for an ending thread does not block its loop."""
        while True:
            thread, entered = self._try_to_enter(users, blocks)
            if entered:
                return thread
            if thread.is_here:
                detail = "this manager is shutting down, and its own hooks cannot start it again"
                raise WrongContextError(detail)
            await thread.until_ended()

    def enter_at_once(self) -> PortalThread | None:
        """Count one more call, if that takes no waiting: the thread has started and goes on."""
        with self._lock:
            thread = self._thread
            if thread is None or not thread.is_made or thread.stopping:
                return None
            thread.entered += 1
            return thread

    def enter_again(self, thread: PortalThread) -> bool:
        """Count one more call in a thread; ``False`` if it has ended or is another process's."""
        if thread.process_id != process_id():
            return False
        with self._lock:
            if not thread.gone:
                thread.entered += 1
            return not thread.gone

    def block_ended(self) -> None:
        """Stop if only this block's end was pending. Called in the loop."""
        with self._lock:
            thread = self._thread
            if self._stops_after_blocks and thread is not None and not thread.blocks:
                thread.stop()

    def _try_to_enter(self, users: int = 0, blocks: int = 0) -> tuple[PortalThread, bool]:
        """Return the thread, and whether the call was counted, which a stopping thread refuses."""
        with self._lock:
            thread = self._thread or self._started()
            entered = not thread.stopping
            if entered:
                thread.entered += 1
                thread.blocks += blocks
                self._users += users
                if users:
                    self._stops_after_blocks = False
        try:
            thread.wait_until_made()
        except BaseException:
            if entered:
                self._uncount(thread, users, blocks)
            raise
        return thread, entered

    def _uncount(self, thread: PortalThread, users: int, blocks: int) -> None:
        """Undo the count of a call whose caller was interrupted, or whose thread did not start."""
        with self._lock:
            self._users = max(self._users - users, 0)
            thread.entered -= 1
            thread.blocks -= blocks
            if thread.stopping:
                thread.stop()  # this call may have been the last one

    def _started(self) -> PortalThread:
        _close_all_at_exit()
        if self._was_forked:
            self._after_fork()
        self._was_forked = self._was_stopped = False
        self._thread = PortalThread(self._manager, self._lock, self._ended)
        return self._thread

    def _ended(self) -> None:
        """Forget the thread, which calls this at its end."""
        with self._lock:
            self._thread = None
            self._was_stopped = True
            self._stops_after_blocks = False

    def refuse_here(self) -> None:
        """Raise ``WrongContextError`` in the portal's own loop, where blocking would deadlock."""
        if self.is_here:
            detail = (
                "a hook runs in the manager's own event loop and may not block it; await the verbs"
                " of a manager made with any_loop=True, or call them in another thread"
            )
            raise WrongContextError(detail)

    def user_gone(self, thread: PortalThread) -> bool:
        """Uncount a user who could not start; return whether the thread stops now."""
        with self._lock:
            self._users = max(self._users - 1, 0)
            if not (self._users or thread.blocks or thread.calls):
                thread.stop()
            return thread.stopping

    def thread_to_stop(self) -> PortalThread | None:
        """Count one user less; return the thread if it stops now."""
        with self._lock:
            thread = self._thread
            self._users = max(self._users - 1, 0)
            if thread is None or self._users:
                return None
            if thread.blocks and not thread.stopping:
                self._stops_after_blocks = True
                return None
            thread.stop()
            return thread

    # ── the end of the program, and forks ────────────────────────────────────────────────────────

    def stop_at_exit(self) -> None:
        """Stop at the end of the program, without ever waiting long.

        Other threads may be in the middle of a call, and the loop may be stuck in a hook.
        """
        with self._lock:
            thread = self._thread
            if thread is None or thread.process_id != process_id():
                return
            self._users = 0
            thread.stop(within=EXIT_SECONDS)
        try:
            thread.wait_until_ended(EXIT_SECONDS + 0.5)
            thread.raise_failure()
        except Exception:
            logger.exception("a session manager was not shut down, nor could it be at exit")

    def forked(self) -> None:
        """Drop what belongs to the parent. Called first in a child process."""
        self._lock = _new_lock()  # another thread of the parent may have held the old one
        if self._thread is not None:
            self._thread = None  # kept alive by keep_in_children, and never closed here
            self._users = 0
            self._stops_after_blocks = False
            self._was_forked = True


def _new_lock() -> Any:  # noqa: ANN401 - a native lock
    """Return a native lock, even if a greenlet library has replaced them."""
    return original("_thread", "allocate_lock")()


_lifetimes: WeakSet[Lifetime] = WeakSet()
"""All lifetimes. One that runs is kept alive by its thread."""


@cache
def _close_all_at_exit() -> None:
    """Register the closing of everything that is still open at the end of the program.

    First while thread pools still accept work, which stores need to close. Then again for whatever
    threads that outlive the main thread have opened since.
    """
    early = getattr(threading, "_register_atexit", atexit.register)  # undocumented, but widely used
    with suppress(RuntimeError):  # the main thread has ended
        early(_close_all)
    atexit.register(_close_all)


def _close_all() -> None:
    for lifetime in tuple(_lifetimes):
        lifetime.stop_at_exit()


def _after_fork_in_child() -> None:
    for lifetime in tuple(_lifetimes):
        lifetime.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
