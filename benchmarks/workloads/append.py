"""Append one message: appends per second, over 200 sessions, at each number of callers.

Each number of callers starts on a fresh store, so that the previous one does not affect it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.records import Report, Sample, Settings
from benchmarks.store import Handle, Store, empty_folder
from benchmarks.timing import calls_per_second, exact


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Measure every number of callers."""
    report = Report()
    for callers in settings.callers:
        place = empty_folder(directory, str(callers))
        report.samples.append(await _appends_per_second(make(), settings, place, callers))
    return report


async def _appends_per_second(
    store: Store[Handle], settings: Settings, directory: Path, callers: int
) -> Sample:
    await store.open(directory)
    sessions = await store.create("user", settings.sessions)
    text = settings.text
    rate = await calls_per_second(
        lambda number: store.append(sessions[number % len(sessions)], text),
        callers=callers,
        seconds=settings.seconds,
        warm_up=settings.warm_up,
    )
    await store.close()
    return exact("append", "appends/s", "higher", rate, callers=callers)
