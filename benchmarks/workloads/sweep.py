"""Sweep expired sessions: time per removed session, against how many are stored.

The sessions expire by the real clock, a second after they were created: no clock is faked, so a
store may compare its clock with its caller's. Each case has its own number of stored sessions;
cases of equal number share a store, and all cases take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from benchmarks.records import Report, Settings
from benchmarks.store import Handle, Store, empty_folder
from benchmarks.timing import middle

LIFETIME = 1.0
PAUSE = 0.25


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Fill a store of each size, then sweep each case in turn."""
    report = Report()
    stores = {}
    for stored in sorted({stored for _, stored in settings.sweeps}):
        stores[stored] = await _filled(make(), empty_folder(directory, str(stored)), stored)
    taken: dict[tuple[int, int], list[float]] = {case: [] for case in settings.sweeps}
    for _ in range(settings.sweep_repeats):
        for due, stored in settings.sweeps:
            taken[due, stored].append(await _sweep_seconds(stores[stored], due))
    for (due, stored), durations in taken.items():
        each = [seconds * 1e6 / due for seconds in durations]
        case = f"{due:,} due of {stored:,}"
        report.samples.append(middle(case, "µs a session", "lower", each))
    for store in stores.values():
        await store.close()
    return report


async def _filled(store: Store[Handle], directory: Path, stored: int) -> Store[Handle]:
    await store.open(directory)
    await store.create("user", stored)
    return store


async def _sweep_seconds(store: Store[Handle], due: int) -> float:
    await store.create_expiring("user", due, LIFETIME)
    await asyncio.sleep(LIFETIME + PAUSE)
    started = perf_counter()
    swept = await store.sweep()
    taken = perf_counter() - started
    if swept != due:
        raise AssertionError(f"{due} sessions were due and the sweep took {swept}")
    return taken
