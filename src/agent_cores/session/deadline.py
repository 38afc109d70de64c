"""One deadline for an operation, carried from the verb down to the driver.

Each operation on a session has ``SESSION_TIMEOUT`` seconds in all. Whatever waits on its behalf (in
a queue, for a connection, before a retry) asks :func:`time_left` instead of starting a timer anew.
"""

from __future__ import annotations

import asyncio
import math
import time
from asyncio import current_task
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

T = TypeVar("T")

Task = asyncio.Task[Any]

_MARGIN = 0.05
_OF_A_SHORT_TIMEOUT = 10

_ends: dict[Task, float] = {}
"""The deadline of each task that runs an operation. A context variable costs five times as much,
and a task that serves many operations would inherit the deadline of the first."""


def _end_of_operation() -> float | None:
    try:
        task = current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None
    return None if task is None else _ends.get(task)


def time_left(longest: float) -> float:
    """Return how many seconds the calling operation has left, from 0 to ``longest``.

    Outside any operation, as in a background task, that is ``longest``.
    """
    end = _end_of_operation()
    if end is None:
        return longest
    left = end - time.monotonic()
    if left >= longest:
        return longest
    return left if left > 0 else 0.0


def end_after(seconds: float) -> float:
    """Return the deadline of the calling operation, as ``time.monotonic()`` counts.

    Outside any operation, that is ``seconds`` from now.
    """
    end = _end_of_operation()
    return time.monotonic() + seconds if end is None else end


def margin_of(seconds: float) -> float:
    """Return how long before its deadline an operation of that length gives up what still waits.

    At the deadline it is cancelled, and then nobody can tell that nothing was sent, so the outcome
    would be unknown.
    """
    return min(_MARGIN, seconds / _OF_A_SHORT_TIMEOUT)


def start_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task that has the deadline of the calling operation, and outlives its caller."""
    task = asyncio.get_running_loop().create_task(work)
    end = _end_of_operation()
    if end is not None:
        _ends[task] = end
        task.add_done_callback(_forget)
    return task


@contextmanager
def counting_down(seconds: float) -> Iterator[None]:
    """Have :func:`time_left` count down from so many seconds in the block; nothing is cancelled."""
    task = cast("Task", current_task())
    _ends[task] = time.monotonic() + seconds
    try:
        yield
    finally:
        _ends.pop(task, None)


def _forget(task: Task) -> None:
    _ends.pop(task, None)


class Deadlines:
    """Cancels the operations of one event loop that run past their deadline.

    One timer serves all of them, and the tasks themselves are the keys. An ``asyncio.timeout`` for
    each takes a sixth of the time of an append to memory; this takes a fifteenth.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[Task, float] = {}
        self._expired: dict[Task, int] = {}  # how often each had been cancelled before
        self._timer: asyncio.TimerHandle | None = None
        self._timer_end = math.inf

    def begin(self) -> float:
        """Return the deadline of an operation that begins now, as ``time.monotonic()`` counts."""
        return time.monotonic() + self.seconds

    def enter(self, end: float) -> Task:
        """Have the running task cancelled at ``end``, unless ``leave`` is called before."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        task = cast("Task", current_task(self._loop))  # asking for the loop may be a system call
        _ends[task] = self._running[task] = end
        if end < self._timer_end:
            self._schedule(end)
        return task

    def leave(self, task: Task) -> bool:
        """Let the task go on; return whether it was cancelled by this deadline alone."""
        _ends.pop(task, None)
        self._running.pop(task, None)
        before = self._expired.pop(task, None)
        return before is not None and task.uncancel() <= before

    @contextmanager
    def until(self, end: float) -> Iterator[None]:
        """Raise ``TimeoutError`` in the block once the deadline has passed.

        Inside the block :func:`time_left` counts down to it. Blocks of one task are not nested.
        """
        task = self.enter(end)
        try:
            yield
        except asyncio.CancelledError as error:
            if not self.leave(task):
                raise
            raise TimeoutError from error
        finally:
            self.leave(task)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._timer_end = math.inf

    def _schedule(self, end: float) -> None:
        self.close()
        self._timer_end = end
        delay = max(end - time.monotonic(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self.close()
        now = time.monotonic()
        for task in [task for task, end in self._running.items() if end <= now]:
            del self._running[task]
            self._expired[task] = task.cancelling()
            task.cancel()
        if self._running:
            self._schedule(min(self._running.values()))


class InTime:
    """Raises ``too_late()`` in a block once the deadline has passed, or where it timed out itself.

    Inside the block :func:`time_left` counts down to it. Blocks of one task are not nested. Most
    operations enter one; a class costs less than a generator with ``contextmanager``.
    """

    __slots__ = ("_deadlines", "_end", "_task", "_too_late")

    _task: Task

    def __init__(self, deadlines: Deadlines, end: float, too_late: Callable[[], Exception]) -> None:
        self._deadlines = deadlines
        self._end = end
        self._too_late = too_late

    def __enter__(self) -> None:
        self._task = self._deadlines.enter(self._end)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        by_deadline = self._deadlines.leave(self._task)
        if isinstance(error, TimeoutError) or (
            by_deadline and isinstance(error, asyncio.CancelledError)
        ):
            raise self._too_late() from error
