"""The metrics of ``agent-sessions serve``: who listens, and who hands over what was recorded.

prometheus-client is imported only where metrics are on; it decides at its import whether it writes
into files for several processes.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent_cores.session.service.metrics.definitions import IN_FLIGHT
from agent_cores.session.service.metrics.instruments import measure, note_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_cores.session.service.app import Service
    from agent_cores.session.service.metrics.exporting import Exporter
    from agent_cores.session.service.settings import ServiceSettings

_SECONDS = 1.0
"""How often recorded values are handed over."""

_tasks: set[asyncio.Task[None]] = set()


@contextmanager
def metrics_of_this_process(settings: ServiceSettings) -> Iterator[Exporter | None]:
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


def exporter_of_a_worker(settings: ServiceSettings) -> Exporter | None:
    """Return what writes the metrics of this worker, if they are on."""
    if settings.metrics_port is None:
        return None
    from agent_cores.session.service.metrics.exporting import new_exporter  # noqa: PLC0415 - needs an extra

    return new_exporter()


def record(app: Service, exporter: Exporter | None) -> None:
    """Measure the application from its start on; without an exporter, do nothing."""
    if exporter is None:
        return

    def start() -> None:
        task = asyncio.get_running_loop().create_task(_hand_over(app, exporter))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    app.on_start(start)


async def stop_recording() -> None:
    """Hand over what was recorded last.

    A stopped worker needs this: the signal that stopped it ends it before its tasks are cancelled.
    """
    loop = asyncio.get_running_loop()
    tasks = [task for task in _tasks if task.get_loop() is loop]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _hand_over(app: Service, exporter: Exporter) -> None:
    recorder, storage = measure(app), app.manager.runtime.storage
    try:
        while True:
            await asyncio.sleep(_SECONDS)
            recorder.gauges[IN_FLIGHT.name] = app.in_flight
            note_pool(storage, recorder)
            exporter.take(recorder)
    finally:
        exporter.take(recorder)
