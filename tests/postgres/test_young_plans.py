"""A plan is kept while the tables grow: one that was made on an empty table must still do.

Until autovacuum comes by, which may take a minute, the server knows no more than their size.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.postgres.url import split_url
from tests.postgres.support import connected
from tests.postgres.test_plans import STATEMENTS, TABLES, fill
from tests.servers.postgres import empty_store, shared_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from asyncpg.prepared_stmt import PreparedStatement

pytestmark = pytest.mark.anyio

SESSIONS = 20_000
EXPLAIN = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_analyze = on;
SET auto_explain.log_buffers = on;
SET auto_explain.log_format = json;
SET auto_explain.log_level = notice;
"""


class Planned:
    """Statements whose plans were made when the store was young."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        self._statements: dict[str, PreparedStatement[asyncpg.Record]] = {}

    async def plan(self, provider: PostgresProvider) -> None:
        for name, (text, arguments) in STATEMENTS.items():
            statement = await self._connection.prepare(provider.database.filled(text))
            await self._undone(statement, arguments)
            self._statements[name] = statement

    async def blocks_read(self, name: str) -> int:
        """Execute a statement by its plan; return how many blocks it needed."""
        explained: asyncio.Queue[str] = asyncio.Queue()

        def listen(_: object, message: asyncpg.PostgresLogMessage) -> None:
            explained.put_nowait(str(message))

        self._connection.add_log_listener(listen)
        try:
            await self._undone(self._statements[name], STATEMENTS[name][1])
            text = await explained.get()
            while "duration:" not in text:
                text = await explained.get()
        finally:
            self._connection.remove_log_listener(listen)
        plan = json.loads(text[text.index("{") :])["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    async def _undone(
        self, statement: PreparedStatement[asyncpg.Record], arguments: Sequence[Any]
    ) -> None:
        transaction = self._connection.transaction()
        await transaction.start()
        await statement.fetch(*arguments)
        await transaction.rollback()


@pytest.fixture(scope="module", params=[0, 5], ids=["empty", "five sessions"])
async def grown(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[dict[str, int], dict[str, int]]]:
    """The blocks that each statement reads in a grown store: by a plan of its youth, and anew."""
    url = empty_store(f"{shared_server().url()}?table_prefix=")
    provider = PostgresProvider.from_url(url)
    await provider.initialize()
    try:
        async with connected(url) as connection, settled(provider, url) as own:
            for table in TABLES.split(", "):
                await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
            # the rows that earlier cases deleted here are still in the blocks
            await connection.execute(f"TRUNCATE {TABLES} RESTART IDENTITY")
            if request.param:
                await fill(connection, request.param)
                await connection.execute(f"ANALYZE {TABLES}")
            planned = Planned(own)
            await planned.plan(provider)
            for table in TABLES.split(", "):
                await connection.execute(f"DELETE FROM {table}")  # noqa: S608
            await connection.execute("ALTER SEQUENCE sessions_session_key_seq RESTART")
            await fill(connection, SESSIONS)
            await own.execute(EXPLAIN)
            young = {name: await planned.blocks_read(name) for name in STATEMENTS}
            await connection.execute(f"ANALYZE {TABLES}")
            await own.execute("DISCARD PLANS")
            yield young, {name: await planned.blocks_read(name) for name in STATEMENTS}
    finally:
        await provider.shutdown()


@asynccontextmanager
async def settled(
    provider: PostgresProvider, url: str
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Connect as the provider does, and keep the first plan of each statement."""
    query = "SELECT name, setting FROM pg_settings WHERE source = 'client'"
    async with provider.database.connected(provider.database.deadline()) as providers:
        settings = dict(await providers.fetch(query))
    connection = await asyncpg.connect(split_url(url)[0], server_settings=settings)
    try:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_plan_made_while_the_store_was_small_reads_no_more_once_it_has_grown(
    grown: tuple[dict[str, int], dict[str, int]], name: str
) -> None:
    young, now = grown
    assert young[name] <= 2 * now[name] + 10
