"""``MysqlDatabase``: connections to MySQL and MariaDB through asyncmy, and transactions.

Statements that return no rows wait for the next one that does, or for the COMMIT, and travel with
it in one round trip. A connection whose work was interrupted is closed, because its late response
would be taken for that of the next statement.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncmy

from agent_cores.session.errors import ConfigurationError, StorageUnavailableError
from agent_cores.session.storage.mysql import queries as sql
from agent_cores.session.storage.mysql.errors import (
    DRIVER_ERRORS,
    connection_error,
    is_read_only,
    statement_error,
)
from agent_cores.session.storage.sql.database import Database
from agent_cores.session.storage.sql.dialect import Statement, Step, carry_out_now
from agent_cores.session.storage.sql.errors import ClashError
from agent_cores.session.storage.sql.reading import PART, message_bounds, read_plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from agent_cores.session.models import Snapshot, Window
    from agent_cores.session.storage.mysql.options import MysqlOptions
    from agent_cores.session.storage.sql.database import Connection
    from agent_cores.session.storage.sql.dialect import Row
    from agent_cores.session.storage.sql.names import Names

_OLDEST = {"MariaDB": (10, 6), "MySQL": (8, 0, 22)}
_LEAST_PACKET = 16 * 1024 * 1024
"""Bytes that ``max_allowed_packet`` must allow: one escaped append and what is sent with it."""
_PIECE = 4 * 1024 * 1024
"""Characters of statements that are sent together, unless a single one is longer."""
_IDLE = 60
"""Seconds after which the server drops a silent connection, with the locks of its transaction."""
_PATIENCE = 1.0
"""Seconds that a rollback may take before the connection is closed instead."""
_SESSION = f"""SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION wait_timeout = {_IDLE}, lock_wait_timeout = {_IDLE}, sql_notes = 0,
        time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"""
_BEGIN = "SET SESSION innodb_lock_wait_timeout = {};START TRANSACTION"
_ONE_INSTANT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;START TRANSACTION READ ONLY"
_SCHEMA_LOCK = "CONCAT('agent-cores-session ', SHA1(DATABASE()))"


class MysqlConnection:
    """A connection inside a transaction; its writes travel with its next read."""

    def __init__(self, database: MysqlDatabase, driver: Any, deadline: float) -> None:  # noqa: ANN401 - asyncmy's own class
        self._database = database
        self._driver = driver
        self._deadline = deadline
        self._waiting: list[str] = []
        self._size = 0

    async def run(self, step: Step) -> list[Row]:
        """Execute one step: now if it returns rows, else with the next one that does."""
        rows: list[Row] = []
        reads = sql.returns_rows(step)
        for text in sql.statements(step, self._database.prefix):
            await self.add(text)
            if reads:
                rows += (await self.send())[-1]
        return rows

    async def script(self, text: str) -> None:
        """Run a schema file."""
        await self.add(text.replace("{prefix}", self._database.prefix).rstrip("; \n"))
        await self.send()

    async def add(self, text: str) -> None:
        """Queue a statement to be sent with later ones; send now if they would be too long."""
        if self._waiting and self._size + len(text) > _PIECE:
            await self.send()
        self._waiting.append(text)
        self._size += len(text)

    async def send(self) -> list[list[Row]]:
        """Send the queued statements in one round trip; return the rows of each that reads."""
        text = ";".join(self._waiting)
        self._waiting, self._size = [], 0
        return await self.execute(text) if text else []

    async def execute(self, text: str) -> list[list[Row]]:
        """Send one packet of statements; return the rows of each that reads."""
        found: list[list[Row]] = []
        async with asyncio.timeout_at(self._deadline), self._driver.cursor() as cursor:
            await cursor.execute(text.encode("latin-1"))
            more = True
            while more:
                if cursor.description is not None:
                    found.append(sql.decoded(cursor.description, await cursor.fetchall()))
                more = await cursor.nextset()
        return found


class MysqlDatabase(Database):
    """A pool of connections to one database; ``where`` are asyncmy's arguments that name it."""

    has_hot_append = True

    def __init__(self, where: Mapping[str, Any], options: MysqlOptions) -> None:
        self.timeout = options.timeout
        self.prefix = ""
        self._where = where
        self._options = options
        self._pool: Any = None

    @property
    def pool_size(self) -> int:
        """How many connections there are at most."""
        return self._options.pool_size

    def use(self, names: Names) -> None:
        """Use tables of this prefix."""
        self.prefix = names.prefix

    async def open(self) -> None:
        """Connect; raise for a server that cannot be used."""
        if self._pool is not None:
            return
        self._pool = await asyncmy.create_pool(
            minsize=0,
            maxsize=self.pool_size,
            pool_recycle=_IDLE // 2,
            connect_timeout=self._options.connect_timeout or self.timeout,
            unix_socket=self._options.unix_socket,
            ssl=self._options.tls(),
            autocommit=True,
            init_command=_SESSION,
            **self._where,
        )
        try:
            async with self._connected(self.deadline()) as connection:
                await connection.add("SELECT VERSION(), @@max_allowed_packet")
                [[(version, packet)]] = await connection.send()
            check_server(version, packet)
        except BaseException:
            await self.close()
            raise

    async def close(self, deadline: float | None = None) -> None:
        """Close the pool; at the deadline, abort connections that are still in use."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        pool.close()
        try:
            async with asyncio.timeout_at(self.deadline() if deadline is None else deadline):
                await pool.wait_closed()
        except DRIVER_ERRORS:
            pool.terminate()

    async def read(
        self, namespace: str, session_id: str, *, context: bool, window: Window | None
    ) -> Snapshot | None:
        """Read one session in one round trip, unless it is a very large window or one of names."""
        if window is not None and (window.max_bytes > PART or window.named is not None):
            return await super().read(namespace, session_id, context=context, window=window)
        plan = partial(read_plan, namespace, session_id, context=context, window=window)
        texts = list(self._read_at_once((namespace, session_id), context=context, window=window))
        deadline = self.deadline()

        async def attempt() -> Snapshot | None:
            async with self._connected(deadline) as connection:
                for text in texts:
                    await connection.add(text)
                found = iter(await connection.send())
            return carry_out_now(plan(), lambda _: next(found))

        return await self.repeatable(attempt)

    def _read_at_once(
        self, name: tuple[str, str], *, context: bool, window: Window | None
    ) -> Iterator[str]:
        """Yield the statements of ``read_plan``, in its order, without waiting for the key."""
        header = sql.statements(Step(Statement.HEADER, [name]), self.prefix)
        if not context and window is None:
            yield from header
            return
        yield from (_ONE_INSTANT, sql.find_key(name, self.prefix), *header)
        if window is not None:
            statement, bounds = message_bounds(window)
            step = Step(statement, [(sql.SESSION_KEY, *bounds)])
            yield from sql.statements(step, self.prefix)
        if context:
            step = Step(Statement.CONTEXT_ALL, [(sql.SESSION_KEY,)])
            yield from sql.statements(step, self.prefix)
        yield "COMMIT"

    async def run(self, step: Step, *, deadline: float | None = None) -> list[Row]:
        """Execute one step by itself, in one round trip."""
        until = self.deadline() if deadline is None else deadline

        async def attempt() -> list[Row]:
            async with self._connected(until) as connection:
                return await connection.run(step)

        return await self.repeatable(attempt)

    @asynccontextmanager
    async def transaction(
        self,
        *,
        deadline: float | None = None,
        lock_wait: float | None = None,
        one_instant: bool = False,
    ) -> AsyncIterator[MysqlConnection]:
        """Run a block in one transaction, committed at its end.

        It waits for locks in the unit of the server's setting: whole seconds, at least one.
        """
        deadline = self.deadline() if deadline is None else deadline
        wait = _seconds(self.timeout / 2 if lock_wait is None else lock_wait)
        begin = _ONE_INSTANT if one_instant else _BEGIN.format(wait)
        async with self._connected(deadline, begin=begin) as connection:
            yield connection

    @asynccontextmanager
    async def schema_lock(self, deadline: float) -> AsyncIterator[MysqlConnection]:
        """Run a block that makes tables while no other process does."""
        async with self._connected(deadline) as connection:
            await connection.add(f"SELECT GET_LOCK({_SCHEMA_LOCK}, {_seconds(self.timeout)})")
            [[(locked,)]] = await connection.send()
            if not locked:
                raise ClashError("another program is preparing the tables")
            yield connection  # if it fails, the pool is closed, which releases the lock
            await connection.add(f"DO RELEASE_LOCK({_SCHEMA_LOCK})")

    async def prepare_schema(self, connection: Connection) -> None:
        """Create the table of schema versions if it is missing."""
        await connection.script(sql.CREATE_VERSIONS)

    @asynccontextmanager
    async def _connected(
        self, deadline: float, *, begin: str | None = None
    ) -> AsyncIterator[MysqlConnection]:
        """Run a block on a connection, in a transaction if it is to ``begin`` with one."""
        pool = self._pool
        if pool is None:
            raise StorageUnavailableError("the store is not initialized, or shut down")
        try:
            async with asyncio.timeout_at(deadline):
                driver = await pool.acquire()
        except (*DRIVER_ERRORS, RuntimeError) as error:
            raise connection_error(error) from error
        connection, committing = MysqlConnection(self, driver, deadline), False
        try:
            if begin is not None:
                await connection.add(begin)
            yield connection
            if begin is not None:
                await connection.add("COMMIT")
                committing = True
            await connection.send()
        except DRIVER_ERRORS as error:
            await _roll_back(driver)
            if is_read_only(error):
                await pool.clear()  # after a failover, find the new primary
            raise self.counted(statement_error(error, may_be_done=committing)) from error
        except Exception:
            await _roll_back(driver)
            raise
        except BaseException:  # cancelled: the server may still be executing its statement
            driver.close()
            raise
        finally:
            pool.release(driver)


async def _roll_back(driver: Any) -> None:  # noqa: ANN401 - asyncmy's own class
    """Roll back, which releases the locks; close the connection if that fails."""
    try:
        async with asyncio.timeout(_PATIENCE):
            if driver.connected:
                await driver.rollback()
    except DRIVER_ERRORS:
        driver.close()


def _seconds(seconds: float) -> int:
    """Return a bound in the form that the server accepts."""
    return max(1, round(seconds))


def check_server(version: str, packet: int) -> None:
    """Raise for a server that is too old, or whose packets are too small."""
    name = "MariaDB" if "MariaDB" in version else "MySQL"
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    if numbers < _OLDEST[name]:
        oldest = ".".join(map(str, _OLDEST[name]))
        raise StorageUnavailableError(f"the server is {name} {version}; {oldest} is the oldest")
    if packet < _LEAST_PACKET:
        raise ConfigurationError(
            f"max_allowed_packet of the {name} server is {packet} bytes; set it to "
            f"{_LEAST_PACKET} or more, and connect again"
        )
