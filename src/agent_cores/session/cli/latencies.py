"""Latencies, counted in bounded memory."""

from __future__ import annotations

from collections import Counter
from math import exp, floor, log

_WIDTH = 0.01
_SHORTEST = 1e-7


class Latencies:
    """Counts latencies in seconds; a percentile is at most half a percent off.

    Each bucket is a hundredth longer than the one before it, so from a microsecond to an hour there
    are about 2,200 of them, however many latencies there are.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one latency."""
        self.count += 1
        self._buckets[floor(log(max(seconds, _SHORTEST)) / _WIDTH)] += 1

    def percentile(self, part: float) -> float:
        """Return how many seconds the fastest ``part`` (0 to 1) of all took at most; 0 if none."""
        rank = min(int(self.count * part), self.count - 1)
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank < 0:
                return exp((bucket + 0.5) * _WIDTH)
        return 0.0
