"""How recorded metrics are handed over once a second, whatever an exporter does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agent_cores.session import observing
from agent_cores.session.cli import metrics
from agent_cores.session.service import ServiceSettings
from agent_cores.session.service.metrics import otel
from agent_cores.session.service.metrics.definitions import BATCHES
from agent_cores.session.service.metrics.recorder import Recorder, Taken
from tests.service.wire import Wire

Starter = Callable[[], None]


class Kept:
    """An exporter that keeps the values of batches, one at a time."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.rounds = 0
        self.error: Exception | None = None
        self.closed = False
        self.begun = asyncio.Event()

    async def add(self, taken: Taken) -> None:
        self.rounds += 1
        if self.error is not None:
            raise self.error
        for value in taken.values.get((BATCHES.name, ()), []):
            self.begun.set()
            for _ in range(20):
                await asyncio.sleep(0)
            self.values.append(value)

    def close(self) -> None:
        self.closed = True


class Recording:
    """The recording of a service, to a first exporter and then to OpenTelemetry's."""

    def __init__(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wire = wire
        self.first, self.meters = Kept(), Kept()
        starters: list[Starter] = []
        recorders: list[Recorder] = []

        def new_recorder() -> Recorder:
            recorders.append(Recorder())
            return recorders[0]

        monkeypatch.setattr(metrics, "_SECONDS", 0.01)
        monkeypatch.setattr(metrics, "Recorder", new_recorder)
        monkeypatch.setattr(otel, "Meters", lambda: self.meters)
        monkeypatch.setattr(wire.service, "on_start", starters.append)
        exporter: Any = self.first
        metrics.record(wire.service, ServiceSettings(otel_metrics=True), exporter)
        for start in starters:
            start()
        self.batches = recorders[0].values(BATCHES)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_so():  # noqa: ASYNC110 - an exporter tells nobody
                await asyncio.sleep(0.005)


@pytest.fixture
async def recording(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Recording]:
    monkeypatch.setattr(observing, "on_batch", [])
    monkeypatch.setattr(observing, "on_retry", [])
    yield Recording(wire, monkeypatch)
    await metrics.stop_recording()


async def test_an_exporter_that_fails_is_logged_once_and_the_others_go_on(
    recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    first, meters = recording.first, recording.meters
    first.error = OSError("no space left on device")
    with caplog.at_level(logging.ERROR, "agent_cores.session.service"):
        recording.batches.append(1)
        await recording.until(lambda: first.rounds >= 3 and meters.values == [1])
        [line] = caplog.records
        assert "metrics are incomplete" in line.message
        assert line.exc_info is not None
        assert isinstance(line.exc_info[1], ExceptionGroup)
        assert line.exc_info[1].__cause__ is first.error
        first.error = None
        recording.batches.append(2)
        await recording.until(lambda: first.values == [2] and meters.values == [1, 2])
        await metrics.stop_recording()
        assert len(caplog.records) == 1
    assert (first.closed, meters.closed) == (True, True)


async def test_metrics_go_on_if_the_store_does_not_tell_of_its_pool(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError

    monkeypatch.setattr(recording.wire.manager.runtime.storage, "pool_use", fail)
    recording.batches.append(1)
    await recording.until(lambda: recording.meters.rounds >= 2 and recording.meters.values == [1])


async def test_a_service_that_stops_while_values_are_handed_over_loses_none(
    recording: Recording,
) -> None:
    for value in (1, 2, 3):
        recording.batches.append(value)
    await recording.meters.begun.wait()
    recording.batches.append(4)
    await metrics.stop_recording()
    assert recording.first.values == recording.meters.values == [1, 2, 3, 4]
    assert (recording.first.closed, recording.meters.closed) == (True, True)
