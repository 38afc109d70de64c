"""Long work leaves room for whole requests between its slices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator

from agent_cores.session.service.request.time_slices import TimeSlices


async def test_a_short_request_is_answered_between_two_slices() -> None:
    order: list[str] = []

    def steps() -> Generator[None]:
        for step in range(2):
            time.sleep(0.006)  # longer than a slice
            order.append(f"slice {step}")
            yield

    async def request() -> None:
        for _ in range(3):  # it is read, started, and answered
            await asyncio.sleep(0)
        order.append("answer")

    work = asyncio.create_task(TimeSlices().run(steps()))
    await asyncio.gather(work, request())
    assert order == ["slice 0", "answer", "slice 1"]
