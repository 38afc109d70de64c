"""``Backoff``: pauses between attempts that grow, jittered, until a deadline."""

from __future__ import annotations

import asyncio
import random
import time

FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.5


class Backoff:
    """Pauses that grow from 5 ms to half a second, jittered, until a deadline.

    ``until`` is the deadline, as ``time.monotonic()`` counts.
    """

    def __init__(self, *, until: float) -> None:
        self.deadline = until
        self._pause = FIRST_PAUSE

    async def pause(self) -> bool:
        """Wait a little; ``False``, at once, when there is no time left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            return False
        await asyncio.sleep(min(left, self._pause * random.uniform(0.5, 1.5)))  # noqa: S311
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return True
