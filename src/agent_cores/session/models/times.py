"""Instants: aware UTC datetimes of whole milliseconds, and the integers that stores keep."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_millis(at: datetime) -> int:
    """Return milliseconds since 1970 UTC."""
    return (at - EPOCH) // _MILLISECOND


def from_millis(millis: int) -> datetime:
    """Return the instant so many milliseconds after 1970 UTC."""
    return EPOCH + millis * _MILLISECOND


def whole_millis(at: datetime) -> datetime:
    """Return an aware datetime cut to the millisecond, in UTC, and of no subclass."""
    return from_millis(to_millis(at.astimezone(UTC)))


def utc_now() -> datetime:
    """Return the machine's time: the default clock. Within a millisecond, the same object."""
    return at_millis(time.time_ns() // 1_000_000)


@lru_cache(maxsize=4)
def at_millis(millis: int) -> datetime:
    """As ``from_millis``, but cached: the same object while the time is that millisecond."""
    return datetime.fromtimestamp(millis / 1000, UTC)
