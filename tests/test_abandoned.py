"""Which writes count as abandoned, until when, and how long others wait for them."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.deadline import counting_down
from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.models import Applied
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.abandoned import Abandoned
from agent_cores.session.storage.batching import Coalescer
from agent_cores.session.storage.sql.errors import LockedError
from agent_cores.session.storage.sql.retry_queues import RetryQueues
from agent_cores.session.testing.samples import change_of, new_header

if TYPE_CHECKING:
    from collections.abc import Sequence


class Sender:
    """A coalescer whose batches are sent until ``answer`` is called, and what it abandoned."""

    def __init__(self) -> None:
        self.abandoned: list[tuple[int, asyncio.Future[int]]] = []
        self._reply: asyncio.Future[int | Exception] = asyncio.get_running_loop().create_future()
        self._queue = Coalescer(
            self._send, on_abandoned=lambda *found: self.abandoned.append(found)
        )

    async def _send(self, items: Sequence[int]) -> list[int | Exception]:
        reply = await self._reply
        return [reply for _ in items]

    def cancel_batch(self) -> None:
        """Cancel the task that sends the batch in flight, as a program that cancels all does."""
        for task in self._queue._senders:  # noqa: SLF001 - the task has no name
            task.cancel()

    def answer(self, reply: int | Exception) -> None:
        """Answer the batch in flight."""
        self._reply.set_result(reply)

    async def submitted(self, item: int) -> asyncio.Task[int]:
        """Submit an item; return its task once the batch is in flight or the item is queued."""
        task = asyncio.create_task(self._queue.submit(item))
        await turns()
        return task


async def turns() -> None:
    """Let everything that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_item_in_flight_is_abandoned_until_its_result_is_there() -> None:
    sender = Sender()
    (await sender.submitted(1)).cancel()
    await turns()
    [(item, result)] = sender.abandoned
    assert (item, result.done()) == (1, False)
    sender.answer(7)
    assert await result == 7


async def test_an_item_that_fails_is_over_too() -> None:
    sender = Sender()
    (await sender.submitted(1)).cancel()
    await turns()
    sender.answer(ValueError("refused"))
    with pytest.raises(ValueError, match="refused"):
        await sender.abandoned[0][1]


async def test_an_item_that_is_queued_is_taken_back_and_not_abandoned() -> None:
    sender = Sender()
    first = await sender.submitted(1)
    (await sender.submitted(2)).cancel()
    await turns()
    sender.answer(7)
    await first
    assert sender.abandoned == []


@pytest.mark.parametrize("iterations", [0, 1])
async def test_an_item_whose_result_comes_with_the_cancellation_is_not_abandoned(
    iterations: int,
) -> None:
    sender = Sender()
    task = await sender.submitted(1)
    sender.answer(7)  # delivered in the loop's next iteration; the caller wakes in the one after
    for _ in range(iterations):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sender.abandoned == []


async def test_others_wait_for_the_abandoned_writes_of_their_session_only() -> None:
    abandoned: Abandoned[str] = Abandoned()
    loop = asyncio.get_running_loop()
    writes = [loop.create_future() for _ in range(2)]
    for write in writes:
        abandoned.add("talk", write)
    await abandoned.over("other")
    waiting = asyncio.create_task(abandoned.over("talk"))
    for write in writes:
        await turns()
        assert not waiting.done()
        write.set_exception(ConnectionError())
    await waiting
    assert not abandoned.writes


async def test_who_waits_until_the_deadline_has_written_nothing() -> None:
    abandoned: Abandoned[str] = Abandoned()
    abandoned.add("talk", asyncio.get_running_loop().create_future())

    async def write() -> None:
        with counting_down(0):
            await abandoned.over("talk")

    waiting = asyncio.create_task(write())
    await turns()
    waiting.cancel()  # as the engine does at the deadline
    with pytest.raises(StorageUnavailableError, match="nothing was written") as late:
        await waiting
    assert not late.value.outcome_unknown


async def test_who_is_cancelled_while_waiting_is_cancelled() -> None:
    abandoned: Abandoned[str] = Abandoned()
    abandoned.add("talk", asyncio.get_running_loop().create_future())
    waiting = asyncio.create_task(abandoned.over("talk"))
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_change_that_is_tried_again_is_abandoned_until_that_attempt_is_over() -> None:
    abandoned: Abandoned[tuple[str, str]] = Abandoned()
    go, attempts = asyncio.Event(), 0

    async def run(changes: Sequence[Any], **_: float) -> list[Applied | Exception]:
        nonlocal attempts
        attempts += 1
        await go.wait()
        raise LockedError

    queues = RetryQueues(run, abandoned, parallel=1, margin=0, max_queued=10)
    header = new_header(at=utc_now())
    change = change_of(header, utc_now())
    end = asyncio.get_running_loop().time() + 30
    task = asyncio.create_task(queues.submit(change, 1, end))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    waiting = asyncio.create_task(abandoned.over((header.namespace, header.session_id)))
    await turns()
    assert not waiting.done()
    go.set()
    await waiting
    await queues.drain()
    assert attempts == 1


async def test_a_cancelled_batch_keeps_nobody_waiting() -> None:
    sender = Sender()
    (await sender.submitted(1)).cancel()
    await turns()
    [(_, result)] = sender.abandoned
    sender.cancel_batch()
    with pytest.raises(StorageUnavailableError) as lost:
        await result
    assert lost.value.outcome_unknown


async def test_all_tasks_may_be_cancelled_at_once() -> None:
    sender = Sender()
    caller = await sender.submitted(1)
    sender.cancel_batch()
    caller.cancel()
    await turns()
    assert all(result.done() for _, result in sender.abandoned)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
async def test_the_error_of_an_abandoned_item_may_be_nobody_s(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender = Sender()
    (await sender.submitted(1)).cancel()
    await turns()
    sender.answer(ValueError("refused"))
    await turns()
    sender.abandoned.clear()
    gc.collect()
    assert not caplog.records
