"""``Coalescer``: sends the items of many concurrent callers in one round trip.

While every lane has a batch in flight, new callers queue; the next batch takes a share of them. No
batch waits to be filled, so a lone caller is sent at once. The items are opaque to it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from agent_cores.session.deadline import time_left
from agent_cores.session.errors import OverloadedError, StorageUnavailableError
from agent_cores.session.observing import on_batch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ITEMS = 500
MAX_BYTES = 4 * 1024 * 1024
MAX_QUEUED = 10_000
SMALLEST_SHARE = 8
"""At most this many items are never split between lanes: what a caller sends together stays so."""


class _Waiting(msgspec.Struct, Generic[Item, Result]):
    item: Item
    size: int
    future: asyncio.Future[Result]
    sent: bool = False
    is_over: bool = False


class Coalescer(Generic[Item, Result]):
    """Collects items from concurrent callers; at most ``lanes`` batches are in flight.

    With two lanes the callers of one batch continue while the server works on the other. Each batch
    takes half of all items that are queued or in flight, but never fewer than a few. While fewer
    are queued than that, the callers of a batch have a turn before its lane sends the next one:
    what they send in it goes along, and the lanes do not fall into step.

    ``send`` gets the items of a batch and returns one result or error for each, in order; if it
    raises, every caller of the batch gets that error. A batch ends at ``max_items`` or
    ``max_bytes``.

    A caller that is cancelled before its batch is sent takes its item back. After that, the item is
    in flight without it: ``on_abandoned`` gets the item and a future that is done once its result
    is there. A caller whose deadline passes before its batch is sent gets
    ``StorageUnavailableError``. With ``max_queued`` items in the queue ``submit`` raises
    ``OverloadedError`` immediately.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        lanes: int = 1,
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
        max_queued: int = MAX_QUEUED,
        on_abandoned: Callable[[Item, asyncio.Future[Result]], None] | None = None,
    ) -> None:
        self._send = send
        self._on_abandoned = on_abandoned
        self._lanes = lanes
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_queued = max_queued
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._cancelled = 0
        self._senders: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._closed = False
        self._loop_and_thread: tuple[asyncio.AbstractEventLoop | None, int] = (None, 0)

    @property
    def queued(self) -> int:
        """How many items wait for a batch."""
        return len(self._queue)

    async def submit(self, item: Item, size: int = 0) -> Result:
        """Send one item with the next batch and return its result; ``size`` is in bytes."""
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
            if waiting.sent:
                self._abandon(waiting)
                raise
            self._cancelled += 1
            if time_left(1.0):
                raise
            detail = "it was still queued at SESSION_TIMEOUT; nothing was written"
            raise StorageUnavailableError(detail) from error

    def _abandon(self, waiting: _Waiting[Item, Result]) -> None:
        """Report an item whose caller is cancelled, unless it already has its result."""
        if self._on_abandoned is None or waiting.is_over or not waiting.future.cancelled():
            return
        waiting.future = waiting.future.get_loop().create_future()
        waiting.future.add_done_callback(_retrieve)
        self._on_abandoned(waiting.item, waiting.future)

    def _make_room(self) -> None:
        """Drop cancelled items if they are half of the queue; raise if it is full nevertheless."""
        if self._cancelled * 2 >= self._max_queued:
            self._queue = deque(each for each in self._queue if not each.future.done())
            self._cancelled = 0
        if len(self._queue) >= self._max_queued:
            detail = f"{len(self._queue)} calls are queued already"
            raise OverloadedError(detail)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, without a system call while it is the same as before."""
        loop, thread = self._loop_and_thread
        if loop is None or thread != get_ident() or not loop.is_running():
            loop = asyncio.get_running_loop()
            self._loop_and_thread = loop, get_ident()
        return loop

    def _start_sender(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start one more sender, if there is a free lane.

        It works for everybody, and the connections that it opens stay: so it must not keep the
        context of the caller that happened to start it alive.
        """
        if len(self._senders) < self._lanes:
            sender = loop.create_task(self._run(), context=Context())
            self._senders.add(sender)
            sender.add_done_callback(self._sender_ended)

    def _sender_ended(self, sender: asyncio.Task[None]) -> None:
        """Start another sender if this one was cancelled and left callers waiting."""
        self._senders.discard(sender)
        if sender.cancelled() and any(not waiting.future.done() for waiting in self._queue):
            self._start_sender(sender.get_loop())

    def reopen(self) -> None:
        """Accept items again, after ``drain``."""
        self._closed = False

    async def drain(self) -> None:
        """Accept no more items; return once every accepted one has its result."""
        self._closed = True
        while self._senders:
            await asyncio.wait(self._senders)

    async def _run(self) -> None:
        sender = asyncio.current_task()
        try:
            while batch := self._next_batch():
                self._in_flight += len(batch)
                for tell in on_batch:
                    tell(len(batch), len(self._queue))
                try:
                    await self._deliver(batch)
                finally:
                    self._in_flight -= len(batch)
                if self._share() > len(self._queue):
                    await asyncio.sleep(0)  # its callers may have more to send
        finally:
            self._senders.discard(sender)

    def _share(self) -> int:
        return -(-(len(self._queue) + self._in_flight) // self._lanes)

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        room = self._max_bytes
        most = min(max(self._share(), SMALLEST_SHARE), self._max_items)
        while self._queue and len(batch) < most:
            waiting = self._queue[0]
            if batch and waiting.size > room:
                break
            self._queue.popleft()
            if waiting.future.done():
                self._cancelled = max(self._cancelled - 1, 0)
            else:
                waiting.sent = True
                room -= waiting.size
                batch.append(waiting)
        return batch

    async def _deliver(self, batch: list[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._send([waiting.item for waiting in batch])
            if len(results) != len(batch):
                detail = f"{len(results)} results for {len(batch)} items"
                raise RuntimeError(detail)  # noqa: TRY301 - handed to every caller below
        except Exception as error:  # noqa: BLE001 - handed to every caller that waits for it
            results = [error] * len(batch)
        except BaseException:  # the sender is cancelled, and nobody will learn the results
            lost = StorageUnavailableError("its batch was cancelled", outcome_unknown=True)
            self._settle(batch, [lost] * len(batch))
            raise
        self._settle(batch, results)

    def _settle(
        self, batch: list[_Waiting[Item, Result]], results: Sequence[Result | Exception]
    ) -> None:
        for waiting, result in zip(batch, results, strict=True):
            future = waiting.future
            if future.done():  # its caller is cancelled, but may not know it yet
                waiting.is_over = True
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Take the error of a result that perhaps nobody awaits."""
    if not future.cancelled():
        future.exception()
