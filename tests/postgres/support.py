"""Helpers of these tests: reads of the tables themselves, locks, and open transactions."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import asyncpg

from agent_cores.session.models import Change, Window
from agent_cores.session.storage.postgres.url import split_url
from agent_cores.session.storage.sql.batch import Batch
from agent_cores.session.storage.sql.dialect import carry_out

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent_cores.session.storage.postgres.provider import PostgresProvider

TABLES = ("sessions", "messages", "context", "owned", "shared", "deleted")


async def consecutive_ids(provider: PostgresProvider, session_id: str) -> list[str]:
    """Return the ids of all messages; assert that their seqs have no gap."""
    window = Window(limit=10**9, max_bytes=10**9, after_seq=0)
    look = await provider.read("default", session_id, window=window)
    assert look is not None
    assert look.messages is not None
    assert [message.seq for message in look.messages] == list(range(1, len(look.messages) + 1))
    assert look.header.message_count == look.header.last_seq == len(look.messages)
    return [message.id for message in look.messages]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Connect to the store's database, its schema first in the search path."""
    dsn, _ = split_url(url)
    schema = parse_qs(urlsplit(url).query)["database_schema"][0]
    connection = await asyncpg.connect(dsn, server_settings={"search_path": schema})
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def uncommitted(provider: PostgresProvider, *changes: Change) -> AsyncIterator[None]:
    """Apply changes, and commit only at the end of the block."""
    async with provider.database.transaction() as transaction:
        for answer in await carry_out(Batch(changes).plan(), transaction.run):
            assert not isinstance(answer, Exception), answer
        yield


async def waits_for_lock(url: str) -> None:
    """Return once another connection to this database waits for a row."""
    async with connected(url) as connection:
        query = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while not await connection.fetchval(query):
            pass


async def row_counts(url: str) -> dict[str, int]:
    """Return the number of rows of each table."""
    async with connected(url) as connection:
        return {
            table: await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
            for table in TABLES
        }
