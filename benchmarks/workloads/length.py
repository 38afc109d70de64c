"""Append to a session that already holds from 10 to 100,000 messages: time of one append.

The lengths take turns in one process, so only the length differs. A block is ten appends by one
caller, or 100 appends by 100 concurrent callers, all to one session. The short session is a new one
in every block, created before the clock starts, because it grows while it is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from benchmarks.records import Report, Sample, Settings, Stop
from benchmarks.store import Handle, Store
from benchmarks.timing import Block, middle, seconds_of, take_turns

APPENDS_IN_A_BLOCK = 10
CALLERS_AT_ONCE = 100
SHORT = 100

NextSession: TypeAlias = Callable[[], Awaitable[Handle]]


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Fill the sessions, then append to them in turn, with 1 and 100 callers."""
    report = Report()
    store = make()
    await store.open(directory)
    await store.crowd(settings.crowd)
    lengths = [length for length in settings.lengths if settings.within(length)]
    ready = [await _sessions(store, settings, length) for length in lengths]
    for callers in (1, CALLERS_AT_ONCE):
        blocks = [_block(store, settings.text, session, callers) for session in ready]
        durations = await take_turns(blocks, repeats=settings.blocks, budget=settings.budget / 2)
        for length, taken in zip(lengths, durations, strict=True):
            report.samples.append(_sample(length, callers, taken))
    for length in settings.lengths:
        if length not in lengths:
            why = f"asked to hold at most {settings.largest:,} messages"
            report.stops.append(Stop(f"at {length:,}", why))
    await store.close()
    return report


def _sample(length: int, callers: int, taken: list[float]) -> Sample:
    microseconds = [seconds * 1e6 for seconds in taken]
    return middle(f"at {length:,}", "µs an append", "lower", microseconds, callers=callers)


def _block(
    store: Store[Handle], text: str, next_session: NextSession[Handle], callers: int
) -> Block:
    async def alone() -> list[float]:
        session = await next_session()
        return [await seconds_of(store.append(session, text)) for _ in range(APPENDS_IN_A_BLOCK)]

    async def together() -> list[float]:
        session = await next_session()
        appends = [store.append(session, text) for _ in range(callers)]
        return [await seconds_of(asyncio.gather(*appends)) / callers]

    return alone if callers == 1 else together


async def _sessions(store: Store[Handle], settings: Settings, length: int) -> NextSession[Handle]:
    """Return the session for the next block: the same long one, or a new short one."""

    async def new() -> Handle:
        [session] = await store.create("user", 1)
        await store.fill(session, length, settings.text)
        return session

    if length < SHORT:
        return new
    kept = await new()

    async def again() -> Handle:
        return kept

    return again
