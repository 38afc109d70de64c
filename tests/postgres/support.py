"""Helpers of these tests: sessions, appends, and reads of the tables themselves."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import asyncpg

from agent_cores.session.models import Change, SessionMetadata, Window
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.postgres.url import split_url
from agent_cores.session.storage.sql.batch import Batch
from agent_cores.session.storage.sql.dialect import carry_out
from agent_cores.session.testing.samples import creation, new_header, new_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from agent_cores.session.storage.postgres.provider import PostgresProvider

TABLES = ("sessions", "messages", "context", "owned", "shared", "deleted")


async def create(
    provider: PostgresProvider,
    session_id: str = "talk",
    *,
    created: datetime | None = None,
    **fields: Any,  # noqa: ANN401 - of SessionMetadata
) -> SessionMetadata:
    """Create a session, now or at that time, and return its header."""
    header = new_header(session_id, at=created or utc_now(), **fields)
    return (await provider.apply(creation(header))).header


def append(header: SessionMetadata, *ids: str, **guards: Any) -> Change:  # noqa: ANN401 - of Change
    """Return a plain append, decided on a header."""
    at = utc_now()
    return Change(
        namespace=header.namespace,
        session_id=header.session_id,
        at=at,
        basis=header,
        incarnation=header.incarnation,
        access_revision=header.access_revision,
        append=tuple(new_message(message_id, at=at) for message_id in ids),
        **guards,
    )


def change(header: SessionMetadata, **effects: Any) -> Change:  # noqa: ANN401 - of Change
    """Return a change other than an append, guarded by the incarnation."""
    return Change(
        namespace=header.namespace,
        session_id=header.session_id,
        at=utc_now(),
        incarnation=header.incarnation,
        **effects,
    )


async def message_ids(provider: PostgresProvider, session_id: str = "talk") -> list[str]:
    """Return the ids of a session's messages, in order."""
    look = await provider.read("default", session_id, window=Window(limit=1000))
    assert look is not None
    assert look.messages is not None
    return [message.id for message in look.messages]


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
