"""``PostgresProvider``: sessions in PostgreSQL, through asyncpg. PostgreSQL 13 or later.

``writing.py`` carries out changes, ``reading.py`` reads and lists, ``schema_versions.py`` makes the
tables.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

from agent_cores.session.errors import (
    ConfigurationError,
    MissingDependencyError,
    StorageUnavailableError,
)

try:
    import asyncpg  # noqa: TC002 - here it is found missing
except ImportError as error:
    raise MissingDependencyError("asyncpg", "postgres") from error

import msgspec

from agent_cores.session.models import Applied, Change, Ended, Found, Query, Snapshot, Window
from agent_cores.session.models.times import from_millis, to_millis
from agent_cores.session.storage.base import Capabilities, Counts
from agent_cores.session.storage.batching import MAX_QUEUED
from agent_cores.session.storage.headers import HeaderReader
from agent_cores.session.storage.native import NativeProvider
from agent_cores.session.storage.postgres import queries as sql
from agent_cores.session.storage.postgres.clock import ServerClock
from agent_cores.session.storage.postgres.connection import Database
from agent_cores.session.storage.postgres.errors import ClashError
from agent_cores.session.storage.postgres.names import DEFAULT_PREFIX, Names
from agent_cores.session.storage.postgres.options import PostgresOptions
from agent_cores.session.storage.postgres.purge import Purger
from agent_cores.session.storage.postgres.reading import find_page, look
from agent_cores.session.storage.postgres.schema_versions import apply_schema, check_schema
from agent_cores.session.storage.postgres.url import split_url, without_password
from agent_cores.session.storage.postgres.writing import Writer

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.settings import SessionSettings


class PostgresProvider(NativeProvider):
    """Sessions in PostgreSQL.

    ``dsn`` is what asyncpg takes; ``pool`` is an asyncpg pool of the caller's, which stays open.
    ``timeout`` (seconds) bounds an operation, the wait for a connection included;
    ``connect_timeout`` what making a connection may take of it. ``schema="check"`` never alters
    tables. ``table_prefix=None`` finds the store that is there, and names the tables of a new one
    ``agent_cores_…``. ``pooler="transaction"`` keeps nothing in a connection, for PgBouncer and its
    like. ``fast_path=False`` sends every change by the generic batch.
    """

    capabilities = Capabilities(shared=True, durable=True, flat=True)

    def __init__(
        self,
        dsn: str | None = None,
        *,
        pool: asyncpg.Pool[asyncpg.Record] | None = None,
        pool_size: int = 10,
        timeout: float = 10.0,
        connect_timeout: float | None = None,
        schema: Literal["apply", "check"] = "apply",
        table_prefix: str | None = None,
        database_schema: str = "public",
        pooler: Literal["transaction"] | None = None,
        fast_path: bool = True,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        if (dsn is None) is (pool is None):
            raise ConfigurationError("give either dsn or pool")
        PostgresOptions.check(
            pool_size=pool_size,
            timeout=timeout,
            connect_timeout=connect_timeout,
            schema=schema,
            table_prefix=table_prefix,
            database_schema=database_schema,
            pooler=pooler,
            max_queued=max_queued,
        )
        self._wanted = Names(database_schema, table_prefix or "")
        self._finds_prefix = table_prefix is None
        self._dsn = dsn
        self._check_only = schema == "check"
        self.database = Database(
            dsn=dsn,
            pool=pool,
            pool_size=pool_size,
            timeout=timeout,
            connect_timeout=connect_timeout,
            pooled=pooler is not None,
        )
        self._headers = HeaderReader()
        self._purger = Purger(self.database)
        self._clock = ServerClock(self.database)
        self._writer = Writer(
            self.database,
            clock=self._clock,
            fast_path=fast_path,
            max_queued=max_queued,
            on_delete=self._purger.wake,
        )

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:  # noqa: ANN401 - of __init__
        """``postgresql://user:password@host:port/database?pooler=transaction&sslmode=require``."""
        dsn, own = split_url(url)
        return cls(dsn, **options | own)

    @classmethod
    def options_from(cls, settings: SessionSettings) -> dict[str, Any]:
        return {
            "pool_size": max(2, settings.pool_size),
            "timeout": settings.timeout,
            "schema": settings.schema,
            "table_prefix": settings.table_prefix,
            "database_schema": settings.database_schema,
            "max_queued": settings.max_queued_writes,
        }

    def describe(self) -> str:
        if self._dsn is None:
            return "PostgreSQL, by a pool given"
        return f"PostgreSQL at {without_password(self._dsn)}"

    async def initialize(self) -> None:
        await self.database.open()
        prepare = check_schema if self._check_only else apply_schema
        names = self._wanted
        wanted = [names]
        if self._finds_prefix:
            wanted.insert(0, msgspec.structs.replace(names, prefix=DEFAULT_PREFIX))
        try:
            await prepare(self.database, wanted, self.database.deadline())
            await self._clock.measure()
        except ClashError as error:
            await self.database.close()
            raise StorageUnavailableError("another program is preparing the tables") from error
        except BaseException:
            await self.database.close()
            raise
        self._writer.reopen()
        self._purger.reopen()
        self._purger.wake()

    async def shutdown(self) -> None:
        """Finish what was accepted; what is not done after ``timeout`` seconds is cut off."""
        deadline = self.database.deadline()
        await self._writer.drain(deadline)
        await self._purger.stop(deadline)
        await self.database.close(deadline)

    async def check(self) -> None:
        await self.database.fetch(sql.CHECK, writes=True)

    async def store_time(self) -> datetime:
        return from_millis(await self._clock.measure())

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        return await look(self.database, namespace, session_id, context=context, window=window)

    async def apply(self, change: Change) -> Applied:
        return await self._writer.apply(change)

    async def find(self, query: Query) -> Found:
        return await find_page(self.database, query, self._headers)

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Take sessions that have ended. One that cannot be read is only put off by the lease."""
        self._purger.wake()  # what another process left behind
        lease_end = to_millis(at + timedelta(seconds=lease_seconds))
        deadline = self.database.deadline()
        taken: list[Ended] = []
        while wanted := limit - len(taken):
            rows = await self._take_due(to_millis(at), wanted, lease_end, deadline)
            for row in rows:
                header = self._headers.read(row, row["namespace"], row["session_id"])
                if header is not None and header.is_expired(at):
                    taken.append(Ended.of(header))
            if len(rows) < wanted:
                break
        return taken

    async def _take_due(self, at: int, limit: int, lease_end: int, deadline: float) -> list[Any]:
        """Take due sessions. Those whose answer was lost come again when their lease ends."""
        arguments = at, limit, lease_end
        return await self.database.repeatable(
            lambda: self.database.fetch(sql.TAKE_DUE, *arguments, writes=True, deadline=deadline)
        )

    async def count(self, namespace: str | None, at: datetime) -> Counts:
        row = (await self.database.fetch(sql.COUNT, namespace, to_millis(at)))[0]
        return Counts(row["sessions"], row["due"])
