"""Load a service for some minutes: `python -m benchmarks.soak --store postgres --minutes 10`.

The peak is measured first; the load is then 80 % of it, and workers are replaced each minute. It
exits with 1 if an acknowledged write is lost or stored twice, if there is a response of 400 or more
but a 503 with `Retry-After`, if the service logs an error, or if memory, descriptors or tasks grow.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import monotonic
from typing import NamedTuple

import uvloop

from benchmarks.footprint import STORES
from benchmarks.machine import facts
from benchmarks.soak.chart import Panel, as_svg
from benchmarks.soak.check import Found, stored
from benchmarks.soak.load import CALLERS, MIX, Load
from benchmarks.soak.service import WORKERS, Service, Size

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
SETTLED = 15
"""Seconds after a replacement from which sizes are compared: new workers fill their caches."""
MOST_GROWTH = {"memory": 1.15, "descriptors": 1.10, "tasks": 1.20}


class Sample(NamedTuple):
    """One second of the run."""

    requests: float
    slowest: float
    size: Size


class Run(NamedTuple):
    """The whole run."""

    peak: float
    samples: list[Sample]
    marks: list[int]


def main() -> int:
    """Run, check, draw; return 1 if something is not as it should be."""
    arguments = _arguments()
    with STORES[arguments.store]() as store, Service(store.url) as service:
        load = Load(service.port, service.key)
        run = uvloop.run(_loaded(service, load, arguments))
        errors = service.errors
        found = asyncio.run(stored(store.url, load))
    problems = [*_problems(load, found, run), *(f"logged: {line}" for line in errors[:5])]
    notes = _notes(arguments, load, found, run, problems)
    print("\n".join(notes))
    if arguments.out is not None:
        title = f"{arguments.store}: {arguments.minutes:g} minutes at 80 % of the peak"
        arguments.out.write_text(as_svg(title, notes, _panels(run), run.marks))
    return int(bool(problems))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--store", choices=STORES, default="sqlite")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--share", type=float, default=0.8, help="of the measured peak")
    parser.add_argument("--replace-every", type=float, default=60.0, help="seconds")
    parser.add_argument("--out", type=Path, help=f"an SVG file, such as {PICTURES}/soak-sqlite.svg")
    return parser.parse_args()


async def _loaded(service: Service, load: Load, arguments: argparse.Namespace) -> Run:
    await load.prepare()
    _say("measuring the peak")
    await load.run(3)
    peak = await load.run(10)
    _say(f"the peak: {peak:.0f} requests a second")
    load.latencies.clear()
    samples: list[Sample] = []
    marks: list[int] = []
    sampling = asyncio.create_task(_sampled(service, load, samples))
    replacing = asyncio.create_task(_replaced(service, arguments.replace_every, marks))
    await load.run(arguments.minutes * 60, peak * arguments.share)
    for task in (sampling, replacing):
        task.cancel()
    return Run(peak, samples, [second for second in marks if second < len(samples)])


async def _sampled(service: Service, load: Load, samples: list[Sample]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        before, started = load.done, loop.time()
        await asyncio.sleep(1)
        size = await loop.run_in_executor(None, service.size)
        latencies = sorted(load.latencies)
        load.latencies.clear()
        slowest = latencies[len(latencies) * 99 // 100] * 1e3 if latencies else 0.0
        samples.append(Sample((load.done - before) / (loop.time() - started), slowest, size))


async def _replaced(service: Service, every: float, marks: list[int]) -> None:
    started = monotonic()
    while True:
        await asyncio.sleep(every)
        service.replace_workers()
        marks.append(round(monotonic() - started))
        _say(f"{marks[-1]} s: workers are replaced")


def _problems(load: Load, found: Found, run: Run) -> list[str]:
    problems = list(load.wrong[:5])
    if found.lost or found.twice or found.holes:
        problems.append(
            f"{found.lost} acknowledged messages are lost, {found.twice} are stored twice,"
            f" {found.holes} sessions have holes"
        )
    for name, most in MOST_GROWTH.items():
        early, late = _early_and_late(run, name)
        if late > early * most:
            problems.append(f"{name} grew from {early:.0f} to {late:.0f}")
    return problems


def _early_and_late(run: Run, name: str) -> tuple[float, float]:
    """The medians of the two halves of the run, without the seconds around a replacement."""
    values = [
        float(getattr(sample.size, name))
        for second, sample in enumerate(run.samples)
        if sample.size.processes >= WORKERS and _is_settled(second, run.marks)
    ]
    middle = len(values) // 2
    return (median(values[:middle]), median(values[middle:])) if middle else (0.0, 0.0)


def _is_settled(second: int, marks: Sequence[int]) -> bool:
    return second >= SETTLED and not any(0 <= second - mark < SETTLED for mark in marks)


def _notes(
    arguments: argparse.Namespace, load: Load, found: Found, run: Run, problems: Sequence[str]
) -> list[str]:
    machine = facts()
    mix = ", ".join(f"{share} % {kind}" for kind, share in MIX.items())
    acknowledged = sum(map(len, load.acknowledged.values()))
    statuses = ", ".join(f"{count:,} x {status}" for status, count in sorted(load.statuses.items()))
    sizes = [
        f"{name} {early:.0f} -> {late:.0f}" if late else f"{name}: too short a run to say"
        for name in MOST_GROWTH
        for early, late in [_early_and_late(run, name)]
    ]
    return [
        (
            f"{datetime.now(UTC):%Y-%m-%d}, {machine['cores']} cores ({machine['processor']}),"
            f" Python {machine['Python']}, load from the same machine"
        ),
        f"{mix}; {CALLERS} connections",
        (
            f"peak {run.peak:,.0f} requests/s, load {run.peak * arguments.share:,.0f};"
            f" {WORKERS} workers, replaced {len(run.marks)} times by SIGTERM"
        ),
        f"responses: {statuses}; {load.unanswered} without one, asked for again",
        (
            f"acknowledged {acknowledged:,} messages: {found.lost} lost,"
            f" {found.twice} stored twice; {found.messages:,} stored"
        ),
        f"half to half: {', '.join(sizes)}",
        *(f"PROBLEM: {problem}" for problem in problems),
    ]


def _panels(run: Run) -> list[Panel]:
    return [
        Panel("requests a second", [one.requests for one in run.samples]),
        Panel("slowest per cent, milliseconds", [one.slowest for one in run.samples]),
        Panel("memory of all workers, MB", [one.size.memory for one in run.samples]),
        Panel("open descriptors", [one.size.descriptors for one in run.samples]),
        Panel("asyncio tasks", [one.size.tasks for one in run.samples]),
    ]


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
