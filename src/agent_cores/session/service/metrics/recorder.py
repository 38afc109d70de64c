"""``Recorder``: keeps plain values and numbers, which exporters take over once a second.

To append a value to a list costs a request next to nothing. A second's values are put into buckets
together, and only the sums go to files that several processes share, where each write takes ten
microseconds.
"""

from __future__ import annotations

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
    """What was recorded in about a second: the values of histograms, counts, and gauges."""

    values: dict[Series, list[float]]
    counts: dict[Series, int]
    gauges: dict[Series, float]


class Exporter(Protocol):
    """Shows what was recorded."""

    async def add(self, taken: Taken) -> None:
        """Add the counts, and set the gauges."""

    def close(self) -> None:
        """Show no gauge any more: the service stops."""


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

    A list of values or a count stays the same object, so a hot path may keep it.
    """

    def __init__(self) -> None:
        self._values: dict[Series, list[float]] = {}
        self._counts: dict[Series, Count] = {}
        self._gauges: dict[Series, float] = {}
        self._sources: list[Callable[[], None]] = []

    def before_taking(self, source: Callable[[], None]) -> None:
        """Call a function each time before what was recorded is taken, to record the rest."""
        self._sources.append(source)

    def values(self, metric: Metric, *labels: str) -> list[float]:
        """Return the list to which the values of a histogram are appended, for these labels."""
        return self._values.setdefault((metric.name, labels), [])

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

    def take(self) -> Taken:
        """Return what was recorded, and begin again."""
        for source in self._sources:
            source()
        taken = Taken(
            {key: values.copy() for key, values in self._values.items() if values},
            {key: count.take() for key, count in self._counts.items()},
            self._gauges,
        )
        for values in self._values.values():
            values.clear()
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
