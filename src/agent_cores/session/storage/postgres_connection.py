"""``Database``: connections to PostgreSQL, transactions, and what the driver's errors mean.

The one place that translates asyncpg's errors, so that none leaks. It knows no table.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from agent_cores.session.errors import (
    ConflictError,
    InvalidInputError,
    SessionError,
    StorageUnavailableError,
    StoreFormatError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from agent_cores.session.storage.postgres_names import Names

    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

Result = TypeVar("Result")

READ_COMMITTED = "BEGIN ISOLATION LEVEL READ COMMITTED"
ONE_INSTANT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

_DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_CLASHES = (
    asyncpg.UniqueViolationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
_ENDED_BY_SERVER = (  # the connection went with it, and perhaps only the answer was lost
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
_NO_TABLES = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)
_FOREIGN_TABLES = (asyncpg.UndefinedColumnError, asyncpg.DuplicateTableError)


class ClashError(ConflictError):
    """Another transaction was in the way, and nothing was written: worth doing again."""


class ConnectionLostError(StorageUnavailableError):
    """The connection broke; another one may work."""


class Transaction:
    """A connection inside a transaction. Tables are named as ``{schema}."{prefix}…"``."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self._connection = connection

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        """Run a statement and return its rows."""
        statement = self._database.filled(statement)
        return await self._connection.fetch(statement, *arguments, timeout=self._database.timeout)

    async def execute(self, statement: str, *arguments: object) -> str:
        """Run a statement, or several without arguments; return what the server says it did."""
        statement = self._database.filled(statement)
        return await self._connection.execute(statement, *arguments, timeout=self._database.timeout)


class Database:
    """A pool of connections: one that the caller gave, which stays open, or its own.

    ``timeout`` in seconds bounds the wait for a connection and each statement. ``pooled``: behind a
    transaction pooler, where nothing may stay in a connection, prepared statements included.
    """

    def __init__(
        self,
        *,
        names: Names,
        dsn: str | None,
        pool: asyncpg.Pool[asyncpg.Record] | None,
        pool_size: int,
        timeout: float,
        pooled: bool,
    ) -> None:
        self._names = names
        self._filled: dict[str, str] = {}
        self._dsn = dsn
        self._given = pool
        self._pool = pool
        self._pool_size = pool_size
        self.timeout = timeout
        self._pooled = pooled

    @property
    def pool_size(self) -> int:
        """How many connections there are at most."""
        return self._pool_size if self._given is None else self._given.get_max_size()

    def filled(self, statement: str) -> str:
        """Return a statement with the names of this store's tables."""
        found = self._filled.get(statement)
        if found is None:
            found = self._filled[statement] = self._names.fill(statement)
        return found

    async def open(self) -> None:
        """Connect, unless a pool was given; the first connection is made here."""
        if self._pool is not None:
            return
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=self._pool_size,
                timeout=self.timeout,
                reset=_keep,
                **self._session_options(),
            )
        except asyncpg.ProtocolViolationError as error:
            detail = "the server refuses a setting of the URL"
            if not self._pooled:
                detail = "the server refuses settings; behind a pooler, say pooler=transaction"
            raise StorageUnavailableError(detail) from error
        except (*_DRIVER_ERRORS, ValueError) as error:
            raise _unavailable(error, may_be_done=False) from error

    async def close(self) -> None:
        """Close the pool, if it is this one's own."""
        pool, self._pool = self._pool, self._given
        if pool is None or pool is self._given:
            return
        try:
            async with asyncio.timeout(self.timeout):
                await pool.close()
        except _DRIVER_ERRORS:
            pool.terminate()

    async def fetch(self, statement: str, *arguments: object, writes: bool = False) -> list[Any]:
        """Run one statement by itself, in one round trip once it is prepared.

        One that only reads is ``repeatable``.
        """
        if writes:
            return await self._fetch(statement, arguments, writes=True)
        return await self.repeatable(lambda: self._fetch(statement, arguments, writes=False))

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
    async def transaction(self, begin: str = READ_COMMITTED) -> AsyncIterator[Transaction]:
        """Run a block in one transaction, committed at its end.

        An error in the block means that nothing was written; one of the commit, that it may be.
        """
        async with self._connection() as connection:
            try:
                await connection.execute(begin, timeout=self.timeout)
                yield Transaction(self, connection)
            except BaseException as error:
                await self._roll_back(connection)
                if isinstance(error, _DRIVER_ERRORS):
                    raise await self._translated(error, may_be_done=False) from error
                raise
            try:
                outcome = await connection.execute("COMMIT", timeout=self.timeout)
            except _DRIVER_ERRORS as error:
                raise await self._translated(error, may_be_done=True) from error
            if outcome != "COMMIT":
                raise StorageUnavailableError(f"PostgreSQL answered COMMIT with {outcome}")

    async def _fetch(
        self, statement: str, arguments: tuple[object, ...], *, writes: bool
    ) -> list[Any]:
        async with self._connection() as connection:
            try:
                return await connection.fetch(
                    self.filled(statement), *arguments, timeout=self.timeout
                )
            except _DRIVER_ERRORS as error:
                raise await self._translated(error, may_be_done=writes) from error

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        pool = self._pool
        if pool is None:
            raise StorageUnavailableError("the store is not initialized, or shut down")
        try:
            connection = await pool.acquire(timeout=self.timeout)
        except _DRIVER_ERRORS as error:
            raise _unavailable(error, may_be_done=False) from error
        try:
            yield connection
        finally:
            with suppress(*_DRIVER_ERRORS):  # the work is done; the pool drops a broken connection
                await pool.release(connection, timeout=self.timeout)

    async def _roll_back(self, connection: Connection) -> None:
        with suppress(*_DRIVER_ERRORS):
            if not connection.is_closed() and connection.is_in_transaction():
                await connection.execute("ROLLBACK", timeout=self.timeout)

    async def _translated(self, error: Exception, *, may_be_done: bool) -> SessionError:
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            if self._pool is not None and self._pool is not self._given:
                await self._pool.expire_connections()  # after a failover, find the new primary
            return StorageUnavailableError("PostgreSQL is read-only here: a standby")
        if isinstance(error, _CLASHES):
            return ClashError(f"another transaction was in the way ({type(error).__name__})")
        if isinstance(error, asyncpg.DataError | asyncpg.ProgramLimitExceededError | ValueError):
            return InvalidInputError("value", f"PostgreSQL refuses it ({type(error).__name__})")
        if isinstance(error, _NO_TABLES):
            return StoreFormatError("the tables are not there; run: agent-sessions migrate")
        if isinstance(error, _FOREIGN_TABLES):
            return StoreFormatError(
                "tables of these names are there and not ours; give ours other names by "
                "SESSION_TABLE_PREFIX, or another schema by SESSION_DATABASE_SCHEMA"
            )
        return _unavailable(error, may_be_done=may_be_done)

    def _session_options(self) -> Mapping[str, Any]:
        if self._pooled:
            return {"statement_cache_size": 0}
        wait = max(1, round(self.timeout * 500))  # milliseconds, half of what a statement may take
        settings = {
            "default_transaction_isolation": "read committed",
            "lock_timeout": str(wait),
            "idle_in_transaction_session_timeout": str(4 * wait),
        }
        chosen = dict(parse_qsl(urlsplit(self._dsn or "").query))
        return {"server_settings": {k: v for k, v in settings.items() if k not in chosen}}


def _unavailable(error: Exception, *, may_be_done: bool) -> StorageUnavailableError:
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return StorageUnavailableError("no server is what target_session_attrs asks for")
    by_server = isinstance(error, asyncpg.PostgresError)
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return StorageUnavailableError(
            "PostgreSQL does not let this user at the tables (InsufficientPrivilegeError); "
            "docs/postgres.md says what to grant"
        )
    if by_server and not isinstance(error, _ENDED_BY_SERVER):
        return StorageUnavailableError(f"PostgreSQL refuses: {type(error).__name__}")
    detail = f"PostgreSQL did not answer ({type(error).__name__})"
    if isinstance(error, TimeoutError):
        return StorageUnavailableError(detail, outcome_unknown=may_be_done)
    return ConnectionLostError(detail, outcome_unknown=may_be_done)


async def _keep(_: object) -> None:
    """Leave a connection as it is when it returns to the pool: nothing in it was changed."""
