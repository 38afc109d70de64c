"""``Coalescer``: many waiting callers, one round trip.

While a batch is on its way in every lane, new callers queue; the next batch takes the lane's share
of them. It never waits to fill a batch. It knows nothing of what it sends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from agent_cores.session.deadline import time_left
from agent_cores.session.errors import OverloadedError, StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ITEMS = 500
MAX_BYTES = 4 * 1024 * 1024
MAX_QUEUED = 10_000
WORTH_A_LANE = 8
"""Fewer items than this go in one batch: what one caller sends together stays together."""


class _Waiting(msgspec.Struct, Generic[Item, Result]):
    item: Item
    size: int
    future: asyncio.Future[Result]
    left: bool = False


class Coalescer(Generic[Item, Result]):
    """Collects items from many callers and sends them in batches, at most ``lanes`` at a time.

    With two lanes the callers of one batch go on while the server has the other: each takes half of
    all that wait or are on their way, or a few.

    ``send`` takes the items of a batch and answers one result or error for each, in order; if it
    raises, every caller of the batch gets that error. A caller cancelled before its batch left
    takes its item with it; later, its item goes on without it. One whose deadline passes before
    its batch left gets ``StorageUnavailableError``, and nothing was sent. Past ``max_queued``
    waiting items ``submit`` raises ``OverloadedError`` at once.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        lanes: int = 1,
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._send = send
        self._lanes = lanes
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_queued = max_queued
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._withdrawn = 0
        self._senders: set[asyncio.Task[None]] = set()
        self._on_their_way = 0
        self._closed = False
        self._home: tuple[asyncio.AbstractEventLoop | None, int] = (None, 0)

    async def submit(self, item: Item, size: int = 0) -> Result:
        """Send one item with the next batch and return its result. ``size`` is its bytes."""
        if self._closed:
            detail = "the store is shut down"
            raise StorageUnavailableError(detail)
        if len(self._queue) >= self._max_queued:
            self._make_room()
        loop = self._running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        waiting = _Waiting(item, size, future)
        self._queue.append(waiting)
        self._start_sender(loop)
        try:
            return await future
        except asyncio.CancelledError as error:
            if waiting.left:
                raise
            self._withdrawn += 1
            if time_left(1.0):
                raise
            detail = "the write waited for others until SESSION_TIMEOUT; nothing of it was written"
            raise StorageUnavailableError(detail) from error

    def _make_room(self) -> None:
        """Drop what was withdrawn, if that is much of the queue; raise if the queue is full."""
        if self._withdrawn * 2 >= self._max_queued:
            self._queue = deque(each for each in self._queue if not each.future.done())
            self._withdrawn = 0
        if len(self._queue) >= self._max_queued:
            detail = f"{len(self._queue)} writes wait already"
            raise OverloadedError(detail)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop; while it is the same as before, without a system call."""
        loop, thread = self._home
        if loop is None or thread != get_ident() or not loop.is_running():
            loop = asyncio.get_running_loop()
            self._home = loop, get_ident()
        return loop

    def _start_sender(self, loop: asyncio.AbstractEventLoop) -> None:
        if len(self._senders) < self._lanes:
            sender = loop.create_task(self._run())
            self._senders.add(sender)
            sender.add_done_callback(self._sender_ended)

    def _sender_ended(self, sender: asyncio.Task[None]) -> None:
        """See to it that a sender which was cancelled before it began holds nobody up."""
        if sender in self._senders:
            self._senders.discard(sender)
            if self._queue:
                self._start_sender(sender.get_loop())

    def reopen(self) -> None:
        """Take items again, after ``drain``."""
        self._closed = False

    async def drain(self) -> None:
        """Take no more, and return once all that was taken is answered."""
        self._closed = True
        while self._senders:
            await asyncio.wait(self._senders)

    async def _run(self) -> None:
        sender = asyncio.current_task()
        try:
            while batch := self._next_batch():
                self._on_their_way += len(batch)
                try:
                    await self._deliver(batch)
                finally:
                    self._on_their_way -= len(batch)
        finally:
            self._senders.discard(sender)

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        room = self._max_bytes
        share = -(-(len(self._queue) + self._on_their_way) // self._lanes)
        most = min(max(share, WORTH_A_LANE), self._max_items)
        while self._queue and len(batch) < most:
            waiting = self._queue[0]
            if batch and waiting.size > room:
                break
            self._queue.popleft()
            if waiting.future.done():
                self._withdrawn = max(self._withdrawn - 1, 0)
            else:
                waiting.left = True
                room -= waiting.size
                batch.append(waiting)
        return batch

    async def _deliver(self, batch: list[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._send([waiting.item for waiting in batch])
            if len(results) != len(batch):
                detail = f"{len(results)} answers to {len(batch)} items"
                raise RuntimeError(detail)  # noqa: TRY301 - so that nobody waits for ever
        except Exception as error:  # noqa: BLE001 - handed to every caller that waits for it
            results = [error] * len(batch)
        for waiting, result in zip(batch, results, strict=True):
            future = waiting.future
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
