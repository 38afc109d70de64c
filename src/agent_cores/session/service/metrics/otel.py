"""``Meters``: shows what was recorded through OpenTelemetry's API.

Counters and gauges are handed over once a second; a histogram gets each value at once, since the
API takes no sums. What becomes of it is up to the SDK that the process is configured with.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from agent_cores.session.errors import MissingDependencyError
from agent_cores.session.service.metrics.definitions import METRICS
from agent_cores.session.version import distribution_version

try:
    from opentelemetry.metrics import Meter, Observation, get_meter
except ImportError as _error:
    raise MissingDependencyError("opentelemetry-api", "otel") from _error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.metrics import Histogram

    from agent_cores.session.service.metrics.definitions import Instrument, Metric
    from agent_cores.session.service.metrics.recorder import Labels, Series, Taken

Attributes = dict[str, str | int]
_NUMBERS = frozenset({"http.response.status_code"})
_ADVICE = "explicit_bucket_boundaries_advisory"
"""The argument for the bounds of buckets, which older releases of the API do not have."""


class Meters:
    """The instruments of this process, made by a meter: by default, that of the global provider."""

    def __init__(self, meter: Meter | None = None) -> None:
        meter = meter or get_meter("agent_cores.session", distribution_version())
        self._instruments = {one.name: one.otel for one in METRICS if one.otel is not None}
        self._made = {
            one.name: self._create(meter, one, one.otel) for one in METRICS if one.otel is not None
        }
        self._gauges: dict[Series, float] = {}

    def listener(self, metric: Metric, labels: Labels) -> Callable[[float], None]:
        """Return what records a value of one series of a histogram."""
        histogram: Histogram = self._made[metric.name]
        return partial(histogram.record, attributes=self._attributes(metric.name, labels))

    def add(self, taken: Taken) -> None:
        """Add the counts, and remember the gauges until the SDK asks for them."""
        for (name, labels), count in taken.counts.items():
            if count and name in self._made:
                self._made[name].add(count, self._attributes(name, labels))
        self._gauges = taken.gauges

    def close(self) -> None:
        """Show no gauge any more: the service stops."""
        self._gauges = {}

    def _create(self, meter: Meter, metric: Metric, instrument: Instrument) -> Any:  # noqa: ANN401 - of several kinds
        about: dict[str, Any] = {"unit": instrument.unit, "description": metric.text}
        if metric.kind == "histogram":
            if _ADVICE in inspect.signature(meter.create_histogram).parameters:
                about[_ADVICE] = metric.buckets
            return meter.create_histogram(instrument.name, **about)
        if metric.kind == "counter":
            return meter.create_counter(instrument.name, **about)
        create = (
            meter.create_observable_up_down_counter
            if instrument.sums
            else meter.create_observable_gauge
        )
        return create(instrument.name, [lambda _: self._observed(metric.name)], **about)

    def _observed(self, name: str) -> Iterable[Observation]:
        """Return the values of a gauge; the SDK calls it, in a thread of its own."""
        gauges = self._gauges
        return [
            Observation(value, self._attributes(name, labels))
            for (gauge, labels), value in gauges.items()
            if gauge == name
        ]

    def _attributes(self, name: str, labels: Labels) -> Attributes:
        names = self._instruments[name].attributes
        return {
            attribute: int(value) if attribute in _NUMBERS else value
            for attribute, value in zip(names, labels, strict=True)
            if attribute and value
        }
