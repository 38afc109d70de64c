"""``Database``: connections to PostgreSQL and transactions, each bounded by one deadline.

It knows no table. A deadline is a time of the event loop's clock; what begins without one gets
``timeout`` seconds. A connection whose work ended badly is tidied up in the background, so that
nobody waits for that beyond the deadline.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from agent_cores.session.deadline import time_left
from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.storage.postgres.errors import (
    DRIVER_ERRORS,
    ClashError,
    ConnectionLostError,
    connection_error,
    statement_error,
)
from agent_cores.session.storage.postgres.url import driver_tls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from agent_cores.session.errors import SessionError
    from agent_cores.session.storage.sql.names import Names

    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

Result = TypeVar("Result")

READ_COMMITTED = "BEGIN ISOLATION LEVEL READ COMMITTED"
ONE_INSTANT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_LAST_MOMENT = 0.01
"""Seconds that a statement gets at least: the driver takes none for no bound."""


class Transaction:
    """A connection inside a transaction. Tables are named as ``{schema}."{prefix}…"``."""

    def __init__(self, database: Database, connection: Connection, deadline: float) -> None:
        self._database = database
        self._connection = connection
        self._deadline = deadline

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        """Run a statement and return its rows."""
        statement = self._database.filled(statement)
        timeout = seconds_until(self._deadline)
        return await self._connection.fetch(statement, *arguments, timeout=timeout)

    async def execute(self, statement: str, *arguments: object) -> str:
        """Run a statement, or several without arguments; return what the server says it did."""
        statement = self._database.filled(statement)
        timeout = seconds_until(self._deadline)
        return await self._connection.execute(statement, *arguments, timeout=timeout)


class Database:
    """A pool of connections: one that the caller gave, which stays open, or its own.

    ``timeout`` in seconds bounds an operation, from the wait for a connection to its end;
    ``connect_timeout`` what making a connection may take of that. ``pooled``: behind a transaction
    pooler, where nothing may stay in a connection, prepared statements included.
    """

    def __init__(
        self,
        *,
        dsn: str | None,
        pool: asyncpg.Pool[asyncpg.Record] | None,
        pool_size: int,
        timeout: float,
        connect_timeout: float | None = None,
        pooled: bool,
    ) -> None:
        self._names: Names | None = None
        self._filled: dict[str, str] = {}
        self._dsn = dsn
        self._given = pool
        self._pool = pool
        self._pool_size = pool_size
        self.timeout = timeout
        self._connect_timeout = min(timeout, connect_timeout or timeout)
        self._pooled = pooled
        self._tidying: set[asyncio.Task[None]] = set()

    @property
    def pool_size(self) -> int:
        """How many connections there are at most."""
        return self._pool_size if self._given is None else self._given.get_max_size()

    def use(self, names: Names) -> None:
        """Take these names for the tables."""
        self._names = names
        self._filled.clear()

    def filled(self, statement: str) -> str:
        """Return a statement with the names of this store's tables."""
        found = self._filled.get(statement)
        if found is None:
            filled = statement if self._names is None else self._names.fill(statement)
            found = self._filled[statement] = filled
        return found

    def deadline(self) -> float:
        """Return when an operation that begins now has to end: not after the caller's."""
        return asyncio.get_running_loop().time() + time_left(self.timeout)

    async def open(self) -> None:
        """Connect, unless a pool was given; the first connection is made here."""
        if self._pool is not None:
            return
        dsn, tls = (None, None) if self._dsn is None else driver_tls(self._dsn)
        try:
            self._pool = await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=self._pool_size,
                timeout=self._connect_timeout,
                reset=_keep,
                ssl=tls,
                **self._session_options(),
            )
        except (*DRIVER_ERRORS, ValueError) as error:
            raise self._no_connection(error, self._connect_timeout) from error

    async def close(self, deadline: float | None = None) -> None:
        """Close the pool, if it is this one's own; at the deadline, cut what is still open."""
        pool, self._pool = self._pool, self._given
        if pool is None or pool is self._given:
            return
        deadline = self.deadline() if deadline is None else deadline
        try:
            async with asyncio.timeout(seconds_until(deadline)):
                await pool.close()
        except DRIVER_ERRORS:
            pool.terminate()

    async def fetch(
        self,
        statement: str,
        *arguments: object,
        writes: bool = False,
        deadline: float | None = None,
    ) -> list[Any]:
        """Run one statement by itself, in one round trip once it is prepared.

        One that only reads is ``repeatable``.
        """
        deadline = self.deadline() if deadline is None else deadline
        if writes:
            return await self._fetch(statement, arguments, deadline, writes=True)
        return await self.repeatable(
            lambda: self._fetch(statement, arguments, deadline, writes=False)
        )

    async def repeatable(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do what may be done twice: once more if the connection broke or another was in the way.

        A standby cancels reads that are in the way of what it replays. To who only reads that is
        no conflict: where it happens again, the store is unavailable.
        """
        with suppress(ConnectionLostError, ClashError):
            return await work()
        try:
            return await work()
        except ClashError as error:
            raise StorageUnavailableError(str(error)) from error

    @asynccontextmanager
    async def transaction(
        self,
        begin: str = READ_COMMITTED,
        *,
        deadline: float | None = None,
        lock_wait: float | None = None,
    ) -> AsyncIterator[Transaction]:
        """Run a block in one transaction, committed at its end.

        ``lock_wait`` in seconds is how long it waits for a lock; ``LockedError`` after that. An
        error in the block means that nothing was written; one of the commit, that it may be.
        """
        deadline = self.deadline() if deadline is None else deadline
        if lock_wait is not None:
            begin = f"{begin}; SET LOCAL lock_timeout = {milliseconds(lock_wait)}"
        async with self._connection(deadline) as connection:
            try:
                await connection.execute(begin, timeout=seconds_until(deadline))
                yield Transaction(self, connection, deadline)
            except DRIVER_ERRORS as error:
                raise await self._translated(error, may_be_done=False) from error
            try:
                outcome = await connection.execute("COMMIT", timeout=seconds_until(deadline))
            except DRIVER_ERRORS as error:
                raise await self._translated(error, may_be_done=True) from error
            if outcome != "COMMIT":
                raise StorageUnavailableError(f"PostgreSQL answered COMMIT with {outcome}")

    async def _fetch(
        self, statement: str, arguments: tuple[object, ...], deadline: float, *, writes: bool
    ) -> list[Any]:
        async with self._connection(deadline) as connection:
            try:
                return await connection.fetch(
                    self.filled(statement), *arguments, timeout=seconds_until(deadline)
                )
            except DRIVER_ERRORS as error:
                raise await self._translated(error, may_be_done=writes) from error

    @asynccontextmanager
    async def _connection(self, deadline: float) -> AsyncIterator[Connection]:
        pool = self._pool
        if pool is None:
            raise StorageUnavailableError("the store is not initialized, or shut down")
        try:
            connection = await pool.acquire(timeout=seconds_until(deadline))
        except (*DRIVER_ERRORS, ValueError) as error:
            raise self._no_connection(error, self.timeout) from error
        try:
            yield connection
        except BaseException as error:
            tidying = self._tidy_up(pool, connection)
            if _answered(error):  # then so will the rollback be, and locks are gone by it
                await asyncio.wait([tidying], timeout=seconds_until(deadline))
            raise
        with suppress(*DRIVER_ERRORS):  # the work is done; the pool drops a broken connection
            await pool.release(connection, timeout=self.timeout)

    def _tidy_up(
        self, pool: asyncpg.Pool[asyncpg.Record], connection: Connection
    ) -> asyncio.Task[None]:
        """Roll back and give the connection back, in a task of its own."""
        task = asyncio.get_running_loop().create_task(self._give_back(pool, connection))
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)
        return task

    async def _give_back(self, pool: asyncpg.Pool[asyncpg.Record], connection: Connection) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                if not connection.is_closed() and connection.is_in_transaction():
                    await connection.execute("ROLLBACK")  # waits until the server has cancelled
        except DRIVER_ERRORS:
            with suppress(asyncpg.InterfaceError):  # it broke, and is back in the pool already
                connection.terminate()
        with suppress(*DRIVER_ERRORS):
            await pool.release(connection, timeout=self.timeout)

    async def _translated(self, error: Exception, *, may_be_done: bool) -> SessionError:
        own = None if self._pool is self._given else self._pool
        if own is not None and isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            await own.expire_connections()  # after a failover, find the new primary
        return statement_error(error, may_be_done=may_be_done)

    def _no_connection(self, error: Exception, seconds: float) -> SessionError:
        return connection_error(error, pooled=self._pooled, seconds=seconds)

    def _session_options(self) -> Mapping[str, Any]:
        if self._pooled:
            return {"statement_cache_size": 0}
        wait = self.timeout / 2
        settings = {
            "default_transaction_isolation": "read committed",
            "lock_timeout": str(milliseconds(wait)),
            "idle_in_transaction_session_timeout": str(milliseconds(4 * wait)),
        }
        chosen = dict(parse_qsl(urlsplit(self._dsn or "").query))
        return {"server_settings": {k: v for k, v in settings.items() if k not in chosen}}


def seconds_until(deadline: float) -> float:
    """Return what is left until a deadline, as a timeout of the driver."""
    return max(_LAST_MOMENT, deadline - asyncio.get_running_loop().time())


def milliseconds(seconds: float) -> int:
    """Return a bound as the server takes it; 0 would be none."""
    return max(1, round(seconds * 1000))


def _answered(error: BaseException) -> bool:
    """Whether the server answers this connection, though the work on it failed."""
    cause = error.__cause__ if error.__cause__ is not None else error
    return isinstance(cause, asyncpg.PostgresError) or not isinstance(
        cause, (*DRIVER_ERRORS, asyncio.CancelledError, GeneratorExit)
    )


async def _keep(_: object) -> None:
    """Leave a connection as it is when it returns to the pool: nothing in it was changed."""
