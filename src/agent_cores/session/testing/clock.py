"""``ManualClock``: starts at real time, stays there, and moves forward only by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from agent_cores.session.models.times import utc_now

if TYPE_CHECKING:
    from datetime import datetime


class ManualClock:
    """A clock that is moved by hand; call it to get the time.

    It starts at real time, since a store may erase what is too old by the store's own clock.
    """

    def __init__(self) -> None:
        self._now = utc_now()

    def __call__(self) -> datetime:
        """Return the current instant of the clock."""
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Move forward and return the new instant; ``seconds`` are 0 or more."""
        return self.advance_to(self._now + timedelta(seconds=seconds))

    def advance_to(self, at: datetime) -> datetime:
        """Move forward to an instant and return it; ``ValueError`` for an earlier one."""
        if at < self._now:
            detail = "this clock only moves forward"
            raise ValueError(detail)
        self._now = at
        return at
