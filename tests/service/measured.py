"""A service under test that is measured, and what Prometheus would read of it."""

from __future__ import annotations

import re

import prometheus_client

from agent_cores.session.service import Service
from agent_cores.session.service.metrics.exporting import Exporter
from agent_cores.session.service.metrics.instruments import Measurement
from agent_cores.session.service.metrics.recorder import Recorder, hand_over


class Measured:
    """The measurement of a service, and the metrics of this process."""

    def __init__(self, service: Service, *, by_status: bool = True) -> None:
        self.recorder = Recorder()
        self.measurement = Measurement(service, self.recorder, by_status=by_status)
        self._registry = prometheus_client.CollectorRegistry()
        self._exporter = Exporter(self._registry)

    async def exposed(self) -> str:
        """Hand over what was recorded; return what Prometheus would read."""
        self.measurement.note_now()
        await hand_over(self.recorder, [self._exporter])
        return prometheus_client.generate_latest(self._registry).decode()


def value(text: str, series: str) -> float:
    """Return the value of one series; 0 if there is none."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return 0.0 if found is None else float(found[1])
