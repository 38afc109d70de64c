"""``Writer``: the one thread of a process that writes to the file, and its transactions.

A batch of changes costs one round trip to the thread; ``batches.py`` writes it. The same thread
leases expired sessions and removes what deleted sessions left behind.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from agent_cores.session.deadline import time_left
from agent_cores.session.errors import (
    QuotaExceededError,
    SessionError,
    StorageUnavailableError,
)
from agent_cores.session.storage.identity import StoreIdentity
from agent_cores.session.storage.sql.dialect import carry_out_now
from agent_cores.session.storage.sql.purge import purge_plan
from agent_cores.session.storage.sql.reading import due_plan
from agent_cores.session.storage.sqlite.batches import Batches
from agent_cores.session.storage.sqlite.connection import Steps, free_bytes
from agent_cores.session.storage.sqlite.errors import translating
from agent_cores.session.storage.sqlite.lock import LockWait
from agent_cores.session.storage.sqlite.runs import Run, Runs
from agent_cores.session.threads import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    import apsw

    from agent_cores.session.models import Applied, Ended
    from agent_cores.session.storage.headers import HeaderReader
    from agent_cores.session.storage.sql.rows import SessionName
    from agent_cores.session.storage.sqlite.batches import Waiting, Written
    from agent_cores.session.storage.sqlite.file import StoreFile
    from agent_cores.session.storage.sqlite.queries import Queries
    from agent_cores.session.storage.sqlite.runs import Remembered

T = TypeVar("T")

PURGE_ROWS = 500
"""Most rows of deleted sessions removed in one transaction, which bounds how long others wait."""
_GRACE = 1.0
"""Seconds beyond the timeout that closing may take if the disk is slow, rather than the lock."""

LEAST_FREE = 1_048_576
"""Free bytes on the disk below which a check fails, though a write may still fit into the log."""
_LARGEST_IDENTITY = 2**31 - 1
"""The identity is the ``user_version`` in the file's header, a number of 32 bits with a sign."""

logger: logging.Logger = logging.getLogger("agent_cores.session")


class Writer:
    """Writes to one file, on one thread. Its methods are called on the event loop."""

    def __init__(
        self,
        file: StoreFile,
        queries: Queries,
        headers: HeaderReader,
        *,
        timeout: float,
        fast_path: bool,
    ) -> None:
        self._file = file
        self._path = file.path
        self._queries = queries
        self._headers = headers
        self._timeout = timeout
        self._fast_path = fast_path
        self._thread = Workers(1, "sqlite-writer", before_fork=self._close_before_fork)
        self._connection: apsw.Connection
        self._steps: Steps
        self._batches: Batches
        self._lock = LockWait()
        self._identity = StoreIdentity()
        self._in_doubt = False
        self._is_open = False
        self._closed_by_fork = False
        self._runs = Runs(queries)
        self._purging: asyncio.Task[None] | None = None

    async def open(self, version: int) -> None:
        """Open the file; upgrade the tables if ``version`` shows that they are old."""

        def opening() -> None:
            self._file.open(version)
            self._take_connection()

        try:
            await self._run(opening)
        except BaseException:
            self._thread.end()
            raise
        self._purge()

    def _take_connection(self) -> None:
        self._is_open = True
        self._connection = self._file.connection
        self._connection.set_busy_handler(self._lock)
        self._steps = Steps(self._connection, self._queries)
        self._batches = Batches(
            self._connection,
            self._path,
            self._queries,
            self._lock,
            self._timeout,
            remembers=self._fast_path,
        )

    def closing(self, end: float) -> None:
        """Stop all waiting for the file lock at that instant."""
        self._lock.last = end

    async def close(self, end: float) -> None:
        """Remove what deleted sessions left and close; what is not done by ``end`` remains.

        ``end`` is in the time of ``time.monotonic()``.
        """
        if self._purging is not None:
            await asyncio.wait([self._purging], timeout=max(end - time.monotonic(), 0))
            self._purging.cancel()
        closing = asyncio.ensure_future(self._thread.run(self._close_for_good))
        done, _ = await asyncio.wait([closing], timeout=max(end - time.monotonic(), 0) + _GRACE)
        if not done:
            closing.add_done_callback(_settled)
            self._thread.end()
            detail = f"{self._path} did not close within SESSION_TIMEOUT"
            raise StorageUnavailableError(detail)
        closing.result()
        await self._thread.close()

    async def write(self, batch: Sequence[Waiting]) -> list[Applied | Exception]:
        """Write a batch; return each change's result or its own error."""
        changes = [waiting.change for waiting in batch]
        run = self._runs.plan(changes, self._file.generation)
        written = False
        others: dict[SessionName, Remembered] = {}
        try:
            answers, written, others = await self._run(partial(self._write, batch, run))
        finally:
            self._runs.settle(run, written=written, others=others)
        if self._batches.deletes:
            self._batches.deletes = False
            self._purge()
        return answers

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Lease up to ``limit`` expired sessions; postpone those that are still live.

        One that cannot be read is postponed by the length of a lease, and is not leased.
        """
        taken: list[Ended] = []
        end = time.monotonic() + time_left(self._timeout)
        came = 1
        while came and len(taken) < limit:
            job = partial(self._take_due, at, limit - len(taken), lease_seconds, end)
            came, ended = await self._run(job)
            taken += ended
        return taken

    async def follow(self) -> None:
        """Switch to the file at the path, after a read has found that it is another one."""
        await self._run(self._follow)

    async def check(self) -> None:
        """Write a page without changing its content.

        Also check that no table or column is missing, and that the disk has room for more.
        """
        await self._run(partial(self._check, time.monotonic() + time_left(self._timeout)))

    def _check(self, end: float) -> None:
        if not self._file.holds(self._connection):
            self._follow()
        with self._transaction(end):
            for statement in self._queries.touch:
                self._connection.execute(statement)
            found = self._connection.pragma("user_version")
            if not (found or self._identity.is_known):
                found = 1 + secrets.randbelow(_LARGEST_IDENTITY)
                self._connection.pragma("user_version", found)
        self._identity.confirm(found)
        self._connection.execute(self._queries.whole)
        free = free_bytes(self._path)
        if free < LEAST_FREE:
            raise QuotaExceededError(f"{self._path}: its disk has {free:.0f} bytes left")

    async def _run(self, job: Callable[[], T]) -> T:
        return await self._thread.run(partial(self._translated, job))

    def _translated(self, job: Callable[[], T]) -> T:
        with translating(self._path):
            if self._closed_by_fork:
                self._file.open_again()
                self._take_connection()
                self._closed_by_fork = False
            return job()

    def _close_for_good(self) -> None:
        with translating(self._path):
            if self._is_open:
                self._is_open = False
                self._file.close()

    def _close_before_fork(self) -> None:
        """Close the file, for the next job to reopen: no child may inherit SQLite's locks."""
        if self._is_open:
            self._is_open = False
            self._closed_by_fork = True
            self._file.close()

    def _write(self, batch: Sequence[Waiting], run: Run) -> Written:
        """Write a batch; return the results, whether the run was written, and the other sessions.

        It returns only after checking that the files are still those at the path.
        """
        try:
            if self._in_doubt:
                self._follow()
        except SessionError as error:
            return [type(error)(str(error)) for _ in batch], False, {}
        if run.generation != self._file.generation:
            run = Run()
        written = self._batches.write(batch, run)
        if self._file.holds(self._connection):
            return written
        self._in_doubt = True
        try:
            if not self._follow():  # it is another file
                written = self._batches.write(batch, Run())
            if self._file.holds(self._connection):
                return written
            detail = f"{self._path} was moved or replaced again and again"
        except SessionError as error:
            detail = str(error)
        self._in_doubt = True
        lost = [StorageUnavailableError(detail, outcome_unknown=True) for _ in batch]
        return [*lost], False, {}

    def _follow(self) -> bool:
        """Switch to the file at the path; return whether it has everything that was committed."""
        generation = self._file.generation
        self._lock.end = time.monotonic() + self._timeout
        with translating(self._path):
            whole = self._file.follow()
        if self._file.generation != generation:
            self._take_connection()
        self._in_doubt = False
        return whole

    @contextmanager
    def _transaction(self, end: float) -> Iterator[None]:
        if self._in_doubt:
            self._follow()
        self._batches.begin(end)
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._batches.rollback()
            raise
        if not self._file.holds(self._connection):
            self._in_doubt = True
            detail = f"{self._path} was moved, removed or replaced meanwhile"
            raise StorageUnavailableError(detail, outcome_unknown=True, why="replaced")

    def _take_due(
        self, at: datetime, limit: int, lease_seconds: float, end: float
    ) -> tuple[int, list[Ended]]:
        """Return how many sessions were due, and those of them that have expired."""
        lease_end = at + timedelta(seconds=lease_seconds)
        with self._transaction(end):
            plan = due_plan(at, limit, lease_end, self._headers)
            return carry_out_now(plan, self._steps.run)

    def _purge(self) -> None:
        """Make sure that what deleted sessions left behind is removed, a little at a time."""
        if self._purging is None or self._purging.done():
            self._purging = asyncio.get_running_loop().create_task(self._purge_all())

    async def _purge_all(self) -> None:
        try:
            while await self._run(self._purge_some):
                pass
        except SessionError as error:
            logger.warning("what deleted sessions left stays for now: %s", error)

    def _purge_some(self) -> bool:
        with self._transaction(time.monotonic() + self._timeout):
            return carry_out_now(purge_plan(rows=PURGE_ROWS), self._steps.run)


def _settled(closing: asyncio.Future[None]) -> None:
    """Log the outcome of a close for which nobody waits any longer."""
    if not closing.cancelled() and closing.exception() is not None:
        logger.warning("closed at last, but: %s", closing.exception())
