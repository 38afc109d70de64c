"""``StoreClock``: the manager's clock, corrected by the store's.

Processes whose clocks disagree would expire each other's sessions. So the store's clock decides, if
it has one: the difference is measured at the start, before each sweep, and before an expired
session is replaced. Between measurements, a monotonic clock counts the time.
"""

from __future__ import annotations

import logging
import math
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from agent_cores.session.models.times import at_millis, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from agent_cores.session.storage.base import StorageProvider

logger: logging.Logger = logging.getLogger("agent_cores.session")

_MILLISECOND = 1_000_000
_SECOND = 1_000_000_000
_BOOT = getattr(time, "CLOCK_BOOTTIME", None)
_steady = time.monotonic_ns if _BOOT is None else partial(time.clock_gettime_ns, _BOOT)
"""Nanoseconds of a monotonic clock that also counts while the machine sleeps."""
DOUBT_SECONDS = 600.0
"""A store's clock that has jumped is trusted again after this long without another jump."""


class StoreClock:
    """Gives the time for every decision: aware UTC datetimes of whole milliseconds.

    If the clocks are more than ``max_skew`` seconds apart, a warning is logged. With an infinite
    ``max_skew`` the process's own clock is never corrected, for tests that set it by hand.
    """

    def __init__(
        self, own: Callable[[], datetime], storage: StorageProvider, max_skew: float
    ) -> None:
        self.now: Callable[[], datetime] = own
        """Returns the time now, one call cheaper than calling the clock."""
        self._own = own
        self._storage = storage
        self._max_skew = max_skew
        self._offset = timedelta(0)
        self._anchor: int | None = None  # ns of the corrected time when the steady clock is 0
        self._jumped_at: int | None = None
        self._warned = False

    def __call__(self) -> datetime:
        """Return the time now."""
        return self.now()

    def _shifted(self) -> datetime:
        return self._own() + self._offset

    async def measure(self) -> bool:
        """Read the store's clock and correct this one by it.

        Returns ``False`` while the time is in doubt because the store's clock has jumped: until
        then nothing may be removed because of its age. Errors of the store pass through.
        """
        if math.isinf(self._max_skew):
            return True
        before = self._own()
        theirs = await self._storage.store_time()
        if theirs is None:
            return True
        return self._correct(before, theirs, self._own())

    def _correct(self, before: datetime, theirs: datetime, after: datetime) -> bool:
        """Adopt the store's time, which was read between two readings of this process's clock."""
        offset = max(min(theirs - before, timedelta(0)), theirs - after)
        self._warn_if_apart(offset)
        if self._own is not utc_now:
            self._offset = offset
            self.now = self._shifted if offset else self._own
            return True
        steady = _steady()
        anchor = time.time_ns() - steady + offset // timedelta(microseconds=1) * 1000
        if self._in_doubt(anchor, steady):
            return False
        self._anchor = anchor
        self.now = _counted_from(anchor)
        return True

    def _in_doubt(self, anchor: int, steady: int) -> bool:
        """Whether the store's clock has recently jumped, compared with the monotonic one."""
        known = self._anchor
        if known is None or abs(anchor - known) <= self._max_skew * _SECOND:
            self._jumped_at = None
            return False
        if self._jumped_at is None:
            self._jumped_at = steady
            logger.error(
                "the store's clock has jumped by %.1f s: nothing is swept or replaced "
                "until it has run steadily for %d s",
                (anchor - known) / _SECOND,
                DOUBT_SECONDS,
            )
        if steady - self._jumped_at < DOUBT_SECONDS * _SECOND:
            return True
        self._jumped_at = None
        return False

    def _warn_if_apart(self, offset: timedelta) -> None:
        apart = abs(offset.total_seconds()) > self._max_skew
        if apart and not self._warned:
            logger.warning(
                "the clock of this process differs from the store's, which is used, by %.1f s "
                "(SESSION_MAX_CLOCK_SKEW is %s)",
                -offset.total_seconds(),
                self._max_skew,
            )
        self._warned = apart


def _counted_from(anchor: int) -> Callable[[], datetime]:
    """Return a clock that read ``anchor`` nanoseconds since 1970 when the monotonic one was 0."""
    steady = _steady
    return lambda: at_millis((anchor + steady()) // _MILLISECOND)
