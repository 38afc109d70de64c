"""Timing: calls per second with many callers, and durations of blocks that take turns.

Every workload measures with these two, so that all contenders are timed in the same way. Nothing
here depends on a store. Standard library only.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import statistics
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter

from benchmarks.records import Better, Sample

Call = Callable[[int], Awaitable[object]]
Block = Callable[[], Awaitable[list[float]]]


async def calls_per_second(call: Call, *, callers: int, seconds: float, warm_up: float) -> float:
    """Measure calls per second while `callers` tasks each wait for their own response.

    `call` receives a running number. The clock stops when the last caller has its last response.
    """
    await _call_until(call, callers, warm_up)
    gc.collect()
    started = perf_counter()
    done = await _call_until(call, callers, seconds)
    return done / (perf_counter() - started)


async def _call_until(call: Call, callers: int, seconds: float) -> int:
    numbers = itertools.count()
    deadline = perf_counter() + seconds

    async def caller() -> int:
        done = 0
        while perf_counter() < deadline:
            await call(next(numbers))
            done += 1
        return done

    return sum(await asyncio.gather(*(caller() for _ in range(callers))))


async def seconds_of(call: Awaitable[object]) -> float:
    """Measure how long one call takes."""
    started = perf_counter()
    await call
    return perf_counter() - started


async def take_turns(
    blocks: Sequence[Block], *, repeats: int, budget: float, at_least: int = 3
) -> list[list[float]]:
    """Run the blocks in turn, repeatedly, so that noise affects all of them equally.

    Stop after `repeats` rounds, or earlier once `budget` seconds are spent and `at_least` rounds
    have run. Return the durations of each block, in the order given.
    """
    durations: list[list[float]] = [[] for _ in blocks]
    gc.collect()
    started = perf_counter()
    for done in range(repeats):
        if done >= at_least and perf_counter() - started > budget:
            break
        for block, taken in zip(blocks, durations, strict=True):
            taken.extend(await block())
    return durations


def middle(
    case: str, unit: str, better: Better, values: Sequence[float], *, callers: int | None = None
) -> Sample:
    """The median of `values`, with the quartiles as low and high."""
    low, median, high = (
        statistics.quantiles(values, n=4, method="inclusive")
        if len(values) > 1
        else (values[0], values[0], values[0])
    )
    return Sample(case, unit, better, median, low, high, callers)


def exact(
    case: str, unit: str, better: Better, value: float, *, callers: int | None = None
) -> Sample:
    """A sample of one measurement; its spread comes from the rounds."""
    return Sample(case, unit, better, value, value, value, callers)
