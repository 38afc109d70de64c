"""Append one message over HTTP: requests per second, 32 connections, over 200 sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.over_http import CONNECTIONS
from benchmarks.records import Report, Settings
from benchmarks.store import Handle, Store, empty_folder
from benchmarks.timing import calls_per_second, exact


async def run(make: Callable[[], Store[Handle]], settings: Settings, directory: Path) -> Report:
    """Measure once, on a fresh store."""
    store = make()
    await store.open(empty_folder(directory, "append"))
    sessions = await store.create("user", settings.sessions)
    rate = await calls_per_second(
        lambda number: store.append(sessions[number % len(sessions)], settings.text),
        callers=CONNECTIONS,
        seconds=2 * settings.seconds,
        warm_up=settings.warm_up,
    )
    await store.close()
    return Report(samples=[exact("append", "requests/s", "higher", rate, callers=CONNECTIONS)])
