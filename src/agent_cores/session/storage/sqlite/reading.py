"""``Readers``: run plans that read, on connections that never wait for the writer.

Each plan is one read transaction, so everything that it reads is of the same instant. Brief reads
of many callers share a thread: threads that read one by one contend for the GIL, and 100 callers
then read a sixth less (benchmark ``read``).
"""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from agent_cores.session.errors import SessionError, StorageUnavailableError
from agent_cores.session.storage.batching import Coalescer
from agent_cores.session.storage.pool_use import PoolUse
from agent_cores.session.storage.sql.dialect import carry_out_now
from agent_cores.session.storage.sqlite.connection import Steps, open_reader
from agent_cores.session.storage.sqlite.errors import translating
from agent_cores.session.storage.sqlite.file import FileMovedError
from agent_cores.session.threads import Workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import apsw

    from agent_cores.session.storage.sql.dialect import Plan
    from agent_cores.session.storage.sqlite.file import StoreFile
    from agent_cores.session.storage.sqlite.queries import Queries

T = TypeVar("T")

_BRIEF_TOGETHER = 16
_PAUSE = 0.005
_MOMENT = 0.2


class Readers:
    """Up to ``count`` connections, one per thread, opened when first needed."""

    def __init__(
        self,
        file: StoreFile,
        queries: Queries,
        *,
        timeout: float,
        count: int,
        follow: Callable[[], Awaitable[None]],
    ) -> None:
        self._file = file
        self._queries = queries
        self._timeout = timeout
        self._follow = follow
        self._threads = Workers(count, "sqlite-reader", before_fork=self._close_before_fork)
        self._brief: Coalescer[Callable[[], Plan[Any]], Any] = Coalescer(
            self._read_together, lanes=2, max_items=_BRIEF_TOGETHER, max_queued=sys.maxsize
        )
        self._ended = False
        self._open: set[apsw.Connection] = set()
        self._idle: list[tuple[int, apsw.Connection]] = []
        file.close_readers = self._close_within

    def use(self) -> PoolUse:
        """Return how many of the threads read, and how many reads wait for one."""
        return PoolUse.of(self._threads.count, self._threads.pending + self._brief.queued)

    async def close(self, end: float) -> None:
        """Finish the accepted reads, at most until ``end``, and close."""
        closing = asyncio.ensure_future(self._finish())
        await asyncio.wait([closing], timeout=max(end - time.monotonic(), _MOMENT))
        if not closing.done():
            self._ended = True
            for connection in tuple(self._open):
                connection.interrupt()
            await asyncio.wait([closing], timeout=_MOMENT)
        self._close_within(0)

    async def _finish(self) -> None:
        await self._brief.drain()
        await self._threads.close()

    def _close_before_fork(self) -> None:
        self._close_within(0)  # no read is in flight

    async def run(self, plan: Callable[[], Plan[T]]) -> T:
        """Run a plan that reads, at one instant; each attempt makes a new plan."""
        return await self._followed(partial(self._threads.run, partial(self._read, plan)))

    async def run_brief(self, plan: Callable[[], Plan[T]]) -> T:
        """Run a plan that reads little, like ``run``; if others read, together with theirs."""
        if not self._threads.pending:
            return await self.run(plan)
        return await self._followed(partial(self._brief.submit, plan))

    async def _followed(self, read: Callable[[], Awaitable[T]]) -> T:
        try:
            return await read()
        except FileMovedError:
            await self._follow()
        try:
            return await read()
        except FileMovedError as error:
            detail = f"{self._file.path} was moved or replaced again and again"
            raise StorageUnavailableError(detail) from error

    async def _read_together(self, plans: Sequence[Callable[[], Plan[T]]]) -> list[T | Exception]:
        return await self._threads.run(partial(self._read_each, plans))

    def _read_each(self, plans: Sequence[Callable[[], Plan[T]]]) -> list[T | Exception]:
        found: list[T | Exception] = []
        for plan in plans:
            try:
                found.append(self._read(plan))
            except Exception as error:  # noqa: BLE001 - raised where it is awaited
                found.append(error)
        return found

    def _read(self, plan: Callable[[], Plan[T]]) -> T:
        """Read from the file; ``FileMovedError`` if it is no longer the one at its path."""
        if self._ended:
            detail = "the store is shut down"
            raise StorageUnavailableError(detail)
        connection = None
        try:
            generation, connection = self._connection()
            with translating(self._file.path):
                connection.execute("BEGIN")  # its statements see one instant
                found = carry_out_now(plan(), Steps(connection, self._queries).run)
                connection.execute("COMMIT")
        except BaseException as error:
            self._drop(connection)
            if isinstance(error, SessionError) and not self._file.holds():
                raise FileMovedError from error
            raise
        if generation != self._file.generation or not self._file.holds(connection):
            self._drop(connection)
            raise FileMovedError
        self._idle.append((generation, connection))
        return found

    def _connection(self) -> tuple[int, apsw.Connection]:
        """Return a connection to the file at the path, and that file's generation."""
        while True:
            try:
                generation, connection = self._idle.pop()
            except IndexError:
                break
            if generation == self._file.generation:
                return generation, connection
            self._drop(connection)
        with self._file.opening, translating(self._file.path):
            connection = open_reader(self._file.path, self._timeout)
            self._open.add(connection)
            return self._file.generation, connection

    def _drop(self, connection: apsw.Connection | None) -> None:
        if connection is not None:
            connection.close(force=True)  # an error may have left a statement open
            self._open.discard(connection)

    def _close_within(self, seconds: float) -> bool:
        """Close all connections, those in use as they are returned; false if some remain open."""
        deadline = time.monotonic() + seconds
        while True:
            while self._idle:
                self._drop(self._idle.pop()[1])
            if not self._open:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)
