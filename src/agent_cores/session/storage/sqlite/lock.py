"""``LockWait``: how long the writing thread waits while another process holds the file's lock."""

from __future__ import annotations

import math
import time

_PAUSES = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.025, 0.025, 0.05, 0.05, 0.1)
"""Seconds between tries, as SQLite's own handler pauses."""


class LockWait:
    """The busy handler of the writing connection.

    ``end`` is when the job at hand gives up, as ``time.monotonic()`` counts; ``last`` is when every
    job does, from the moment that the store is being closed.
    """

    def __init__(self) -> None:
        self.end = 0.0
        self.last = math.inf

    def __call__(self, tries: int) -> bool:
        """Pause, and try again; false: the time is up."""
        left = min(self.end, self.last) - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(_PAUSES[min(tries, len(_PAUSES) - 1)], left))
        return True
