"""``Slices``: long work on the event loop, a few milliseconds at a time, one piece at once."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")
_SECONDS = 0.005
_ROUNDS = 4
"""Rounds of the event loop between two slices: what a short request takes to be answered."""


class Slices:
    """Takes turns with everything else on the event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, steps: Generator[None, None, T]) -> T:
        """Run a generator to its end and return its value; others run between its steps.

        One at a time: were there many, everything else would wait for a slice of each.
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
