"""``MysqlDatabase``: connections to MySQL and MariaDB through asyncmy, and transactions.

Statements that return no rows wait for the next one that does, or for the COMMIT, and travel with
it in one round trip. A connection whose work was interrupted is closed, because its late response
would be taken for that of the next statement.
"""

# ruff: noqa: ANN401 - classes of asyncmy, which has no types

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncmy

from agent_cores.session.errors import ConfigurationError, StorageUnavailableError
from agent_cores.session.storage.mysql import queries as sql
from agent_cores.session.storage.mysql.errors import MysqlErrors
from agent_cores.session.storage.sql.dialect import carry_out_now
from agent_cores.session.storage.sql.errors import ClashError
from agent_cores.session.storage.sql.pool import PooledConnection, PooledDatabase
from agent_cores.session.storage.sql.reading import read_plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agent_cores.session.models import Snapshot, Window
    from agent_cores.session.storage.mysql.options import MysqlOptions
    from agent_cores.session.storage.sql.database import Connection
    from agent_cores.session.storage.sql.dialect import Row, Step
    from agent_cores.session.storage.sql.names import Names

_OLDEST = {"MariaDB": (10, 6), "MySQL": (8, 0, 22)}
_LEAST_PACKET = 16 * 1024 * 1024
"""Bytes that ``max_allowed_packet`` must allow: one escaped append and what is sent with it."""
_PIECE = 4 * 1024 * 1024
"""Characters of statements that are sent together, unless a single one is longer."""
_IDLE = 60
"""Seconds after which the server drops a silent connection, with the locks of its transaction."""
_LONGEST_ROLLBACK = 1.0
"""Seconds that a rollback may take before the connection is closed instead."""
_SESSION = f"""SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION wait_timeout = {_IDLE}, lock_wait_timeout = {_IDLE}, sql_notes = 0,
        time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"""
_BEGIN = "SET SESSION innodb_lock_wait_timeout = {};START TRANSACTION"
_SCHEMA_LOCK = "CONCAT('agent-cores-session ', SHA1(DATABASE()))"


class MysqlConnection(PooledConnection):
    """A connection inside a transaction; its writes travel with its next read."""

    def __init__(self, database: MysqlDatabase, driver: Any, deadline: float) -> None:
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

    async def begin(self, statements: str) -> None:
        """Begin with the first statements that are sent."""
        await self.add(statements)

    async def commit(self) -> None:
        """Commit together with what still waits to be sent."""
        await self.add("COMMIT")
        self.may_be_done = True

    async def flush(self) -> None:
        """Send the queued statements."""
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


class MysqlDatabase(PooledDatabase[MysqlConnection]):
    """A pool of connections to one database; ``where`` are asyncmy's arguments that name it."""

    errors: MysqlErrors = MysqlErrors()

    def __init__(self, where: Mapping[str, Any], options: MysqlOptions) -> None:
        self.timeout: float = options.timeout
        self.connect_timeout: float = options.connect_timeout or options.timeout
        self.prefix: str = ""
        self._where = where
        self._options = options

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
        await super().open()
        try:
            async with self.connected(self.deadline()) as connection:
                await connection.add("SELECT VERSION(), @@max_allowed_packet")
                [[(version, packet)]] = await connection.send()
            check_server(version, packet)
        except BaseException:
            await self.close()
            raise

    @asynccontextmanager
    async def schema_lock(self, deadline: float) -> AsyncIterator[MysqlConnection]:
        """Run a block that makes tables while no other process does."""
        async with self.connected(deadline) as connection:
            await connection.add(f"SELECT GET_LOCK({_SCHEMA_LOCK}, {_seconds(self.timeout)})")
            [[(locked,)]] = await connection.send()
            if not locked:
                raise ClashError("another program is preparing the tables")
            yield connection  # if it fails, the pool is closed, which releases the lock
            await connection.add(f"DO RELEASE_LOCK({_SCHEMA_LOCK})")

    async def prepare_schema(self, connection: Connection) -> None:
        """Create the table of schema versions if it is missing."""
        await connection.script(sql.CREATE_VERSIONS)

    def _begin(self, lock_wait: float | None, *, one_instant: bool) -> str:
        """It waits for locks in the unit of the server's setting: whole seconds, at least one."""
        wait = _seconds(self.timeout / 2 if lock_wait is None else lock_wait)
        return sql.ONE_INSTANT if one_instant else _BEGIN.format(wait)

    async def _read_at_once(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool,
        window: Window | None,
        deadline: float,
    ) -> Snapshot | None:
        async with self.connected(deadline) as connection:
            name = namespace, session_id
            for text in sql.read_at_once(name, self.prefix, context=context, window=window):
                await connection.add(text)
            found = iter(await connection.send())
        plan = read_plan(namespace, session_id, context=context, window=window)
        return carry_out_now(plan, lambda _: next(found))

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
            **self._where,
        )

    async def _close_pool(self, pool: Any) -> None:
        pool.close()
        await pool.wait_closed()

    async def _renew(self, pool: Any) -> None:
        await pool.clear()

    def _connection(self, driver: Any, deadline: float) -> MysqlConnection:
        return MysqlConnection(self, driver, deadline)

    async def _acquire(self, pool: Any, deadline: float) -> Any:
        async with asyncio.timeout_at(deadline):
            return await pool.acquire()

    async def _release(self, pool: Any, driver: Any) -> None:
        pool.release(driver)

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
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    if numbers < _OLDEST[name]:
        oldest = ".".join(map(str, _OLDEST[name]))
        raise StorageUnavailableError(f"the server is {name} {version}; {oldest} is the oldest")
    if packet < _LEAST_PACKET:
        raise ConfigurationError(
            f"max_allowed_packet of the {name} server is {packet} bytes; set it to "
            f"{_LEAST_PACKET} or more, and connect again"
        )
