"""Create an empty session: creates per second, at each number of callers.

Each number of callers starts on a fresh store that holds one session. Every session belongs to the
same user.
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
        report.samples.append(await _creates_per_second(make(), settings, place, callers))
    return report


async def _creates_per_second(
    store: Store[Handle], settings: Settings, directory: Path, callers: int
) -> Sample:
    await store.open(directory)
    await store.create("user", 1)
    rate = await calls_per_second(
        lambda _: store.create_session("user"),
        callers=callers,
        seconds=settings.seconds,
        warm_up=settings.warm_up,
    )
    await store.close()
    return exact("create", "creates/s", "higher", rate, callers=callers)
