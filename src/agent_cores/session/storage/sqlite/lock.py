"""``LockWait``: how long the writing thread waits while another process holds the file lock."""

from __future__ import annotations

import math
import time

_PAUSES = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.025, 0.025, 0.05, 0.05, 0.1)
"""Seconds between retries, the same pauses as SQLite's own handler."""


class LockWait:
    """The busy handler of the writing connection.

    ``end`` is when the current job gives up, in the time of ``time.monotonic()``. ``last`` is when
    every job gives up, set once the store is being closed.
    """

    def __init__(self) -> None:
        self.end: float = 0.0
        self.last: float = math.inf

    def __call__(self, tries: int) -> bool:
        """Pause and retry; false if the time is up."""
        left = min(self.end, self.last) - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(_PAUSES[min(tries, len(_PAUSES) - 1)], left))
        return True
