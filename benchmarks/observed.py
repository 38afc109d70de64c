"""What metrics cost an append: `python -m benchmarks.observed`.

Services on SQLite take turns: without metrics, for Prometheus, and for OpenTelemetry, whose SDK
exports to nowhere. Of each kind there are several, since two processes that run the same code
differ by some percent. 32 callers each, and an equal number of appends in each block. The audit log
is on in all, as it always is. Printed are the medians of the service's processor time for an append
and of the time of an append, and the ratio of each pair of blocks.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple

import psutil

from benchmarks.ours_over_http import ServiceOnSqlite
from benchmarks.over_http import CONNECTIONS, free_port

SESSIONS = 200
APPENDS = 100
"""Of each caller in a block."""
SDK = """
import os
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
exporter = ConsoleMetricExporter(out=open(os.devnull, "w"))
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(exporter)]))
"""
TEXT = "how do I get there? " * 10


class Plain(ServiceOnSqlite):
    """Without metrics."""

    def processor_time(self) -> float:
        """Seconds of all processes of the service."""
        first = psutil.Process(self._process.pid)
        times = [each.cpu_times() for each in (first, *first.children(recursive=True))]
        return float(sum(each.user + each.system for each in times))


class ForPrometheus(Plain):
    """With metrics, at a listener of their own."""

    def environment(self) -> dict[str, str]:
        return {"SESSION_SERVICE_METRICS_PORT": str(free_port())}


class ForOpenTelemetry(Plain):
    """With metrics, in a process that has configured the SDK."""

    def environment(self) -> dict[str, str]:
        site = Path(tempfile.mkdtemp(prefix="observed-"))
        (site / "sitecustomize.py").write_text(SDK, encoding="utf-8")
        return {"SESSION_SERVICE_OTEL_METRICS": "true", "PYTHONPATH": str(site)}


class Block(NamedTuple):
    """One block: seconds of the processor and of the clock for an append."""

    processor: float
    clock: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observed", description=__doc__)
    parser.add_argument("--services", type=int, default=6, help="of each kind")
    parser.add_argument("--blocks", type=int, default=10, help="of each service")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=Plain.new_loop) as runner:
        runner.run(_measured(arguments.services, arguments.blocks))


async def _measured(number: int, blocks: int) -> None:
    kinds = [Plain, ForPrometheus, ForOpenTelemetry]
    services = [await _started(kind) for _ in range(number) for kind in kinds]
    found: dict[type[Plain], list[Block]] = {kind: [] for kind in kinds}
    for round_ in range(blocks + 1):
        services = services[1:] + services[:1]
        for service, sessions in services:
            block = await _block(service, sessions)
            if round_:  # the first warms up
                found[type(service)].append(block)
    for service, _ in services:
        await service.close()
    for kind in kinds[1:]:
        _print(kind.__name__, found[Plain], found[kind])


async def _started(kind: type[Plain]) -> tuple[Plain, list[str]]:
    service = kind()
    await service.open(Path(tempfile.mkdtemp(prefix="observed-")))
    return service, await service.create("user", SESSIONS)


def _print(name: str, without: list[Block], with_: list[Block]) -> None:
    for what, field in (("processor time", "processor"), ("time", "clock")):
        plain, observed = ([getattr(each, field) for each in some] for some in (without, with_))
        ratios = [more / less for more, less in zip(observed, plain, strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        print(
            f"{name}: {what} of an append {median(plain) * 1e6:.1f} us, with metrics"
            f" {median(observed) * 1e6:.1f} us; ratio {middle:.3f} ({low:.3f} to {high:.3f})"
        )


async def _block(service: Plain, sessions: list[str]) -> Block:
    async def caller(first: int) -> None:
        for number in range(APPENDS):
            await service.append(sessions[(first + number) % SESSIONS], TEXT)

    spent, started = service.processor_time(), perf_counter()
    await asyncio.gather(*map(caller, range(CONNECTIONS)))
    count = CONNECTIONS * APPENDS
    taken = perf_counter() - started
    return Block((service.processor_time() - spent) / count, taken / count)


if __name__ == "__main__":
    main()
