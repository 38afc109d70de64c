"""This process: its id without a system call, and what happens when it forks.

A forked child inherits memory but no threads, and shares every open file with its parent. It must
neither use nor close an event loop or a connection that it inherits: see ``keep_in_children`` and
``Pause``.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable

logger: logging.Logger = logging.getLogger("agent_cores.session")

PAUSE_SECONDS = 10.0
"""How long a fork waits for jobs that are running."""

_id = os.getpid()
_kept: WeakSet[Any] = WeakSet()
_pauses: WeakSet[Pause] = WeakSet()


def process_id() -> int:
    """Return this process's id, as ``os.getpid()`` does."""
    return _id


def original(module: str, name: str) -> Any:  # noqa: ANN401 - whatever the module holds there
    """Return ``module.name`` of the standard library as it was before gevent replaced it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


def keep_in_children(thing: object) -> None:
    """Never finalize ``thing``, nor anything that it refers to, in a forked child.

    Closing an inherited connection would remove it from the event loop that parent and child share,
    and a farewell message on it would end the parent's connection.
    """
    _kept.add(thing)


class Pause:
    """Keeps the threads of one pool idle while this process forks."""

    def __init__(self, before_fork: Callable[[], None] | None) -> None:
        self._before_fork = before_fork
        self._locks: list[Any] = []
        _pauses.add(self)

    def new_lock(self) -> Any:  # noqa: ANN401 - a lock of the operating system's threads
        """Return the lock that another thread will hold while it runs a job."""
        with _forking:
            lock = original("_thread", "allocate_lock")()
            self._locks.append(lock)
            return lock

    def begin(self, released_after: ExitStack) -> None:
        """Wait for running jobs, keep others from starting, and prepare for the fork."""
        for lock in self._locks:
            if not lock.acquire(timeout=PAUSE_SECONDS):
                logger.warning("this process forks while a write or a read is running")
                return
            released_after.callback(lock.release)
        if self._before_fork is not None:
            self._before_fork()


_forking = original("_thread", "allocate_lock")()
"""Held while this process forks."""
_paused = ExitStack()


def _before_fork() -> None:
    _forking.acquire()
    for pause in list(_pauses):
        try:
            pause.begin(_paused)
        except Exception:
            logger.exception("closing what a forked child must not inherit failed")


def _after_fork_in_parent() -> None:
    _paused.close()
    _forking.release()


def _after_fork_in_child() -> None:
    global _id  # noqa: PLW0603 - there is one process
    _id = os.getpid()
    for thing in list(_kept):
        # A reference that is never released, not even when the interpreter ends.
        _python().Py_IncRef(thing)
    _kept.clear()
    _pauses.clear()
    _paused.pop_all()
    _forking.release()


def _python() -> Any:  # noqa: ANN401 - the C API
    ctypes = importlib.import_module("ctypes")
    ctypes.pythonapi.Py_IncRef.argtypes = [ctypes.py_object]
    return ctypes.pythonapi


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
