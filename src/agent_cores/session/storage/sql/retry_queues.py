"""``RetryQueues``: changes to sessions that another transaction has locked; a queue per session.

A change whose session was locked when its batch ran waits here, where it delays no other session.
All changes to one session wait in one queue, in their order, and are applied together once the
session is free.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from agent_cores.session.backoff import Backoff
from agent_cores.session.errors import (
    OverloadedError,
    StaleHeaderError,
    StorageUnavailableError,
)
from agent_cores.session.storage.batching import MAX_BYTES, MAX_ITEMS
from agent_cores.session.storage.sql.errors import (
    ClashError,
    ConnectionLostError,
    LockedError,
    left_nothing,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.storage.abandoned import Abandoned
    from agent_cores.session.storage.sql.batch import Answer
    from agent_cores.session.storage.sql.rows import SessionName

_LONGEST_LOCK_WAIT = 0.5
"""Seconds that one queue waits for a lock on a connection before another queue gets it."""
_LONGEST_PAUSE = 0.25


class Run(Protocol):
    """Applies changes in one transaction."""

    async def __call__(
        self, changes: Sequence[Change], *, deadline: float, lock_wait: float
    ) -> Sequence[Answer]:
        """Return the outcome of each change; raise what failed the transaction."""


class _Waiter:
    """A change in a queue. ``last_start``: the latest time to begin it."""

    __slots__ = ("change", "deadline", "future", "last_start", "reconnected", "size")

    def __init__(self, change: Change, size: int, deadline: float, margin: float) -> None:
        self.change = change
        self.size = size
        self.deadline = deadline
        self.last_start = deadline - margin
        self.future: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self.reconnected = False

    def settle(self, answer: Answer) -> None:
        if self.future.done():
            return
        if isinstance(answer, Exception):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class RetryQueues:
    """A queue for each locked session; at most ``parallel`` of them use a connection at a time.

    A change that still waits ``margin`` seconds before its deadline fails then.
    """

    def __init__(
        self,
        run: Run,
        abandoned: Abandoned[SessionName],
        *,
        parallel: int,
        margin: float,
        max_queued: int,
    ) -> None:
        self._run = run
        self._abandoned = abandoned
        self._slots = asyncio.Semaphore(parallel)
        self._margin = margin
        self._max_queued = max_queued
        self._queued = 0
        self._queues: dict[SessionName, _RetryQueue] = {}
        self._workers: set[asyncio.Task[None]] = set()

    def __contains__(self, name: SessionName) -> bool:
        """Whether changes to that session wait, and it was locked at the last attempt."""
        queue = self._queues.get(name)
        return queue is not None and queue.locked

    async def submit(self, change: Change, size: int, deadline: float) -> Applied:
        """Apply one change once its session is free; ``StaleHeaderError`` at the deadline.

        If the caller is cancelled before its change was sent, the change is dropped.
        """
        if self._queued >= self._max_queued:
            raise OverloadedError(f"{self._queued} writes wait already")
        waiter = _Waiter(change, size, deadline, self._margin)
        name = change.namespace, change.session_id
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = _RetryQueue(self._run, self._slots)
            worker = asyncio.get_running_loop().create_task(self._work(name, queue))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        queue.waiters.append(waiter)
        self._queued += 1
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if queue.flight is not None:
                self._abandoned.add(name, queue.flight)
            raise
        finally:
            self._queued -= 1

    async def drain(self) -> None:
        """Return once every waiting change is done."""
        while self._workers:
            await asyncio.wait(self._workers)

    async def _work(self, name: SessionName, queue: _RetryQueue) -> None:
        try:
            while queue.has_work():
                await queue.attempt()
        finally:
            self._queues.pop(name, None)
            queue.answer_all(StorageUnavailableError("the store is shut down"))


class _RetryQueue:
    """The changes that wait for one session. ``flight`` is done once the batch in flight is."""

    def __init__(self, run: Run, slots: asyncio.Semaphore) -> None:
        self.waiters: deque[_Waiter] = deque()
        self._run = run
        self._slots = slots
        self._backoff = Backoff(longest=_LONGEST_PAUSE)
        self._together = True
        self.locked = True
        self.flight: asyncio.Future[None] | None = None

    def has_work(self) -> bool:
        """Drop cancelled callers, fail those whose time is up; return whether others wait."""
        now = asyncio.get_running_loop().time()
        for waiter in self.waiters:
            if waiter.last_start <= now:
                waiter.settle(StaleHeaderError())
        self.waiters = deque(waiter for waiter in self.waiters if not waiter.future.done())
        return bool(self.waiters)

    def answer_all(self, error: Exception) -> None:
        """Fail every waiting change with an error."""
        for waiter in self.waiters:
            waiter.settle(error)

    async def attempt(self) -> None:
        """Wait for a slot, then for the lock; if both come in time, apply what waits."""
        try:
            async with asyncio.timeout_at(self._soonest(self.waiters)):
                await self._slots.acquire()
        except TimeoutError:
            return
        self.flight = flight = asyncio.get_running_loop().create_future()
        try:
            clash = await self._try(self._next_batch())
        finally:
            self.flight = None
            flight.set_result(None)
            self._slots.release()
        if clash:
            await self._backoff.pause(until=self._soonest(self.waiters))

    @staticmethod
    def _soonest(waiters: Iterable[_Waiter]) -> float:
        return min((waiter.last_start for waiter in waiters), default=0.0)

    def _next_batch(self) -> list[_Waiter]:
        """Return the changes to send now; they stay in the queue until they are done."""
        batch: list[_Waiter] = []
        room = MAX_BYTES
        for waiter in self.waiters:
            if batch and (waiter.size > room or len(batch) == MAX_ITEMS or not self._together):
                break
            if not waiter.future.done():
                room -= waiter.size
                batch.append(waiter)
        return batch

    async def _try(self, batch: Sequence[_Waiter]) -> bool:
        """Apply a batch and resolve it; return whether to pause before the next attempt."""
        if not batch:
            return False
        left = self._soonest(batch) - asyncio.get_running_loop().time()
        try:
            answers = await self._run(
                [waiter.change for waiter in batch],
                deadline=max(waiter.deadline for waiter in batch),
                lock_wait=max(0.001, min(_LONGEST_LOCK_WAIT, left)),
            )
        except LockedError:
            self.locked = True
            return False
        except ClashError:
            self._together = False
            return True
        except Exception as error:  # noqa: BLE001 - fails the changes that it concerns
            self._failed(batch, error)
            return False
        self.locked = False
        return self._settle(batch, answers)

    def _failed(self, batch: Sequence[_Waiter], error: Exception) -> None:
        """Keep what may succeed at the next attempt; fail the others."""
        if left_nothing(error) and len(batch) > 1:
            self._together = False
            return
        lost = isinstance(error, ConnectionLostError) and not error.outcome_unknown
        if lost and not batch[0].reconnected:
            batch[0].reconnected = True
            return
        self._settle(batch, [error] * len(batch))

    def _settle(self, batch: Sequence[_Waiter], answers: Sequence[Answer]) -> bool:
        """Resolve a batch; return whether a concurrent create blocked some of it."""
        clashes = False
        for waiter, answer in zip(batch, answers, strict=True):
            if isinstance(answer, ClashError):
                clashes = True
            else:
                waiter.settle(answer)
        self._together = True
        if not clashes:
            self._backoff.reset()
        return clashes
