"""Read, delete and trim messages in sessions of 10 and of 100,000 messages: time of one call.

The lengths take turns in one process, so only the length differs. Each deletion is followed,
outside the clock, by an append of the same message, so that the length stays. The last case keeps
all but the oldest 100 messages, in a session of 200 and in one of 10,000.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.ours import ManagedStore, SessionRef
from benchmarks.records import Report, Settings
from benchmarks.store import Handle, Store
from benchmarks.timing import Block, middle, seconds_of, take_turns

CALLS_IN_A_BLOCK = 10
LENGTHS = (10, 100_000)
TRIMMED = (200, 10_000)
REMOVED = 100


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Fill the sessions, then read from, delete from and trim them in turn."""
    report = Report()
    store = make()
    assert isinstance(store, ManagedStore)
    await store.open(directory)
    for case, block, lengths in (
        ("read 1 by id", _read, LENGTHS),
        ("delete 1 by id", _delete, LENGTHS),
        (f"delete the oldest {REMOVED}", _trim, TRIMMED),
    ):
        sessions = await store.create("user", len(lengths))
        for session, length in zip(sessions, lengths, strict=True):
            await store.fill(session, length - 1, settings.text)
            await store.append_as(session, "wanted", settings.text)
        blocks = [
            block(store, session, settings.text, length)
            for session, length in zip(sessions, lengths, strict=True)
        ]
        taken = await take_turns(blocks, repeats=settings.blocks, budget=settings.budget)
        for length, seconds in zip(lengths, taken, strict=True):
            microseconds = [one * 1e6 for one in seconds]
            name = f"{case}, of {length:,}"
            report.samples.append(middle(name, "µs a call", "lower", microseconds, callers=1))
    await store.close()
    return report


def _read(store: ManagedStore, session: SessionRef, _: str, __: int) -> Block:
    async def block() -> list[float]:
        calls = range(CALLS_IN_A_BLOCK)
        return [await seconds_of(store.read_by_id(session, "wanted")) for _ in calls]

    return block


def _delete(store: ManagedStore, session: SessionRef, text: str, _: int) -> Block:
    async def block() -> list[float]:
        taken: list[float] = []
        for _ in range(CALLS_IN_A_BLOCK):
            taken.append(await seconds_of(store.delete_by_id(session, "wanted")))
            await store.append_as(session, "wanted", text)
        return taken

    return block


def _trim(store: ManagedStore, session: SessionRef, text: str, length: int) -> Block:
    async def block() -> list[float]:
        taken = [await seconds_of(store.keep_last(session, length - REMOVED, REMOVED))]
        await store.fill(session, REMOVED, text)
        return taken

    return block
