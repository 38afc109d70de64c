"""List 10 of a user's sessions, when the user has from 10 to 100,000: time of one call.

All users are in one store, and the sizes take turns in one process, so only the size differs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.records import Report, Settings, Stop
from benchmarks.store import Handle, Store
from benchmarks.timing import Block, middle, seconds_of, take_turns

CALLS_IN_A_BLOCK = 3


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Create the users' sessions, then list them in turn."""
    report = Report()
    store = make()
    await store.open(directory)
    await store.crowd(settings.crowd)
    sizes = [size for size in settings.list_sizes if settings.within(size)]
    await _check_the_limit(store, settings)
    for size in sizes:
        await store.create(f"user-{size}", size)
    blocks = [_block(store, f"user-{size}", settings.list_limit) for size in sizes]
    durations = await take_turns(blocks, repeats=settings.blocks, budget=settings.budget)
    for size, taken in zip(sizes, durations, strict=True):
        case = f"{settings.list_limit} of {size:,}"
        microseconds = [seconds * 1e6 for seconds in taken]
        report.samples.append(middle(case, "µs a call", "lower", microseconds, callers=1))
    for size in settings.list_sizes:
        if size not in sizes:
            why = f"asked to hold at most {settings.largest:,} sessions"
            report.stops.append(Stop(f"{settings.list_limit} of {size:,}", why))
    await store.close()
    return report


async def _check_the_limit(store: Store[Handle], settings: Settings) -> None:
    """Check a listing's result before 100,000 sessions are created."""
    await store.create("asking", settings.list_limit + 1)
    came = await store.list_newest("asking", settings.list_limit)
    if came != settings.list_limit:
        raise AssertionError(f"asked for {settings.list_limit} sessions and got {came}")


def _block(store: Store[Handle], user_id: str, limit: int) -> Block:
    async def block() -> list[float]:
        return [
            await seconds_of(store.list_newest(user_id, limit)) for _ in range(CALLS_IN_A_BLOCK)
        ]

    return block
