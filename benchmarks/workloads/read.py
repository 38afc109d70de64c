"""Read the last 50 of 1,000 messages: reads per second, at each number of callers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.records import Report, Settings
from benchmarks.store import Handle, Store
from benchmarks.timing import calls_per_second, exact


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Fill once, check a read's result, then measure every number of callers."""
    report = Report()
    store = make()
    await store.open(directory)
    sessions = await store.create("user", settings.read_sessions)
    for session in sessions:
        await store.fill(session, settings.read_length, settings.text)
    limit = settings.read_limit
    came = await store.read_last(sessions[0], limit)
    if came != limit:
        raise AssertionError(f"asked for the last {limit} messages and got {came}")
    for callers in settings.callers:
        rate = await calls_per_second(
            lambda number: store.read_last(sessions[number % len(sessions)], limit),
            callers=callers,
            seconds=settings.seconds / 2,
            warm_up=settings.warm_up / 2,
        )
        case = f"last {limit} of {settings.read_length:,}"
        report.samples.append(exact(case, "reads/s", "higher", rate, callers=callers))
    await store.close()
    return report
