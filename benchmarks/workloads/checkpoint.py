"""Read LangGraph's checkpoints, by id and the latest, of 10 and of 1,000; put them with writes.

The lengths take turns in one process. A checkpoint in the middle of the thread is read by its id.
What is put, over 200 threads by 100 callers, is a checkpoint and then the pending writes of a task.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.records import Report, Settings
from benchmarks.store import Handle, Store
from benchmarks.timing import Block, calls_per_second, exact, middle, seconds_of, take_turns

CALLS_IN_A_BLOCK = 5
CALLERS = 100
LENGTHS = (10, 1_000)


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Fill a thread of each length, then read from them in turn."""
    store: Any = make()
    await store.open(directory)
    blocks: list[Block] = []
    cases: list[str] = []
    for length in LENGTHS:
        [thread] = await store.create("user", 1)
        await store.fill(thread, length // 2, settings.text)
        named = thread.config
        await store.fill(thread, length - length // 2, settings.text)
        blocks += [_by_id(store, named), _latest(store, thread)]
        cases += [f"by id, of {length:,}", f"the latest of {length:,}"]
    durations = await take_turns(blocks, repeats=settings.blocks, budget=settings.budget)
    samples = [
        middle(case, "µs a call", "lower", [one * 1e6 for one in taken], callers=1)
        for case, taken in zip(cases, durations, strict=True)
    ]
    threads = await store.create("user", settings.sessions)
    rate = await calls_per_second(
        lambda number: store.step(threads[number % len(threads)], settings.text),
        callers=CALLERS,
        seconds=settings.seconds,
        warm_up=settings.warm_up,
    )
    samples.append(exact("put with writes", "steps/s", "higher", rate, callers=CALLERS))
    await store.close()
    return Report(samples=samples)


def _by_id(store: Any, config: Any) -> Block:  # noqa: ANN401
    async def block() -> list[float]:
        return [await seconds_of(store.read_by_id(config)) for _ in range(CALLS_IN_A_BLOCK)]

    return block


def _latest(store: Any, thread: Any) -> Block:  # noqa: ANN401
    async def block() -> list[float]:
        return [await seconds_of(store.read_last(thread, 1)) for _ in range(CALLS_IN_A_BLOCK)]

    return block
