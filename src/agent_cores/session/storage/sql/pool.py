"""``PooledDatabase``: what databases share that are reached through a driver's pool of connections.

It waits for a connection, begins and commits, translates the driver's errors, and discards a
connection whose work ended badly. A dialect supplies the driver's side of each.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agent_cores.session.deadline import margin_of
from agent_cores.session.errors import ConfigurationError, StorageUnavailableError
from agent_cores.session.storage.pool_use import PoolUse
from agent_cores.session.storage.sql.database import Database
from agent_cores.session.storage.sql.failures import DriverErrors, Failure
from agent_cores.session.storage.sql.names import Names
from agent_cores.session.storage.sql.reading import PART

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent_cores.session.models import Window
    from agent_cores.session.storage.sql.dialect import Row, Statement, Step
    from agent_cores.session.storage.sql.options import ServerOptions
    from agent_cores.session.storage.sql.queries import Queries
    from agent_cores.session.storage.sql.reading import ReadSession
    from agent_cores.session.storage.sql.rows import SessionName


class PooledConnection(ABC):
    """A connection while one caller has it. ``may_be_done``: what it was sent may be committed."""

    may_be_done = False

    def __init__(self, database: Any, driver: Any, deadline: float) -> None:  # noqa: ANN401 - a dialect's own classes
        self._database = database
        self._driver = driver
        self._deadline = deadline

    @abstractmethod
    async def run(self, step: Step) -> list[Row]:
        """Execute one step."""

    @abstractmethod
    async def script(self, text: str) -> None:
        """Run several statements, with the table names filled in."""

    @abstractmethod
    async def begin(self, statements: str) -> None:
        """Begin a transaction by these statements."""

    @abstractmethod
    async def commit(self) -> None:
        """Commit; set ``may_be_done`` before that is sent."""

    async def flush(self) -> None:  # noqa: B027 - most connections queue nothing
        """Send what still waits to be sent."""


Connection = TypeVar("Connection", bound=PooledConnection)


class PooledDatabase(Database, Generic[Connection]):
    """A database behind a driver's pool.

    ``connect_timeout`` in seconds is what connecting may take of an operation's ``timeout``. A
    deadline is a time of the event loop's clock.
    """

    queries: Queries
    errors: DriverErrors
    connection: type[Connection]
    has_hot_append = True
    _pool: Any = None
    _callers = 0

    def __init__(self, options: ServerOptions) -> None:
        self.timeout: float = options.timeout
        self.connect_timeout: float = min(options.timeout, options.connect_timeout or math.inf)
        self.names: Names = Names("")
        self._pool_size = options.pool_size
        self._texts: dict[tuple[Statement, tuple[str, ...]], str] = {}
        self._filled: dict[str, str] = {}

    @property
    def pool_size(self) -> int:
        """How many connections there are at most."""
        return self._pool_size

    def use(self, names: Names) -> None:
        """Use tables of these names."""
        self.names = names
        self._texts.clear()
        self._filled.clear()

    def text_of(self, step: Step) -> str:
        """Return the text of a step, with the names of this store's tables."""
        key = step.statement, step.fields
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = self.names.fill(self.queries.text(step))
        return text

    def filled(self, text: str) -> str:
        """Return a text with the names of this store's tables."""
        filled = self._filled.get(text)
        if filled is None:
            filled = self._filled[text] = self.names.fill(text)
        return filled

    @abstractmethod
    async def _create_pool(self) -> Any:  # noqa: ANN401 - the driver's own class
        """Return a new pool."""

    @abstractmethod
    async def _close_pool(self, pool: Any) -> None:  # noqa: ANN401
        """Close a pool once nobody has a connection of it."""

    async def _check_server(self) -> None:
        """Raise for a server that cannot be used."""

    async def _acquire(self, pool: Any, deadline: float) -> Any:  # noqa: ANN401
        """Return one of the pool's connections."""
        async with asyncio.timeout_at(deadline):
            return await pool.acquire()

    async def _release(self, pool: Any, driver: Any) -> None:  # noqa: ANN401
        """Give a connection back whose work is done."""
        await pool.release(driver)

    @abstractmethod
    async def _discard(self, pool: Any, driver: Any, error: BaseException, deadline: float) -> None:  # noqa: ANN401
        """Roll back, and give a connection back, or close it, whose work failed with that error."""

    @abstractmethod
    async def _renew(self, pool: Any) -> None:  # noqa: ANN401
        """Have the pool make new connections: this server was found to be a replica."""

    @abstractmethod
    def _begin(self, lock_wait: float | None, *, one_instant: bool) -> str:
        """Return the statements that begin a transaction, see ``transaction``."""

    @abstractmethod
    async def _read_at_once(
        self,
        names: Sequence[SessionName],
        *,
        context: bool,
        window: Window | None,
        deadline: float,
    ) -> list[ReadSession]:
        """Read sessions in one round trip."""

    def pool_use(self) -> PoolUse:
        """Return how many connections are in use, and how many callers wait for one."""
        return PoolUse.of(self.pool_size, self._callers)

    async def open(self) -> None:
        """Connect, unless it is open; raise for a server that cannot be used."""
        if self._pool is not None:
            return
        try:
            self._pool = await self._create_pool()
        except ConfigurationError:  # of an option
            raise
        except (*self.errors.classes, *self.errors.connecting) as error:
            raise self.errors.of_connection(error, seconds=self.connect_timeout) from error
        try:
            await self._check_server()
        except BaseException:
            await self.close()
            raise

    async def close(self, deadline: float | None = None) -> None:
        """Close the pool; at the deadline, abort connections that are still in use."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout_at(self.deadline() if deadline is None else deadline):
                await self._close_pool(pool)
        except self.errors.classes:
            pool.terminate()

    async def run(self, step: Step, *, deadline: float | None = None) -> list[Row]:
        """Execute one step by itself, in one round trip."""
        until = self.deadline() if deadline is None else deadline

        async def attempt() -> list[Row]:
            async with self.connected(until) as connection:
                return await connection.run(step)

        return await self.repeatable(attempt)

    async def read_several(
        self, names: Sequence[SessionName], *, context: bool, window: Window | None
    ) -> list[ReadSession]:
        """Read sessions in one round trip, unless it is a very large window or one of names."""
        if window is not None and (window.max_bytes > PART or not self._reads_at_once(window)):
            return await super().read_several(names, context=context, window=window)
        deadline = self.deadline()
        return await self.repeatable(
            lambda: self._read_at_once(names, context=context, window=window, deadline=deadline)
        )

    def _reads_at_once(self, window: Window) -> bool:
        """Whether one statement reads a session with this window."""
        return window.named is None

    @asynccontextmanager
    async def transaction(
        self,
        *,
        deadline: float | None = None,
        lock_wait: float | None = None,
        one_instant: bool = False,
    ) -> AsyncIterator[Connection]:
        """Run a block in one transaction, committed at its end."""
        async with self.connected(self.deadline() if deadline is None else deadline) as connection:
            await connection.begin(self._begin(lock_wait, one_instant=one_instant))
            yield connection
            await connection.commit()

    @asynccontextmanager
    async def connected(self, deadline: float) -> AsyncIterator[Connection]:
        """Run a block on a connection; translate the driver's errors in it."""
        pool = self._pool
        if pool is None:
            raise StorageUnavailableError("the store is not initialized, or shut down")
        self._callers += 1
        try:
            driver = await self._acquire(pool, deadline - margin_of(self.timeout))
        except (*self.errors.classes, *self.errors.connecting) as error:
            self._callers -= 1
            raise self.errors.of_connection(error, seconds=self.timeout) from error
        except BaseException:
            self._callers -= 1
            raise
        connection = self.connection(self, driver, deadline)
        try:
            yield connection
            await connection.flush()
        except self.errors.classes as error:
            await self._discard(pool, driver, error, deadline)
            if self.errors.failure(error) is Failure.READ_ONLY:
                await self._renew(pool)  # after a failover, find the new primary
            failed = self.errors.of_statement(error, may_be_done=connection.may_be_done)
            raise self.counted(failed) from error
        except BaseException as error:
            await self._discard(pool, driver, error, deadline)
            raise
        else:
            await self._release(pool, driver)
        finally:
            self._callers -= 1
