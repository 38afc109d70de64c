"""``PostgresProvider``: sessions in PostgreSQL, through asyncpg. PostgreSQL 13 or later.

What it does is the SQL core's work; here are its options and its URL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from agent_cores.session.errors import ConfigurationError, MissingDependencyError

try:
    import asyncpg  # noqa: TC002 - here it is found missing
except ImportError as _error:
    raise MissingDependencyError("asyncpg", "postgres") from _error

from agent_cores.session.storage.batching import MAX_QUEUED
from agent_cores.session.storage.postgres.connection import Database
from agent_cores.session.storage.postgres.options import PostgresOptions
from agent_cores.session.storage.postgres.url import split_url, without_password
from agent_cores.session.storage.sql.names import Names
from agent_cores.session.storage.sql.server_provider import SqlProvider

if TYPE_CHECKING:
    from agent_cores.session.settings import SessionSettings


class PostgresProvider(SqlProvider):
    """Sessions in PostgreSQL.

    ``dsn`` is what asyncpg takes; ``pool`` is an asyncpg pool of the caller's, which stays open.
    ``timeout`` (seconds) bounds an operation, the wait for a connection included;
    ``connect_timeout`` what making a connection may take of it. ``schema="check"`` never alters
    tables. ``table_prefix=None`` finds the store that is there, and names the tables of a new one
    ``agent_cores_…``. ``pooler="transaction"`` keeps nothing in a connection, for PgBouncer and its
    like. ``fast_path=False`` sends every change by the generic batch.
    """

    dialect = "postgres"
    backup_command: ClassVar[str] = "pg_dump --format=custom --file=FILE URL"
    database: Database

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
            raise ConfigurationError("give either dsn or pool, not both")
        options = PostgresOptions.check(
            pool_size=pool_size,
            timeout=timeout,
            connect_timeout=connect_timeout,
            schema=schema,
            table_prefix=table_prefix,
            database_schema=database_schema,
            pooler=pooler,
            max_queued=max_queued,
        )
        names = Names(table_prefix or "", database_schema)
        super().__init__(
            Database(dsn, pool, options),
            names.candidates(find=table_prefix is None),
            options,
            fast_path=fast_path,
        )
        self._dsn = dsn

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:  # noqa: ANN401 - of __init__
        """``postgresql://user:password@host:port/database?pooler=transaction&sslmode=require``."""
        dsn, own = split_url(url)
        return cls(dsn, **options | own)

    @classmethod
    def options_from(cls, settings: SessionSettings) -> dict[str, Any]:
        return super().options_from(settings) | {"database_schema": settings.database_schema}

    def describe(self) -> str:
        if self._dsn is None:
            return "PostgreSQL, by a pool given"
        return f"PostgreSQL at {without_password(self._dsn)}"
