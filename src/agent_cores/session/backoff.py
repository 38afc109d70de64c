"""``Backoff``: growing, jittered pauses between the attempts of a retry loop."""

from __future__ import annotations

import asyncio
import math
import random
import time

FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.5


class Backoff:
    """The pauses of one retry loop, in seconds.

    The first pause is at most ``first``; each later one may be twice as long, up to ``longest``.
    Every pause is drawn between half of that bound and the whole, so that callers who failed
    together do not retry together. ``until`` is the deadline of the loop, as ``time.monotonic()``
    counts; no pause goes past it.
    """

    def __init__(
        self,
        *,
        until: float = math.inf,
        first: float = FIRST_PAUSE,
        longest: float = LONGEST_PAUSE,
    ) -> None:
        self.until = until
        self._first = first
        self._longest = longest
        self._bound = first

    async def pause(self, *, until: float | None = None) -> bool:
        """Wait; return ``False``, without waiting, once the deadline has passed.

        ``until`` replaces the deadline for this pause.
        """
        left = (self.until if until is None else until) - time.monotonic()
        if left <= 0:
            return False
        await asyncio.sleep(min(left, self.next_pause()))
        return True

    def block(self) -> bool:
        """Do what ``pause`` does by blocking this thread."""
        left = self.until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(left, self.next_pause()))
        return True

    def next_pause(self) -> float:
        """Return the next pause, for a caller that waits in its own way."""
        pause = self._bound * random.uniform(0.5, 1)  # noqa: S311 - not a secret
        self._bound = min(self._bound * 2, self._longest)
        return pause

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed, perhaps by the last pause."""
        return time.monotonic() >= self.until

    def reset(self) -> None:
        """Begin again with the first pause, after an attempt that succeeded."""
        self._bound = self._first
