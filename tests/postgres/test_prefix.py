"""The default prefix of the tables, and a store from before there was one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import StoreFormatError
from agent_cores.session.storage.postgres.provider import PostgresProvider
from tests.postgres.support import connected
from tests.sql_stores import append, create, message_ids

if TYPE_CHECKING:
    import asyncpg

pytestmark = pytest.mark.anyio

TABLES = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1"
OURS = [
    "context",
    "counters",
    "deleted",
    "messages",
    "owned",
    "schema",
    "sessions",
    "shared",
    "tagged",
]
PREFIXED = [f"agent_cores_{name}" for name in OURS]


@pytest.fixture
def url(url: str) -> str:
    """Return a store that says nothing of a prefix."""
    return url.replace("table_prefix=&", "")


async def table_names(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    return [row[0] for row in await connection.fetch(TABLES)]


@pytest.mark.parametrize("others", [("sessions", "messages", "schema"), ("schema",), ()])
async def test_a_new_store_stands_beside_an_applications_own_tables(
    url: str, others: tuple[str, ...]
) -> None:
    async with connected(url) as connection:
        await connection.execute(f"CREATE SCHEMA {url.rpartition('=')[2]}")
        for name in others:
            await connection.execute(f"CREATE TABLE {name} (version integer, colour text)")
            await connection.execute(f"INSERT INTO {name} VALUES (1, 'red')")  # noqa: S608
        provider = PostgresProvider.from_url(url)
        await provider.initialize()
        header = await create(provider)
        await provider.apply(append(header, "m"))
        await provider.shutdown()
        assert await table_names(connection) == sorted([*PREFIXED, *others])
        for name in others:
            rows = await connection.fetch(f"SELECT * FROM {name}")  # noqa: S608 - as above
            assert [tuple(row) for row in rows] == [(1, "red")]
        again = PostgresProvider.from_url(url, schema="check")
        await again.initialize()
        assert await message_ids(again) == ["m"]
        await again.shutdown()


@pytest.mark.parametrize("mode", ["apply", "check"])
async def test_a_store_from_before_the_default_prefix_goes_on_being_used(
    url: str, mode: str
) -> None:
    earlier = PostgresProvider.from_url(f"{url}&table_prefix=")
    await earlier.initialize()
    header = await create(earlier)
    await earlier.apply(append(header, "earlier"))
    now = PostgresProvider.from_url(url, schema=mode)
    await now.initialize()
    await now.apply(append(header, "now"))
    assert await message_ids(earlier) == ["earlier", "now"]
    async with connected(url) as connection:
        assert await table_names(connection) == OURS
    await now.shutdown()
    await earlier.shutdown()


async def test_of_two_stores_the_one_with_the_prefix_is_used_and_the_other_is_named(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    new = PostgresProvider.from_url(url)
    await new.initialize()
    await create(new)
    earlier = PostgresProvider.from_url(f"{url}&table_prefix=")
    await earlier.initialize()
    assert await earlier.read("default", "talk") is None
    again = PostgresProvider.from_url(url)
    await again.initialize()
    assert await again.read("default", "talk") is not None
    assert "SESSION_TABLE_PREFIX" in caplog.text
    for provider in (new, earlier, again):
        await provider.shutdown()


async def test_programs_that_start_at_once_agree_on_the_prefix(url: str) -> None:
    providers = [PostgresProvider.from_url(url, pool_size=2) for _ in range(6)]
    await asyncio.gather(*(provider.initialize() for provider in providers))
    await create(providers[0])
    for provider in providers:
        assert await provider.read("default", "talk") is not None
        await provider.shutdown()


async def test_to_check_where_there_is_nothing_of_ours_makes_nothing(url: str) -> None:
    async with connected(url) as connection:
        await connection.execute(f"CREATE SCHEMA {url.rpartition('=')[2]}")
        await connection.execute("CREATE TABLE sessions (colour text)")
        with pytest.raises(StoreFormatError, match="agent-sessions migrate"):
            await PostgresProvider.from_url(url, schema="check").initialize()
        assert await table_names(connection) == ["sessions"]
