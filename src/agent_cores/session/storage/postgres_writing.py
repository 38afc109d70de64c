"""``Writer``: the roads that a change takes into PostgreSQL, and what is tried again.

Plain appends on a header seen before go out together, in one statement. What that says nothing of,
and every other small change, goes in batches of one transaction. Creates, removals and large bodies
go alone.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from agent_cores.session.errors import (
    InvalidInputError,
    OverloadedError,
    SessionError,
    StaleHeaderError,
    StorageUnavailableError,
)
from agent_cores.session.storage.coalescing import MAX_QUEUED, Coalescer
from agent_cores.session.storage.postgres_batch import Answer, Batch
from agent_cores.session.storage.postgres_connection import ClashError, ConnectionLostError
from agent_cores.session.storage.postgres_hot import Append, append_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.storage.postgres_connection import Database
    from agent_cores.session.storage.sql_records import SessionName

_LARGE = 256 * 1024
"""Bytes from which a change goes alone."""
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.25


class Writer:
    """Carries out changes. ``on_delete`` is told when a commit left rows to purge."""

    def __init__(
        self,
        database: Database,
        *,
        fast_path: bool,
        max_queued: int = MAX_QUEUED,
        on_delete: Callable[[], None],
    ) -> None:
        self._database = database
        self._fast_path = fast_path
        self._max_queued = max_queued
        self._on_delete = on_delete
        self._appends: Coalescer[Append, Applied | None] = Coalescer(
            self._send_appends, lanes=2, max_queued=max_queued
        )
        self._changes: Coalescer[Change, Applied] = Coalescer(
            self._send_changes, max_queued=max_queued
        )
        self._alone: set[asyncio.Task[Applied]] = set()
        self._closed = False

    async def apply(self, change: Change) -> Applied:
        """Carry out one change, or raise its refusal."""
        append = Append.of(change) if self._fast_path else None
        if append is not None:
            applied = await self._appends.submit(append, append.size)
            if applied is not None:
                return applied
        size = sum(len(message.body) for message in change.append)
        size += sum(map(len, change.context_set.values()))
        if change.create is not None or change.remove is not None or size >= _LARGE:
            return await self._run_apart(change)
        return await self._changes.submit(change, size)

    def reopen(self) -> None:
        """Take changes again, after ``drain``."""
        self._closed = False
        self._appends.reopen()
        self._changes.reopen()

    async def drain(self) -> None:
        """Take no more, and return once all that was taken is answered."""
        self._closed = True
        await self._appends.drain()
        await self._changes.drain()
        if self._alone:
            await asyncio.wait(self._alone)

    async def _run_apart(self, change: Change) -> Applied:
        """Run one change by itself, to its end even if its caller gives up."""
        if self._closed:
            raise StorageUnavailableError("the store is shut down")
        if len(self._alone) >= self._max_queued:
            raise OverloadedError(f"{len(self._alone)} writes wait already")
        task = asyncio.get_running_loop().create_task(self._run_single(change, self._deadline()))
        self._alone.add(task)
        task.add_done_callback(self._settle)
        return await asyncio.shield(task)

    def _settle(self, task: asyncio.Task[Applied]) -> None:
        self._alone.discard(task)
        if not task.cancelled():
            task.exception()  # seen here, in case the caller gave up

    async def _send_appends(self, appends: Sequence[Append]) -> Sequence[Applied | None]:
        try:
            return await append_all(self._database, appends)
        except (ClashError, InvalidInputError):
            return [None] * len(appends)  # nothing was written: look at each

    async def _send_changes(self, changes: Sequence[Change]) -> Sequence[Answer]:
        if len(changes) > 1:
            try:
                return await self._run(changes)
            except Exception as error:
                if not _left_nothing(error):
                    raise
        return await self._run_singly(changes)

    async def _run_singly(self, changes: Sequence[Change]) -> list[Answer]:
        """Run each in a transaction of its own, those to one session one after the other.

        A session that is locked for long keeps one connection waiting. Only half of the connections
        are taken, so that reads find one; what a session's changes may take together is bounded.
        """
        answers: dict[int, Answer] = {}
        sessions: dict[SessionName, list[int]] = {}
        for index, change in enumerate(changes):
            sessions.setdefault((change.namespace, change.session_id), []).append(index)
        room = asyncio.Semaphore(max(1, self._database.pool_size // 2))

        async def run_those_of_a_session(indexes: Sequence[int]) -> None:
            async with room:
                deadline = self._deadline()
                for index in indexes:
                    answers[index] = await self._answer(changes[index], deadline)

        await asyncio.gather(*(run_those_of_a_session(found) for found in sessions.values()))
        return [answers[index] for index in range(len(changes))]

    async def _answer(self, change: Change, deadline: float) -> Answer:
        if asyncio.get_running_loop().time() >= deadline:
            return StaleHeaderError()
        try:
            return await self._run_single(change, deadline)
        except Exception as error:  # noqa: BLE001 - the answer to this change and to no other
            return error

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._database.timeout

    async def _run_single(self, change: Change, deadline: float) -> Applied:
        """Run one change in a transaction of its own, again while others are in its way."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        reconnected = False
        while True:
            try:
                (answer,) = await self._run([change])
            except ClashError as error:
                if loop.time() >= deadline:
                    raise StaleHeaderError from error
            except ConnectionLostError as error:
                if error.outcome_unknown or reconnected:
                    raise
                reconnected = True
            else:
                if isinstance(answer, Exception):
                    raise answer
                return answer
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - only a pause
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _run(self, changes: Sequence[Change]) -> list[Answer]:
        async with self._database.transaction() as transaction:
            batch = Batch(transaction, changes)
            answers = await batch.run()
        if batch.deletes:
            self._on_delete()
        return answers


def _left_nothing(error: Exception) -> bool:
    """Whether a batch failed before its commit, for a cause that may be one of its changes."""
    if isinstance(error, ConnectionLostError):
        return not error.outcome_unknown
    return isinstance(error, ClashError | InvalidInputError) or not isinstance(error, SessionError)
