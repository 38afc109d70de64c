"""``Recorder``: counts in plain numbers, which exporters take over once a second.

An observation costs half a microsecond here, and ten in a file that several processes share.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent_cores.session.service.metrics.definitions import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent_cores.session.service.metrics.definitions import Metric

Labels = tuple[str, ...]
Series = tuple[str, Labels]
"""The name of a metric, and the values that tell its series apart."""
_LASTING = frozenset(metric.name for metric in METRICS if metric.lasts)


class Tallied(NamedTuple):
    """How many values fell into each bucket, their sum and, if they are kept, the values."""

    counts: list[int]
    total: float
    values: list[float]


class Taken(NamedTuple):
    """What was recorded in about a second."""

    tallies: dict[Series, Tallied]
    counts: dict[Series, int]
    gauges: dict[Series, float]


class Exporter(Protocol):
    """Shows what was recorded."""

    async def add(self, taken: Taken) -> None:
        """Add the counts, and set the gauges."""

    def close(self) -> None:
        """Show no gauge any more: the service stops."""


class Tally:
    """How many values fell into each bucket, the last one unbounded, and their sum."""

    __slots__ = ("_keeps", "_values", "bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...], *, keeps_values: bool = False) -> None:
        self.bounds: tuple[float, ...] = bounds
        self.counts: list[int] = [0] * (len(bounds) + 1)
        self.total: float = 0.0
        self._keeps = keeps_values
        self._values: list[float] = []

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
        if self._keeps:
            self._values.append(value)

    def take(self) -> Tallied:
        """Return what was added, and begin again."""
        taken = Tallied(self.counts, self.total, self._values)
        self.counts, self.total, self._values = [0] * len(self.counts), 0.0, []
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

    A tally or count stays the same object, so a hot path may keep it. ``keeps_values``: tallies
    keep each value, for an exporter that cannot add up buckets.
    """

    def __init__(self, *, keeps_values: bool = False) -> None:
        self._keeps_values = keeps_values
        self._tallies: dict[Series, Tally] = {}
        self._counts: dict[Series, Count] = {}
        self._gauges: dict[Series, float] = {}

    def tally(self, metric: Metric, *labels: str) -> Tally:
        """Return the tally of a histogram for these labels."""
        key = metric.name, labels
        found = self._tallies.get(key)
        if found is None:
            found = Tally(metric.buckets, keeps_values=self._keeps_values)
            self._tallies[key] = found
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


async def hand_over(recorder: Recorder, exporters: Iterable[Exporter]) -> None:
    """Let each exporter add what was recorded since the last time.

    An exporter that fails loses it; the others do not. Raises an ``ExceptionGroup`` of the errors.
    """
    taken = recorder.take()
    errors = []
    for exporter in exporters:
        try:
            await exporter.add(taken)
        except Exception as error:  # noqa: BLE001 - raised once all have been tried
            errors.append(error)
    if errors:
        raise ExceptionGroup("metrics could not be handed over", errors) from errors[0]
