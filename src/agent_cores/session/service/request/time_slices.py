"""``TimeSlices``: long work on the event loop, done a few milliseconds at a time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")
_SECONDS = 0.005
_ROUNDS = 4
"""Event loop iterations between two slices: enough to handle a short request."""


class TimeSlices:
    """Runs generators in slices, one generator at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, steps: Generator[None, None, T]) -> T:
        """Run a generator to its end and return its value; other tasks run between its slices.

        Running several in turn would make every other task wait for a slice of each.
        """
        async with self._turn:
            until = time.perf_counter() + _SECONDS
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    value: T = end.value
                    return value
                if time.perf_counter() >= until:
                    for _ in range(_ROUNDS):
                        await asyncio.sleep(0)
                    until = time.perf_counter() + _SECONDS
