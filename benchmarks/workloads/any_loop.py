"""A manager of any loop: single appends from its own loop and another, and many from 8 loops.

The two cases of one caller take turns, and so do those of many.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

from benchmarks.ours import AnyLoopStore, SessionRef
from benchmarks.records import Report, Settings
from benchmarks.store import Handle, Store
from benchmarks.timing import Block, middle, seconds_of, take_turns

LOOPS = 8
CALLERS = 12
"""Callers in each loop."""
CALLS_IN_A_BLOCK = 20


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Measure one caller, then many."""
    store = make()
    assert isinstance(store, AnyLoopStore)
    await store.open(directory)
    sessions = await store.create("user", settings.sessions)
    numbers = itertools.count()

    async def append() -> None:
        session: SessionRef = sessions[next(numbers) % len(sessions)]
        await store.append(session, settings.text)

    async def alone() -> list[float]:
        return [await seconds_of(append()) for _ in range(CALLS_IN_A_BLOCK)]

    report = Report()
    ways: list[Block] = [lambda: store.in_its_own_loop(alone), alone]
    taken = await take_turns(ways, repeats=settings.blocks, budget=settings.budget)
    for case, seconds in zip(("own loop", "another loop"), taken, strict=True):
        microseconds = [one * 1e6 for one in seconds]
        report.samples.append(middle(case, "µs a call", "lower", microseconds, callers=1))

    async def many(callers: int) -> int:
        return await _calls_until(append, callers, perf_counter() + settings.seconds)

    many_ways: list[Block] = [
        lambda: _rate(store.in_its_own_loop(lambda: many(LOOPS * CALLERS))),
        lambda: _rate(many(LOOPS * CALLERS)),
        lambda: _rate(_from_threads(lambda: many(CALLERS))),
    ]
    names = ("own loop", "another loop", f"{LOOPS} loops in {LOOPS} threads")
    rates = await take_turns(many_ways, repeats=3, budget=0, at_least=3)
    for case, found in zip(names, rates, strict=True):
        sample = middle(case, "appends/s", "higher", found, callers=LOOPS * CALLERS)
        report.samples.append(sample)
    await store.close()
    return report


async def _rate(calls: Awaitable[int]) -> list[float]:
    started = perf_counter()
    return [await calls / (perf_counter() - started)]


async def _calls_until(append: Callable[[], Awaitable[None]], callers: int, deadline: float) -> int:
    async def caller() -> int:
        done = 0
        while perf_counter() < deadline:
            await append()
            done += 1
        return done

    return sum(await asyncio.gather(*(caller() for _ in range(callers))))


async def _from_threads(many: Callable[[], Awaitable[int]]) -> int:
    async def in_a_loop() -> int:
        return await many()

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(LOOPS) as pool:
        runs = [loop.run_in_executor(pool, lambda: asyncio.run(in_a_loop())) for _ in range(LOOPS)]
        return sum(await asyncio.gather(*runs))
