"""When a session expires. Pure functions of the header and an instant."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from msgspec import UNSET

from agent_cores.session.models.session import Hold, RenewOn

if TYPE_CHECKING:
    from agent_cores.session.models.effects import RenewEffect
    from agent_cores.session.models.session import SessionMetadata

Instant = TypeVar("Instant", datetime, int)

OPENING_TIME = timedelta(minutes=1)
LISTING_LAG = timedelta(seconds=1)
RENEWAL_STEP = 20  # a read renews only if the end moves by more than 1/20 of the idle time


def earlier(first: Instant | None, second: Instant | None) -> Instant | None:
    """Return the earlier of two ends; ``None`` means never."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


def later(first: Instant | None, second: Instant | None) -> Instant | None:
    """Return the later of two ends; ``None`` means never."""
    return None if first is None or second is None else max(first, second)


def fresh_end(header: SessionMetadata, at: datetime) -> datetime | None:
    """Return the end of an idle time that starts at ``at``, within the longest lifetime."""
    # Most sessions have no hold, and on Python 3.11 a member of an enum is slow to look up.
    if header.hold is not None and header.hold is Hold.OPENING:
        return at + OPENING_TIME
    idle = None if header.ttl_seconds is None else _after(at, header.ttl_seconds)
    if header.max_lifetime_seconds is None:
        return idle
    return earlier(idle, header.created_at + _seconds(header.max_lifetime_seconds))


@lru_cache(maxsize=1_000)
def _after(at: datetime, seconds: float) -> datetime:
    """Return the instant so many seconds later: the same object for many appends of an instant."""
    return at + _seconds(seconds)


@lru_cache(maxsize=256)
def _seconds(seconds: float) -> timedelta:
    """Return so many seconds; each append needs it, and it takes long to make of a float."""
    return timedelta(seconds=seconds)


def renewed_end(header: SessionMetadata, at: datetime) -> datetime | None:
    """Return the end after a renewal at ``at``: never earlier than before."""
    if header.expires_at is None:
        return None
    return later(header.expires_at, fresh_end(header, at))


def end_after_write(header: SessionMetadata, at: datetime) -> datetime | None:
    """Return the end after a write: renewed, unless archived or ``renew_on`` is ``never``."""
    if header.archived or header.renew_on is RenewOn.NEVER:
        return header.expires_at
    return renewed_end(header, at)


def end_after_change(
    before: SessionMetadata,
    header: SessionMetadata,
    renew: RenewEffect | None,
    at: datetime,
    *,
    active: bool,
) -> datetime | None:
    """Return the end after a change at ``at``; ``header`` has all other fields as changed.

    ``active``: whether the change counts as activity, which renews the end.
    """
    if before.hold is Hold.OPENING or (renew is not None and renew.ttl_seconds is not UNSET):
        return fresh_end(header, at)
    if renew is not None:
        return renewed_end(header, at)
    return end_after_write(header, at) if active else header.expires_at


def read_renews(header: SessionMetadata, at: datetime) -> bool:
    """Whether a read by an owner or editor moves the end enough to write a renewal."""
    if header.renew_on is not RenewOn.ACCESS or header.archived or header.hold is not None:
        return False
    end = renewed_end(header, at)
    if header.expires_at is None or end is None or header.ttl_seconds is None:
        return end != header.expires_at
    return end - header.expires_at > timedelta(seconds=header.ttl_seconds / RENEWAL_STEP)
