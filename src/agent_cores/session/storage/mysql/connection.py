"""``MysqlDatabase``: connections to MySQL and MariaDB through asyncmy, and transactions.

A connection whose work was interrupted is closed, because its late response would be taken for that
of the next statement.
"""
# ruff: noqa: ANN401 - classes of asyncmy, which has no types

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncmy

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.storage.mysql.errors import MysqlErrors
from agent_cores.session.storage.mysql.queries import MysqlQueries
from agent_cores.session.storage.sql.errors import ClashError
from agent_cores.session.storage.sql.failures import require_version
from agent_cores.session.storage.sql.literal_rows import decoded
from agent_cores.session.storage.sql.text_connection import TextConnection, TextDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agent_cores.session.storage.mysql.options import MysqlOptions
    from agent_cores.session.storage.sql.dialect import Row

_OLDEST = {"MariaDB": (10, 6), "MySQL": (8, 0, 22)}
_LEAST_PACKET = 16 * 1024 * 1024
"""Bytes that ``max_allowed_packet`` must allow: one escaped append and what is sent with it."""
_IDLE = 60
"""Seconds after which the server drops a silent connection, with the locks of its transaction."""
_LONGEST_ROLLBACK = 1.0
"""Seconds that a rollback may take before the connection is closed instead."""
_SESSION = f"""SET NAMES utf8mb4; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION wait_timeout = {_IDLE}, lock_wait_timeout = {_IDLE}, sql_notes = 0,
        time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"""
"""Runs after the server's ``init_connect``, which may set a character set that breaks escapes."""
_ONE_INSTANT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;START TRANSACTION READ ONLY"
_BEGIN = "SET SESSION innodb_lock_wait_timeout = {};START TRANSACTION"
_SCHEMA_LOCK = "CONCAT('agent-cores-session ', SHA1(DATABASE()))"


class MysqlConnection(TextConnection):
    """A connection of asyncmy's pool."""

    async def execute(self, text: str) -> list[list[Row]]:
        """Send one packet of statements; return the rows of each that reads."""
        found: list[list[Row]] = []
        async with asyncio.timeout_at(self._deadline), self._driver.cursor() as cursor:
            await cursor.execute(text.encode("latin-1"))
            more = True
            while more:
                if cursor.description is not None:
                    names = [column[0] for column in cursor.description]
                    found.append(decoded(names, await cursor.fetchall()))
                more = await cursor.nextset()
        return found


class MysqlDatabase(TextDatabase[MysqlConnection]):
    """A pool of connections to one database; ``place`` are asyncmy's arguments that name it."""

    queries: MysqlQueries = MysqlQueries()
    errors: MysqlErrors = MysqlErrors()
    connection = MysqlConnection

    def __init__(self, place: Mapping[str, Any], options: MysqlOptions) -> None:
        super().__init__(options)
        self._place = place
        self._options = options

    @asynccontextmanager
    async def schema_lock(self, deadline: float) -> AsyncIterator[MysqlConnection]:
        """Run a block that makes tables while no other process does."""
        async with self.connected(deadline) as connection:
            lock = f"SELECT GET_LOCK({_SCHEMA_LOCK}, {_seconds(self.timeout)})"
            [[(locked,)]] = await connection.execute(lock)
            if not locked:
                raise ClashError("another program is preparing the tables")
            yield connection  # if it fails, the pool is closed, which releases the lock
            await connection.add(f"DO RELEASE_LOCK({_SCHEMA_LOCK})")

    def _begin(self, lock_wait: float | None, *, one_instant: bool) -> str:
        """It waits for locks in the unit of the server's setting: whole seconds, at least one."""
        wait = _seconds(self.timeout / 2 if lock_wait is None else lock_wait)
        return _ONE_INSTANT if one_instant else _BEGIN.format(wait)

    async def _check_server(self) -> None:
        async with self.connected(self.deadline()) as connection:
            found = await connection.execute("SELECT VERSION(), @@max_allowed_packet")
        check_server(*found[0][0])

    async def _create_pool(self) -> Any:
        return await asyncmy.create_pool(
            minsize=0,
            maxsize=self.pool_size,
            pool_recycle=_IDLE // 2,
            connect_timeout=self.connect_timeout,
            unix_socket=self._options.unix_socket,
            ssl=self._options.tls(),
            autocommit=True,
            init_command=_SESSION,
            **self._place,
        )

    async def _close_pool(self, pool: Any) -> None:
        pool.close()
        await pool.wait_closed()

    async def _renew(self, pool: Any) -> None:
        await pool.clear()

    async def _discard(self, pool: Any, driver: Any, error: BaseException, deadline: float) -> None:  # noqa: ARG002 - it takes a second at most
        """Roll back, which releases the locks; close the connection if that fails."""
        try:
            if not isinstance(error, Exception):  # cancelled: the server may still execute it
                driver.close()
                return
            async with asyncio.timeout(_LONGEST_ROLLBACK):
                if driver.connected:
                    await driver.rollback()
        except self.errors.classes:
            driver.close()
        finally:
            pool.release(driver)


def _seconds(seconds: float) -> int:
    """Return a bound in the form that the server accepts."""
    return max(1, round(seconds))


def check_server(version: str, packet: int) -> None:
    """Raise for a server that is too old, or whose packets are too small."""
    name = "MariaDB" if "MariaDB" in version else "MySQL"
    require_version(name, version, _OLDEST[name])
    if packet < _LEAST_PACKET:
        raise ConfigurationError(
            f"max_allowed_packet of the {name} server is {packet} bytes; set it to "
            f"{_LEAST_PACKET} or more, and connect again"
        )
