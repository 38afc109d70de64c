"""The metrics of ``agent-sessions serve``: who listens, and who hands over what was recorded.

prometheus-client is imported only where metrics are on; it decides at its import whether it writes
into files for several processes.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent_cores.session.service.metrics.instruments import Measurement
from agent_cores.session.service.metrics.recorder import Recorder, hand_over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_cores.session.service.app import Service
    from agent_cores.session.service.metrics.exporting import Exporter as PrometheusExporter
    from agent_cores.session.service.metrics.recorder import Exporter
    from agent_cores.session.service.settings import ServiceSettings

logger: logging.Logger = logging.getLogger("agent_cores.session.service")

_SECONDS = 1.0
"""How often recorded values are handed over."""

_tasks: dict[asyncio.Task[None], _HandingOver] = {}


@contextmanager
def metrics_of_this_process(settings: ServiceSettings) -> Iterator[PrometheusExporter | None]:
    """Serve the metrics of one process during the block, if they are on."""
    if settings.metrics_port is None:
        yield None
        return
    from agent_cores.session.service.metrics.exporting import listener  # noqa: PLC0415 - needs an extra

    with listener(settings.host, settings.metrics_port, None) as exporter:
        yield exporter


@contextmanager
def metrics_of_workers(settings: ServiceSettings) -> Iterator[None]:
    """Serve the sums over the workers that are started in the block, if metrics are on."""
    if settings.metrics_port is None:
        yield
        return
    from agent_cores.session.service.metrics import exporting  # noqa: PLC0415 - needs an extra

    with (
        exporting.folder_of_workers() as folder,
        exporting.listener(settings.host, settings.metrics_port, folder),
    ):
        yield


def exporter_of_a_worker(settings: ServiceSettings) -> PrometheusExporter | None:
    """Return what writes the metrics of this worker, if they are on."""
    if settings.metrics_port is None:
        return None
    from agent_cores.session.service.metrics.exporting import new_exporter  # noqa: PLC0415 - needs an extra

    return new_exporter()


def record(
    app: Service,
    settings: ServiceSettings,
    prometheus: PrometheusExporter | None,
    *,
    by_status: bool = True,
) -> None:
    """Measure the application from its start on, if anybody is to see the metrics."""
    exporters: list[Exporter] = [] if prometheus is None else [prometheus]
    if settings.otel_metrics:
        from agent_cores.session.service.metrics.otel import Meters  # noqa: PLC0415 - needs an extra

        exporters.append(Meters())
    if not exporters:
        return
    recorder = Recorder()

    def start() -> None:
        measured = Measurement(app, recorder, by_status=by_status)
        handing = _HandingOver(measured, recorder, exporters)
        task = asyncio.get_running_loop().create_task(handing.run())
        _tasks[task] = handing
        task.add_done_callback(_tasks.pop)

    app.on_start(start)


async def stop_recording() -> None:
    """Hand over what was recorded last.

    A stopped worker needs this: the signal that stopped it ends it before its tasks are cancelled.
    """
    loop = asyncio.get_running_loop()
    tasks = {task: handing for task, handing in _tasks.items() if task.get_loop() is loop}
    for handing in tasks.values():
        handing.stopping.set()
    await asyncio.gather(*tasks, return_exceptions=True)


class _HandingOver:
    """Hands over what was recorded: every second, and a last time once ``stopping`` is set.

    Cancelling it instead would lose what an exporter has not added yet.
    """

    def __init__(
        self, measured: Measurement, recorder: Recorder, exporters: list[Exporter]
    ) -> None:
        self.stopping = asyncio.Event()
        self._measured = measured
        self._recorder = recorder
        self._exporters = exporters
        self._is_logged = False

    async def run(self) -> None:
        try:
            while not await self._stops_within(_SECONDS):
                with self._errors_logged_once():
                    self._measured.note_now()
                await self._hand_over()
            await self._hand_over()
        finally:
            for exporter in self._exporters:
                exporter.close()

    async def _stops_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self.stopping.wait()
        except TimeoutError:
            return False

    async def _hand_over(self) -> None:
        with self._errors_logged_once():
            await hand_over(self._recorder, self._exporters)

    @contextmanager
    def _errors_logged_once(self) -> Iterator[None]:
        """Log the first error, and go on: a full disk may be cleared while the service runs."""
        try:
            yield
        except Exception:
            if not self._is_logged:
                self._is_logged = True
                logger.exception("metrics are incomplete; their further errors are not logged")
