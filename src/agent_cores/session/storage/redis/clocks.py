"""``ServerClocks``: what servers say the time is, so that they can tell how long a write waited.

A write carries its sender's estimate of the server's clock, taken when it was handed over. The
server takes what has passed since for the time that the write waited: in our queue, on its way, or
in front of a server that stood still.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ServerClocks:
    """Estimates the servers' clocks, in milliseconds since 1970; never behind what they say."""

    def __init__(self) -> None:
        self._offsets: dict[str, float] = {}

    def note(self, address: str, asked_at: float, answer: Sequence[bytes]) -> None:
        """Take in what a server answered to ``TIME``, asked at that ``time.monotonic()``.

        The answer is taken for one to the question's first instant, so that the way back never
        looks like a wait; the quickest answer is kept, until the clock has certainly moved.
        """
        seconds, micros = answer
        offset = int(seconds) * 1000 + int(micros) / 1000 - asked_at * 1000
        known = self._offsets.get(address)
        took = (time.monotonic() - asked_at) * 1000
        if known is None or offset < known or offset - took > known:
            self._offsets[address] = offset

    def now(self, address: str | None) -> int | None:
        """Return what a server's clock says now, ``None`` if it never told."""
        offset = None if address is None else self._offsets.get(address)
        return None if offset is None else int(offset + time.monotonic() * 1000) + 1
