"""``Writer``: how a change is written to the database, and what is retried.

Plain appends on a cached header are sent together in one statement, if the database has a hot
append. Creates of new sessions are sent together too, each assumed not to exist. What falls back,
and every other small change, is sent in batches of one transaction each; creates have batches of
their own. Removals and large bodies are sent alone. A batch waits only briefly for a session that
another transaction has locked; then the change waits in ``RetryQueues``, where it delays no other
session.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from agent_cores.session.deadline import margin_of
from agent_cores.session.errors import (
    InvalidInputError,
    OverloadedError,
    StorageUnavailableError,
)
from agent_cores.session.storage.abandoned import Abandoned
from agent_cores.session.storage.batching import MAX_QUEUED, Coalescer
from agent_cores.session.storage.sql.batch import Answer, Batch
from agent_cores.session.storage.sql.creates import PlannedCreate, in_order
from agent_cores.session.storage.sql.dialect import carry_out
from agent_cores.session.storage.sql.errors import (
    ClashError,
    ConnectionLostError,
    LockedError,
    left_nothing,
)
from agent_cores.session.storage.sql.hot import Append, append_all
from agent_cores.session.storage.sql.in_flight import InFlight
from agent_cores.session.storage.sql.retry_queues import RetryQueues
from agent_cores.session.storage.sql.tail import change_tail, is_tail_change

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.storage.sql.clock import ServerClock
    from agent_cores.session.storage.sql.database import Database
    from agent_cores.session.storage.sql.in_flight import Flight
    from agent_cores.session.storage.sql.rows import SessionName

_LARGE = 256 * 1024
"""Bytes from which a change is sent alone."""
_SHORT_WAIT = 0.25
"""Seconds that a batch waits for a lock: longer than the commit of another batch takes."""
_OF_A_SHORT_TIMEOUT = 10
"""That is at most the timeout divided by this."""


class Writer:
    """Applies changes. ``on_delete`` is called after a commit that left rows to purge."""

    def __init__(
        self,
        database: Database,
        *,
        clock: ServerClock,
        fast_path: bool,
        max_queued: int = MAX_QUEUED,
        on_delete: Callable[[], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._fast_path = fast_path
        self._appends_hot = fast_path and database.has_hot_append
        self._in_flight = InFlight()
        self._abandoned: Abandoned[SessionName] = Abandoned()
        self._max_queued = max_queued
        self._on_delete = on_delete
        self._short_wait = min(_SHORT_WAIT, database.timeout / _OF_A_SHORT_TIMEOUT)
        self._appends: Coalescer[Append, Applied | None] = Coalescer(
            self._send_appends,
            lanes=2,
            max_queued=max_queued,
            on_abandoned=lambda append, outcome: self._abandon(append.change, outcome),
        )
        self._new_sessions: Coalescer[PlannedCreate, Applied | None] = Coalescer(
            self._send_new_sessions,
            lanes=2,
            max_queued=max_queued,
            on_abandoned=lambda new, outcome: self._abandon(new.change, outcome),
        )
        self._creates: Coalescer[Change, Applied] = Coalescer(
            self._send_changes, lanes=2, max_queued=max_queued, on_abandoned=self._abandon
        )
        self._changes: Coalescer[Change, Applied] = Coalescer(
            self._send_changes, max_queued=max_queued, on_abandoned=self._abandon
        )
        self._retries = self._new_retries()
        self._alone: set[asyncio.Task[Applied]] = set()
        self._closed = False

    async def apply(self, change: Change) -> Applied:
        """Apply one change, or raise its refusal."""
        if self._closed:
            raise StorageUnavailableError("the store is shut down")
        name = change.namespace, change.session_id
        if self._abandoned.writes:
            await self._abandoned.over(name)
        append = Append.of(change) if self._appends_hot else None
        if name in self._retries:
            return await self._retry(change)
        try:
            if append is not None:
                applied = await self._appends.submit(append, append.size)
                if applied is not None:
                    return applied
            return await self._apply_generic(change, _size(change))
        except ClashError:
            return await self._retry(change)

    async def _retry(self, change: Change) -> Applied:
        size = _size(change) + _rewritten(change)
        return await self._retries.submit(change, size, self._database.deadline())

    async def _apply_generic(self, change: Change, size: int) -> Applied:
        if change.remove is not None or size >= _LARGE:
            return await self._run_apart(change)
        if change.create is not None:
            new = PlannedCreate.of(change) if self._fast_path else None
            applied = None if new is None else await self._new_sessions.submit(new, size)
            return applied or await self._creates.submit(change, size)
        return await self._changes.submit(change, size + _rewritten(change))

    def reopen(self) -> None:
        """Accept changes again, after ``drain``."""
        self._closed = False
        self._abandoned.clear()
        self._retries = self._new_retries()  # the event loop may have changed
        self._appends.reopen()
        self._new_sessions.reopen()
        self._creates.reopen()
        self._changes.reopen()

    async def drain(self, deadline: float) -> None:
        """Accept no more changes; return once all accepted ones are done, or at the deadline.

        Changes that are not done by then fail with their connection when the pool is closed.
        """
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._appends.drain()
                await self._new_sessions.drain()
                await self._creates.drain()
                await self._changes.drain()
                if self._alone:
                    await asyncio.wait(self._alone)
                await self._retries.drain()

    async def _run_apart(self, change: Change) -> Applied:
        """Run one change by itself, to completion even if its caller gives up."""
        if len(self._alone) >= self._max_queued:
            raise OverloadedError(f"{len(self._alone)} writes wait already")
        run = self._run_alone(change, self._database.deadline())
        task = asyncio.get_running_loop().create_task(run)
        self._alone.add(task)
        task.add_done_callback(self._settle)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._abandon(change, task)
            raise

    def _abandon(self, change: Change, outcome: asyncio.Future[Any]) -> None:
        self._abandoned.add((change.namespace, change.session_id), outcome)

    async def _run_alone(self, change: Change, deadline: float) -> Applied:
        applied, tails = None, self._database.tails
        if self._fast_path and tails is not None and is_tail_change(change):
            sent_at = self._clock.now()
            applied = await change_tail(tails, change, sent_at=sent_at, deadline=deadline)
        return applied or await self._run_single(change, deadline)

    def _settle(self, task: asyncio.Task[Applied]) -> None:
        self._alone.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here, in case the caller gave up

    async def _send_appends(
        self, appends: Sequence[Append]
    ) -> Sequence[Applied | Exception | None]:
        """Apply a batch of plain appends; return ``None`` for each that must fall back."""
        with self._in_flight.sending(append.change for append in appends) as flight:
            deadline = self._database.deadline()
            try:
                return await self._append_all(appends, flight, deadline)
            except LockedError:
                pass
            except (ClashError, InvalidInputError):
                return [None] * len(appends)  # nothing was written
            try:
                answers = await self._append(appends, deadline, skip_locked=True)
            except (ClashError, InvalidInputError):
                answers = [None] * len(appends)
            return [LockedError() if answer is None else answer for answer in answers]

    async def _append_all(
        self, appends: Sequence[Append], flight: Flight, deadline: float
    ) -> Sequence[Applied | None]:
        """Send appends; retry once this process's other batches to these sessions are done."""
        try:
            return await self._append(appends, deadline)
        except LockedError:
            if not await flight.wait_for_others(deadline):
                raise
        return await self._append(appends, deadline)

    async def _append(
        self, appends: Sequence[Append], deadline: float, *, skip_locked: bool = False
    ) -> Sequence[Applied | None]:
        return await append_all(
            self._database,
            appends,
            sent_at=self._clock.now(),
            deadline=deadline,
            lock_wait=self._short_wait,
            skip_locked=skip_locked,
        )

    async def _send_new_sessions(
        self, sessions: Sequence[PlannedCreate]
    ) -> Sequence[Applied | None]:
        """Insert new sessions; return ``None`` for each that must fall back."""
        ordered = in_order(sessions)
        created: set[SessionName] = set()
        with self._in_flight.sending(new.change for new in sessions):
            try:
                created = await self._database.create_sessions(
                    list(ordered.values()),
                    lock_wait=self._short_wait,
                    deadline=self._database.deadline(),
                )
            except Exception as error:
                if not left_nothing(error):
                    raise
        return [
            new.applied if new.name in created and ordered[new.name] is new else None
            for new in sessions
        ]

    async def _send_changes(self, changes: Sequence[Change]) -> Sequence[Answer]:
        deadline = self._database.deadline()
        with self._in_flight.sending(changes) as flight:
            if len(changes) > 1:
                try:
                    return await self._run_batch(changes, flight, deadline)
                except Exception as error:
                    if not left_nothing(error):
                        raise
            return await self._run_singly(changes, deadline)

    async def _run_batch(
        self, changes: Sequence[Change], flight: Flight, deadline: float
    ) -> Sequence[Answer]:
        """Run changes in one transaction, leaving out sessions that others have locked.

        A name that a concurrent create is inserting cannot be left out: ``LockedError``.
        """
        run = partial(self._run, changes, deadline=deadline, lock_wait=self._short_wait)
        try:
            return await run()
        except LockedError:
            if changes[0].create is not None:
                raise
        if await flight.wait_for_others(deadline):
            with suppress(LockedError):
                return await run()
        return await run(skip_locked=True)

    async def _run_singly(self, changes: Sequence[Change], deadline: float) -> list[Answer]:
        """Run each change in its own transaction, those to one session one after the other.

        They use only half of the connections, which leaves some for reads.
        """
        answers: dict[int, Answer] = {}
        sessions: dict[SessionName, list[int]] = {}
        for index, change in enumerate(changes):
            sessions.setdefault((change.namespace, change.session_id), []).append(index)
        slots = asyncio.Semaphore(self._half_of_the_pool())

        async def run_those_of_a_session(indexes: Sequence[int]) -> None:
            async with slots:
                for index in indexes:
                    answers[index] = await self._answer(changes[index], deadline)

        await asyncio.gather(*(run_those_of_a_session(found) for found in sessions.values()))
        return [answers[index] for index in range(len(changes))]

    async def _answer(self, change: Change, deadline: float) -> Answer:
        try:
            return await self._run_single(change, deadline)
        except Exception as error:  # noqa: BLE001 - fails this change and no other
            return error

    async def _run_single(self, change: Change, deadline: float) -> Applied:
        """Run one change in its own transaction; retry once if its connection was broken."""
        wait = self._short_wait
        try:
            (answer,) = await self._run([change], deadline=deadline, lock_wait=wait)
        except ConnectionLostError as error:
            if error.outcome_unknown:
                raise
            (answer,) = await self._run([change], deadline=deadline, lock_wait=wait)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _run(
        self,
        changes: Sequence[Change],
        *,
        deadline: float,
        lock_wait: float,
        skip_locked: bool = False,
    ) -> list[Answer]:
        batch = Batch(changes, skip_locked=skip_locked)
        async with self._database.transaction(deadline=deadline, lock_wait=lock_wait) as connection:
            answers = await carry_out(batch.plan(), connection.run)
        if batch.deletes:
            self._on_delete()
        return answers

    def _new_retries(self) -> RetryQueues:
        return RetryQueues(
            self._run,
            self._abandoned,
            parallel=self._half_of_the_pool(),
            margin=margin_of(self._database.timeout),
            max_queued=self._max_queued,
        )

    def _half_of_the_pool(self) -> int:
        return max(1, self._database.pool_size // 2)


def _size(change: Change) -> int:
    """Return how many bytes a change brings."""
    size = sum([len(message.body) for message in change.append])
    if change.update is not None:
        size += change.update.size
    return size + sum(map(len, change.context_set.values()))


def _rewritten(change: Change) -> int:
    """Return how many stored bytes a change reads and writes again: a batch holds them too."""
    return 0 if change.update is None else change.update.stored_bytes
