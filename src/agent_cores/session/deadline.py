"""One deadline for an operation, carried from the verb down to the driver.

Each operation on a session has ``SESSION_TIMEOUT`` seconds in all. What waits on its behalf, in a
queue, for a connection, before a retry, asks :func:`time_left` instead of counting anew.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

_end: ContextVar[float | None] = ContextVar("agent_cores_session_deadline", default=None)


def time_left(longest: float) -> float:
    """Return the seconds that the calling operation may still take, from 0 to ``longest``.

    ``longest`` outside any operation, as in a background task.
    """
    end = _end.get()
    if end is None:
        return longest
    left = end - time.monotonic()
    if left >= longest:
        return longest
    return left if left > 0 else 0.0


def forget_deadline() -> None:
    """Leave the operation that started this task: for tasks that serve many operations."""
    _end.set(None)


class Deadlines:
    """Ends the operations of one event loop that run past their deadline.

    One timer serves all of them: an ``asyncio.timeout`` for each takes a sixth of the time of an
    append on memory, this a fifteenth.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.running: dict[Bounded, None] = {}
        self.timer_end = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> float:
        """Return the deadline of an operation that begins now, as ``time.monotonic()`` counts."""
        return time.monotonic() + self.seconds

    def until(self, end: float) -> Bounded:
        """Return a context manager that raises ``TimeoutError`` in its block past that deadline.

        Inside the block :func:`time_left` counts down to it.
        """
        return Bounded(self, end)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self.timer_end = math.inf

    def schedule(self, end: float) -> None:
        """Look at what runs at that time, or before."""
        self.close()
        self.timer_end = end
        delay = max(end - time.monotonic(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self.close()
        now = time.monotonic()
        for bounded in [bounded for bounded in self.running if bounded.end <= now]:
            del self.running[bounded]
            bounded.expire()
        if self.running:
            self.schedule(min(bounded.end for bounded in self.running))


class Bounded:
    """A block of one task that has to end in time; see :meth:`Deadlines.until`."""

    __slots__ = ("_cancelling", "_deadlines", "_expired", "_outer", "_task", "end")

    _task: asyncio.Task[object]
    _outer: Token[float | None]

    def __init__(self, deadlines: Deadlines, end: float) -> None:
        self.end = end
        self._deadlines = deadlines
        self._expired = False

    def __enter__(self) -> None:
        """Begin."""
        task = asyncio.current_task()
        if task is None:
            detail = "a deadline holds for a task"
            raise RuntimeError(detail)
        self._task = task
        self._cancelling = task.cancelling()
        self._outer = _end.set(self.end)
        deadlines = self._deadlines
        deadlines.running[self] = None
        if self.end < deadlines.timer_end:
            deadlines.schedule(self.end)

    def expire(self) -> None:
        """Cancel what runs in the block."""
        self._expired = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; a cancellation by the deadline becomes ``TimeoutError``."""
        _end.reset(self._outer)
        self._deadlines.running.pop(self, None)
        if not self._expired or self._task.uncancel() > self._cancelling:
            return
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error
