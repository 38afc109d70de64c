"""Read the last messages of a session by its length: reads per second, with 1 and 100 callers.

Ten messages are read, so that the shortest session has as many as the others. Of LangGraph it is
the latest checkpoint, which holds the whole state.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.records import Report, Settings, Stop
from benchmarks.store import Handle, Store
from benchmarks.timing import calls_per_second, exact

LIMIT = 10
CALLERS = (1, 100)


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Fill a session of each length, then read from them, one length after the other."""
    report = Report()
    store = make()
    await store.open(directory)
    for length in settings.depths:
        if not settings.within(length):
            why = f"asked to hold at most {settings.largest:,} messages"
            report.stops.append(Stop(case_of(length), why))
            continue
        [session] = await store.create("user", 1)
        await store.fill(session, length, settings.text)
        if (came := await store.read_last(session, LIMIT)) != LIMIT:
            raise AssertionError(f"asked for the last {LIMIT} messages and got {came}")
        for callers in CALLERS:
            rate = await calls_per_second(
                partial(_read, store, session),
                callers=callers,
                seconds=settings.seconds / 2,
                warm_up=settings.warm_up / 2,
            )
            report.samples.append(
                exact(case_of(length), "reads/s", "higher", rate, callers=callers)
            )
    await store.close()
    return report


async def _read(store: Store[Handle], session: Handle, _: int) -> None:
    await store.read_last(session, LIMIT)


def case_of(length: int) -> str:
    """The case of the sessions of one length."""
    return f"last {LIMIT} of {length:,}"
