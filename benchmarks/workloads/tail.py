"""Replace and pop messages at the end of a session of 1,000 messages: time of one call.

Twenty messages are replaced by twenty, after the first 1,000; one message is popped. Each pop is
followed, outside the clock, by an append, so that the length stays.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.ours import ManagedStore, SessionRef
from benchmarks.records import Report, Settings
from benchmarks.store import Handle, Store
from benchmarks.timing import Block, middle, seconds_of, take_turns

CALLS_IN_A_BLOCK = 5
LENGTH = 1_000
REPLACED = 20


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Fill two sessions, then replace in one and pop from the other in turn."""
    store = make()
    assert isinstance(store, ManagedStore)
    await store.open(directory)
    replaced, popped = await store.create("user", 2)
    await store.fill(replaced, LENGTH + REPLACED, settings.text)
    await store.fill(popped, LENGTH, settings.text)
    blocks = [_replace(store, replaced, settings.text), _pop(store, popped, settings.text)]
    durations = await take_turns(blocks, repeats=settings.blocks, budget=settings.budget)
    await store.close()
    cases = (f"replace {REPLACED} after {LENGTH:,}", f"pop 1 of {LENGTH:,}")
    return Report(
        samples=[
            middle(case, "µs a call", "lower", [one * 1e6 for one in taken], callers=1)
            for case, taken in zip(cases, durations, strict=True)
        ]
    )


def _replace(store: ManagedStore, session: SessionRef, text: str) -> Block:
    async def block() -> list[float]:
        calls = range(CALLS_IN_A_BLOCK)
        return [await seconds_of(store.replace(session, LENGTH, REPLACED, text)) for _ in calls]

    return block


def _pop(store: ManagedStore, session: SessionRef, text: str) -> Block:
    async def block() -> list[float]:
        taken: list[float] = []
        for _ in range(CALLS_IN_A_BLOCK):
            taken.append(await seconds_of(store.pop(session)))
            await store.append(session, text)
        return taken

    return block
