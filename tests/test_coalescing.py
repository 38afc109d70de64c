"""Many waiting callers, one round trip; and what becomes of each caller."""

# ruff: noqa: SLF001 - tests look behind the coalescer

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import OverloadedError, StorageUnavailableError
from agent_cores.session.storage.batching import Coalescer

if TYPE_CHECKING:
    from collections.abc import Sequence


class Wire:
    """Sends batches when told to; answers an item with itself, one below 0 with an error."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Semaphore(0)
        self.broken = False

    async def send(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        await self.go.acquire()
        if self.broken:
            raise ConnectionError
        return [item if item >= 0 else ValueError(item) for item in items]


@pytest.fixture
async def wire() -> Wire:
    return Wire()


async def submitted(coalescer: Coalescer[int, int], *items: int) -> list[asyncio.Task[int]]:
    """Submit items, each by a task of its own, and let them get in line."""
    tasks = [asyncio.create_task(coalescer.submit(item, size=10)) for item in items]
    await turns()
    return tasks


async def turns() -> None:
    """Let everything that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_lone_item_leaves_at_once_and_the_next_batch_takes_all_that_wait(
    wire: Wire,
) -> None:
    coalescer = Coalescer(wire.send)
    first = await submitted(coalescer, 1)
    assert wire.batches == [[1]]
    rest = await submitted(coalescer, 2, 3, 4)
    assert wire.batches == [[1]]
    wire.go.release()
    await turns()
    assert wire.batches == [[1], [2, 3, 4]]
    wire.go.release()
    assert await asyncio.gather(*first, *rest) == [1, 2, 3, 4]


async def test_with_two_lanes_each_takes_half_and_the_one_goes_on_without_the_other(
    wire: Wire,
) -> None:
    coalescer = Coalescer(wire.send, lanes=2)
    tasks = await submitted(coalescer, *range(20))
    assert wire.batches == [[*range(10)], [*range(10, 20)]]
    wire.go.release()
    await turns()
    assert [task.done() for task in tasks] == [True] * 10 + [False] * 10
    tasks += await submitted(coalescer, *range(20, 30))
    assert wire.batches[2:] == [[*range(20, 30)]]
    tasks += await submitted(coalescer, 30, 31)
    assert len(wire.batches) == 3
    for _ in range(4):
        wire.go.release()
    assert await asyncio.gather(*tasks) == [*range(32)]
    assert wire.batches[3:] == [[30, 31]]
    await coalescer.drain()


async def test_with_two_lanes_a_few_items_stay_together(wire: Wire) -> None:
    coalescer = Coalescer(wire.send, lanes=2)
    tasks = await submitted(coalescer, 1, 2, 3)
    assert wire.batches == [[1, 2, 3]]
    wire.go.release()
    await asyncio.gather(*tasks)


async def test_a_batch_ends_at_its_items_and_at_its_bytes(wire: Wire) -> None:
    coalescer = Coalescer(wire.send, max_items=3, max_bytes=25)
    tasks = await submitted(coalescer, *range(6))
    large = [asyncio.create_task(coalescer.submit(item, size=99)) for item in (6, 7)]
    for _ in range(9):
        wire.go.release()
    assert await asyncio.gather(*tasks, *large) == list(range(8))
    assert wire.batches == [[0, 1], [2, 3], [4, 5], [6], [7]]
    by_items = Coalescer(wire.send, max_items=2)
    wire.batches.clear()
    await asyncio.gather(*await submitted(by_items, 1, 2, 3))
    assert wire.batches == [[1, 2], [3]]


async def test_each_caller_gets_its_own_answer(wire: Wire) -> None:
    coalescer = Coalescer(wire.send)
    tasks = await submitted(coalescer, 1, -2, 3)
    wire.go.release()
    wire.go.release()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert (answers[0], answers[2]) == (1, 3)
    assert isinstance(answers[1], ValueError)


async def test_a_batch_that_fails_fails_for_all_its_callers_and_no_others(wire: Wire) -> None:
    coalescer = Coalescer(wire.send)
    first = await submitted(coalescer, 1)
    lost = await submitted(coalescer, 2, 3)
    wire.go.release()
    await turns()
    wire.broken = True
    wire.go.release()
    answers = await asyncio.gather(*first, *lost, return_exceptions=True)
    assert answers[0] == 1
    assert [type(answer) for answer in answers[1:]] == [ConnectionError] * 2
    wire.broken = False
    wire.go.release()
    assert await coalescer.submit(4) == 4


async def test_a_caller_cancelled_in_line_takes_its_item_along(wire: Wire) -> None:
    coalescer = Coalescer(wire.send)
    first = await submitted(coalescer, 1)
    waiting = await submitted(coalescer, 2, 3, 4)
    waiting[1].cancel()
    for _ in range(2):
        wire.go.release()
    answers = await asyncio.gather(*first, *waiting, return_exceptions=True)
    assert isinstance(answers[2], asyncio.CancelledError)
    assert wire.batches == [[1], [2, 4]]


async def test_a_caller_cancelled_on_the_way_leaves_its_item_and_the_others(wire: Wire) -> None:
    coalescer = Coalescer(wire.send)
    tasks = await submitted(coalescer, 1)
    tasks += await submitted(coalescer, 2, 3)
    wire.go.release()
    await turns()
    tasks[1].cancel()
    wire.go.release()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert (answers[0], answers[2]) == (1, 3)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert wire.batches == [[1], [2, 3]]


async def test_a_full_line_refuses_at_once(wire: Wire) -> None:
    coalescer = Coalescer(wire.send, max_queued=2)
    tasks = await submitted(coalescer, 1)
    tasks += await submitted(coalescer, 2, 3)
    with pytest.raises(OverloadedError):
        await coalescer.submit(4)
    for _ in range(2):
        wire.go.release()
    assert await asyncio.gather(*tasks) == [1, 2, 3]


async def test_draining_answers_what_was_taken_and_takes_no_more(wire: Wire) -> None:
    coalescer = Coalescer(wire.send)
    tasks = await submitted(coalescer, 1)
    tasks += await submitted(coalescer, 2, 3)
    drained = asyncio.ensure_future(coalescer.drain())
    await turns()
    with pytest.raises(StorageUnavailableError):
        await coalescer.submit(4)
    assert not drained.done()
    for _ in range(2):
        wire.go.release()
    await drained
    assert [task.result() for task in tasks] == [1, 2, 3]
    await coalescer.drain()


async def test_a_send_that_answers_too_few_fails_every_caller() -> None:
    async def send(items: Sequence[int]) -> list[int | Exception]:
        return [item for item in items if item]

    coalescer: Coalescer[int, int] = Coalescer(send)
    answers = await asyncio.gather(
        *(coalescer.submit(number) for number in range(3)), return_exceptions=True
    )
    assert all(isinstance(answer, RuntimeError) for answer in answers)


async def test_what_the_callers_of_a_batch_send_at_once_goes_with_the_next(wire: Wire) -> None:
    coalescer = Coalescer(wire.send, lanes=2)

    async def send_twice(item: int) -> None:
        await coalescer.submit(item)
        await coalescer.submit(item + 100)

    callers = [asyncio.create_task(send_twice(item)) for item in range(20)]
    await turns()
    callers.append(asyncio.create_task(send_twice(20)))
    await turns()
    assert wire.batches == [[*range(10)], [*range(10, 20)]]
    wire.go.release()
    await turns()
    assert wire.batches[2:] == [[20, *range(100, 110)]]
    for _ in range(10):
        wire.go.release()
    await asyncio.gather(*callers)


async def test_a_lane_goes_on_at_once_if_its_share_is_waiting(wire: Wire) -> None:
    coalescer = Coalescer(wire.send, lanes=2)
    tasks = await submitted(coalescer, *range(20))
    tasks += await submitted(coalescer, *range(20, 30))
    tasks[0].add_done_callback(lambda _: seen.extend(wire.batches[2:]))
    seen: list[list[int]] = []
    wire.go.release()
    await turns()
    assert seen == [[*range(20, 30)]]
    for _ in range(2):
        wire.go.release()
    await asyncio.gather(*tasks)


async def test_a_sender_cancelled_between_two_batches_holds_nobody_up(wire: Wire) -> None:
    async def send(items: Sequence[int]) -> list[int | Exception]:
        answers = await wire.send(items)
        if items == [1]:
            asyncio.get_running_loop().call_soon(first.cancel)  # once they are handed out
        return answers

    coalescer: Coalescer[int, int] = Coalescer(send, lanes=2)
    tasks = await submitted(coalescer, 1)
    (first,) = coalescer._senders
    tasks += await submitted(coalescer, 2, 3, 4)
    tasks += await submitted(coalescer, 5)
    for _ in range(3):
        wire.go.release()
    assert await asyncio.wait_for(asyncio.gather(*tasks), 5) == [1, 2, 3, 4, 5]
    assert first.cancelled()
    await asyncio.wait_for(coalescer.drain(), 5)


async def test_senders_cancelled_before_they_began_hold_nobody_up(wire: Wire) -> None:
    coalescer = Coalescer(wire.send, lanes=2)
    tasks = [asyncio.create_task(coalescer.submit(item)) for item in (1, 2)]
    await asyncio.sleep(0)
    senders = set(coalescer._senders)
    assert len(senders) == 2
    for sender in senders:
        sender.cancel()
    await turns()
    wire.go.release()
    wire.go.release()
    assert await asyncio.wait_for(asyncio.gather(*tasks), 5) == [1, 2]
    await asyncio.wait_for(coalescer.drain(), 5)


async def test_a_batch_is_sent_in_no_callers_context(wire: Wire) -> None:
    run: ContextVar[object] = ContextVar("run")
    seen: list[object] = []

    async def send(items: Sequence[int]) -> list[int | Exception]:
        seen.append(run.get(None))
        return await wire.send(items)

    async def submit(item: int) -> int:
        run.set(object())
        return await coalescer.submit(item)

    coalescer: Coalescer[int, int] = Coalescer(send, lanes=2)
    wire.go.release()
    wire.go.release()
    assert await asyncio.gather(*(asyncio.create_task(submit(item)) for item in (1, 2))) == [1, 2]
    assert set(seen) == {None}
