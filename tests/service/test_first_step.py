"""An awaitable is taken as far as it goes, and awaited only for the rest."""

from __future__ import annotations

import asyncio

import pytest

from agent_cores.session.service.request.first_step import FirstStep


async def at_once() -> str:
    return "value"


async def later(gate: asyncio.Event) -> str:
    await asyncio.sleep(0)
    await gate.wait()
    return "value"


async def failing(gate: asyncio.Event) -> str:
    await gate.wait()
    raise KeyError("late")


async def test_what_need_not_wait_is_over_at_once() -> None:
    first = FirstStep(at_once())
    assert first.is_over
    assert first.value == "value"


async def test_the_rest_is_awaited() -> None:
    gate = asyncio.Event()
    first = FirstStep(later(gate))
    assert not first.is_over
    asyncio.get_running_loop().call_later(0.01, gate.set)
    assert await first.rest() == "value"


async def test_a_future_is_an_awaitable_too() -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    first = FirstStep(future)
    asyncio.get_running_loop().call_soon(future.set_result, "value")
    assert await first.rest() == "value"


async def test_an_error_of_the_first_step_comes_at_once() -> None:
    async def broken() -> str:
        raise KeyError("early")

    with pytest.raises(KeyError, match="early"):
        FirstStep(broken())


async def test_an_error_of_the_rest_comes_from_the_rest() -> None:
    gate = asyncio.Event()
    first = FirstStep(failing(gate))
    gate.set()
    with pytest.raises(KeyError, match="late"):
        await first.rest()


async def test_a_timeout_reaches_what_waits() -> None:
    told: list[str] = []

    async def waiting() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    first = FirstStep(waiting())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await first.rest()
    assert told == ["cancelled"]


async def test_what_is_cancelled_may_still_end_well() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "value"
        return "never"

    first = FirstStep(stubborn())
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    assert await first.rest() == "value"
    task.uncancel()
