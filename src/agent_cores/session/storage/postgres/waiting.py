"""``Lines``: changes to sessions that another transaction holds, each session by itself.

What was in the way of a batch waits here, so that it holds up no other session. All changes to one
session wait in one line, in their order, and go together once it is free.
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
from agent_cores.session.storage.postgres.errors import (
    ClashError,
    ConnectionLostError,
    LockedError,
    left_nothing,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.storage.postgres.batch import Answer
    from agent_cores.session.storage.sql.records import SessionName

_TURN = 0.5
"""Seconds that one line keeps a connection waiting for a lock, before others have theirs."""
_LONGEST_PAUSE = 0.25


class Run(Protocol):
    """Carries out changes in one transaction."""

    async def __call__(
        self, changes: Sequence[Change], *, deadline: float, lock_wait: float
    ) -> Sequence[Answer]:
        """Answer each change; raise what failed the transaction."""


class _Waiter:
    """A change in a line. ``last_start``: when it is too late to begin with it."""

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


class Lines:
    """A line for each session that something holds; at most ``room`` of them try at once.

    ``margin`` in seconds is how long before its deadline a change that still waits is answered.
    """

    def __init__(self, run: Run, *, room: int, margin: float, max_queued: int) -> None:
        self._run = run
        self._room = asyncio.Semaphore(room)
        self._margin = margin
        self._max_queued = max_queued
        self._queued = 0
        self._lines: dict[SessionName, _Line] = {}
        self._workers: set[asyncio.Task[None]] = set()

    def __contains__(self, name: SessionName) -> bool:
        """Whether changes to that session wait, and what held it was not seen to let go."""
        line = self._lines.get(name)
        return line is not None and line.held

    async def submit(self, change: Change, size: int, deadline: float) -> Applied:
        """Carry out one change once its session is free; ``StaleHeaderError`` at the deadline.

        A caller cancelled before its change left takes it along.
        """
        if self._queued >= self._max_queued:
            raise OverloadedError(f"{self._queued} writes wait already")
        waiter = _Waiter(change, size, deadline, self._margin)
        name = change.namespace, change.session_id
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line(self._run, self._room)
            worker = asyncio.get_running_loop().create_task(self._work(name, line))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        line.waiters.append(waiter)
        self._queued += 1
        try:
            return await waiter.future
        finally:
            self._queued -= 1

    async def drain(self) -> None:
        """Return once all that waits is answered."""
        while self._workers:
            await asyncio.wait(self._workers)

    async def _work(self, name: SessionName, line: _Line) -> None:
        try:
            while line.has_work():
                await line.take_turn()
        finally:
            self._lines.pop(name, None)
            line.answer_all(StorageUnavailableError("the store is shut down"))


class _Line:
    """What waits for one session."""

    def __init__(self, run: Run, room: asyncio.Semaphore) -> None:
        self.waiters: deque[_Waiter] = deque()
        self._run = run
        self._room = room
        self._backoff = Backoff(longest=_LONGEST_PAUSE)
        self._together = True
        self.held = True

    def has_work(self) -> bool:
        """Drop who is gone, answer who waited in vain; return whether others wait."""
        now = asyncio.get_running_loop().time()
        for waiter in self.waiters:
            if waiter.last_start <= now:
                waiter.settle(StaleHeaderError())
        self.waiters = deque(waiter for waiter in self.waiters if not waiter.future.done())
        return bool(self.waiters)

    def answer_all(self, error: Exception) -> None:
        """Answer whoever waits."""
        for waiter in self.waiters:
            waiter.settle(error)

    async def take_turn(self) -> None:
        """Wait for room, then for the session, for at most one turn; carry out what waits."""
        try:
            async with asyncio.timeout_at(self._soonest(self.waiters)):
                await self._room.acquire()
        except TimeoutError:
            return
        try:
            clash = await self._try(self._next_batch())
        finally:
            self._room.release()
        if clash:
            await self._backoff.pause(until=self._soonest(self.waiters))

    @staticmethod
    def _soonest(waiters: Iterable[_Waiter]) -> float:
        return min((waiter.last_start for waiter in waiters), default=0.0)

    def _next_batch(self) -> list[_Waiter]:
        """Return who goes now; they stay in the line until they are answered."""
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
        """Carry out a batch and answer it; return whether to pause before it is tried again."""
        if not batch:
            return False
        left = self._soonest(batch) - asyncio.get_running_loop().time()
        try:
            answers = await self._run(
                [waiter.change for waiter in batch],
                deadline=max(waiter.deadline for waiter in batch),
                lock_wait=max(0.001, min(_TURN, left)),
            )
        except LockedError:
            self.held = True
            return False
        except ClashError:
            self._together = False
            return True
        except Exception as error:  # noqa: BLE001 - the answer of those that it concerns
            self._failed(batch, error)
        else:
            self.held = False
            self._settle(batch, answers)
        return False

    def _failed(self, batch: Sequence[_Waiter], error: Exception) -> None:
        """Keep for another try what may fare better then; answer the others."""
        if left_nothing(error) and len(batch) > 1:
            self._together = False
            return
        lost = isinstance(error, ConnectionLostError) and not error.outcome_unknown
        if lost and not batch[0].reconnected:
            batch[0].reconnected = True
            return
        self._settle(batch, [error] * len(batch))

    def _settle(self, batch: Sequence[_Waiter], answers: Sequence[Answer]) -> None:
        for waiter, answer in zip(batch, answers, strict=True):
            waiter.settle(answer)
        self._together = True
        self._backoff.reset()
