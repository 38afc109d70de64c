"""List 10 sessions as an operator, of 10 and of 100,000 in one store; trim a long session.

The sessions of each size have their own owner, tag and metadata, and the 10 are as new as the
newest of the 100,000, so that only the number of matches differs. A page by metadata examines about
1,000 sessions at most, and may be short. The last case keeps the last 100 of 10,000 messages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.ours import ManagedStore
from benchmarks.records import Report, Settings
from benchmarks.store import Handle, Store
from benchmarks.timing import Block, middle, seconds_of, take_turns

CALLS_IN_A_BLOCK = 3
KEPT = 100
TRIMMED = (1_000, 10_000)
FILTERS = ("owner", "tag", "metadata")


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Create the sessions, then list them in turn; then trim."""
    store = make()
    assert isinstance(store, ManagedStore)
    await store.open(directory)
    sizes = (settings.list_sizes[-1], settings.list_sizes[0])
    for size in sizes:
        await store.create_marked(f"of-{size}", size)
    report = Report()
    for by in FILTERS:
        await _listed(store, by, sizes, settings, report)
    await _trimmed(store, settings, report)
    await store.close()
    return report


async def _listed(
    store: ManagedStore, by: str, sizes: tuple[int, ...], settings: Settings, report: Report
) -> None:
    limit = settings.list_limit
    for size in sizes:
        found = await store.list_as_operator(by, f"of-{size}", limit)
        assert found == limit or by == "metadata", f"asked for {limit} sessions and got {found}"
    blocks = [_block(store, by, f"of-{size}", limit) for size in sizes]
    durations = await take_turns(blocks, repeats=settings.blocks, budget=settings.budget)
    for size, taken in zip(sizes, durations, strict=True):
        case = f"{limit} of {size:,} by {by}"
        microseconds = [one * 1e6 for one in taken]
        report.samples.append(middle(case, "µs a call", "lower", microseconds, callers=1))


def _block(store: ManagedStore, by: str, mark: str, limit: int) -> Block:
    def call() -> Awaitable[object]:
        return store.list_as_operator(by, mark, limit)

    async def block() -> list[float]:
        return [await seconds_of(call()) for _ in range(CALLS_IN_A_BLOCK)]

    return block


async def _trimmed(store: ManagedStore, settings: Settings, report: Report) -> None:
    """Measure a message that goes: proportional if it costs the same at both lengths."""
    sessions = await store.create("trimmed", len(TRIMMED))

    def block_of(at: int) -> Block:
        async def block() -> list[float]:
            await store.fill(sessions[at], TRIMMED[at] - KEPT, settings.text)
            gone = TRIMMED[at] - KEPT
            return [await seconds_of(store.keep_last(sessions[at], KEPT, gone)) / gone]

        return block

    for session in sessions:
        await store.fill(session, KEPT, settings.text)
    blocks = [block_of(at) for at in range(len(TRIMMED))]
    durations = await take_turns(blocks, repeats=settings.blocks, budget=settings.budget)
    for length, taken in zip(TRIMMED, durations, strict=True):
        case = f"keep the last {KEPT} of {length:,}"
        microseconds = [one * 1e6 for one in taken]
        report.samples.append(middle(case, "µs a message", "lower", microseconds, callers=1))
