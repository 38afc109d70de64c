"""``Meters``: shows what was recorded through OpenTelemetry's API.

A histogram of the API takes one value at a time. Recorded where they arise, in the midst of other
work, values cost about twice as much as one after another, so they are gathered like the rest. What
becomes of all this is up to the SDK that the process is configured with.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from agent_cores.session.errors import MissingDependencyError
from agent_cores.session.service.metrics.definitions import METRICS
from agent_cores.session.version import distribution_version

try:
    from opentelemetry.metrics import Meter, Observation, get_meter
except ImportError as _error:
    raise MissingDependencyError("opentelemetry-api", "otel") from _error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent_cores.session.service.metrics.definitions import Instrument, Metric
    from agent_cores.session.service.metrics.recorder import Labels, Series, Taken

Attributes = dict[str, str | int]
_NUMBERS = frozenset({"http.response.status_code"})
_TOGETHER = 50
"""Values that are recorded before requests have their turn again: some tenths of a millisecond."""
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

    async def add(self, taken: Taken) -> None:
        """Add the counts and values, and remember the gauges until the SDK asks for them."""
        self._gauges = taken.gauges
        for (name, labels), count in taken.counts.items():
            if count and name in self._made:
                self._made[name].add(count, self._attributes(name, labels))
        for (name, labels), values in taken.values.items():
            record, attributes = self._made[name].record, self._attributes(name, labels)
            for start in range(0, len(values), _TOGETHER):
                for value in values[start : start + _TOGETHER]:
                    record(value, attributes)
                await asyncio.sleep(0)  # let requests run in between

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
