"""``Recorder``: counts in plain numbers, which exporters take over once a second.

An observation costs half a microsecond here, and ten in a file that several processes share.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent_cores.session.service.metrics.definitions import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent_cores.session.service.metrics.definitions import Metric

Labels = tuple[str, ...]
Series = tuple[str, Labels]
"""The name of a metric, and the values that tell its series apart."""
_LASTING = frozenset(metric.name for metric in METRICS if metric.lasts)


class Taken(NamedTuple):
    """What was recorded in about a second."""

    tallies: dict[Series, tuple[list[int], float]]
    counts: dict[Series, int]
    gauges: dict[Series, float]


class Exporter(Protocol):
    """Shows what was recorded."""

    def add(self, taken: Taken) -> None:
        """Add the counts, and set the gauges."""

    def close(self) -> None:
        """Show no gauge any more: the service stops."""


class Tally:
    """How many values fell into each bucket, the last one unbounded, and their sum."""

    __slots__ = ("_listener", "bounds", "counts", "total")

    def __init__(
        self, bounds: tuple[float, ...], listener: Callable[[float], None] | None = None
    ) -> None:
        self.bounds: tuple[float, ...] = bounds
        self.counts: list[int] = [0] * (len(bounds) + 1)
        self.total: float = 0.0
        self._listener = listener

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
        if self._listener is not None:
            self._listener(value)

    def take(self) -> tuple[list[int], float]:
        """Return the counts and the sum, and begin again."""
        taken = self.counts, self.total
        self.counts, self.total = [0] * len(self.counts), 0.0
        return taken


class Count:
    """A number that only grows, until it is taken."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int = 0

    def take(self) -> int:
        """Return the number, and begin again."""
        taken, self.value = self.value, 0
        return taken


class Recorder:
    """What happened since it was last taken. It belongs to one event loop.

    A tally or count stays the same object, so a hot path may keep it. ``listener`` makes, for a
    series of a histogram, what is called with each of its values.
    """

    def __init__(
        self, listener: Callable[[Metric, Labels], Callable[[float], None]] | None = None
    ) -> None:
        self._listener = listener
        self._tallies: dict[Series, Tally] = {}
        self._counts: dict[Series, Count] = {}
        self._gauges: dict[Series, float] = {}

    def tally(self, metric: Metric, *labels: str) -> Tally:
        """Return the tally of a histogram for these labels."""
        key = metric.name, labels
        found = self._tallies.get(key)
        if found is None:
            listener = None if self._listener is None else self._listener(metric, labels)
            found = self._tallies[key] = Tally(metric.buckets, listener)
        return found

    def count(self, metric: Metric, *labels: str) -> Count:
        """Return the count of a counter for these labels."""
        key = metric.name, labels
        found = self._counts.get(key)
        if found is None:
            found = self._counts[key] = Count()
        return found

    def put(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge. Unless the metric ``lasts``, it is 0 again once it is taken."""
        self._gauges[metric.name, labels] = value

    def at_least(self, metric: Metric, value: float) -> None:
        """Raise a gauge to a value, until it is next taken."""
        key = metric.name, ()
        self._gauges[key] = max(self._gauges.get(key, 0.0), value)

    def take(self) -> Taken:
        """Return what was recorded, and begin again."""
        taken = Taken(
            {key: tally.take() for key, tally in self._tallies.items()},
            {key: count.take() for key, count in self._counts.items()},
            self._gauges,
        )
        self._gauges = {
            key: value if key[0] in _LASTING else 0.0 for key, value in taken.gauges.items()
        }
        return taken


def hand_over(recorder: Recorder, exporters: Iterable[Exporter]) -> None:
    """Let each exporter add what was recorded since the last time."""
    taken = recorder.take()
    for exporter in exporters:
        exporter.add(taken)
