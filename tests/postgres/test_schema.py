"""Making the tables, and refusing those of another release."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL

import pytest

from agent_cores.session.errors import StoreFormatError
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.sql import schema as sql_schema
from agent_cores.session.storage.sql.schema import numbered_files
from tests.postgres.support import connected
from tests.sql_stores import append, change, create, message_ids

pytestmark = pytest.mark.anyio


async def test_ten_processes_that_start_at_once_leave_one_clean_schema(url: str) -> None:
    program = (sys.executable, "-m", "agent_cores.session.cli", "migrate", "--storage", url)
    starting = (asyncio.create_subprocess_exec(*program, stdout=DEVNULL) for _ in range(10))
    processes = await asyncio.gather(*starting)
    assert await asyncio.gather(*(process.wait() for process in processes)) == [0] * 10
    async with connected(url) as connection:
        assert [tuple(row) for row in await connection.fetch("SELECT * FROM schema")] == [(2, 1)]


async def test_ten_programs_that_start_at_once_find_one_store(url: str) -> None:
    providers = [PostgresProvider.from_url(url, pool_size=2) for _ in range(10)]
    await asyncio.gather(*(provider.initialize() for provider in providers))
    header = await create(providers[0])
    for number, provider in enumerate(providers):
        await provider.apply(append(header, f"m{number}"))
    assert len(await message_ids(providers[0])) == 10
    for provider in providers:
        await provider.shutdown()


async def test_check_alters_nothing_and_says_what_to_do(url: str) -> None:
    provider = PostgresProvider.from_url(url, schema="check")
    with pytest.raises(StoreFormatError, match="agent-sessions migrate"):
        await provider.initialize()
    async with connected(url) as connection:
        schemas = await connection.fetch("SELECT nspname FROM pg_namespace")
        here = await connection.fetchval("SHOW search_path")
        assert here not in {row["nspname"] for row in schemas}


async def test_check_accepts_tables_that_are_there(url: str, provider: PostgresProvider) -> None:
    checking = PostgresProvider.from_url(url, schema="check")
    await checking.initialize()
    assert (await checking.count(None, utc_now())).sessions == 0
    await checking.shutdown()


async def test_a_store_that_lacks_a_table_is_not_opened_and_gets_no_empty_one(
    url: str, provider: PostgresProvider
) -> None:
    async with connected(url) as connection:
        await connection.execute("DROP TABLE messages")
        for schema in ("apply", "check"):
            with pytest.raises(StoreFormatError, match="restore the store from a backup"):
                await PostgresProvider.from_url(url, schema=schema).initialize()
        assert await connection.fetchval("SELECT to_regclass('messages')") is None


@pytest.mark.parametrize("table", ["sessions", "counters", "schema"])
async def test_tables_of_others_under_our_names_are_left_alone_and_the_way_out_is_named(
    url: str, table: str
) -> None:
    async with connected(url) as connection:
        await connection.execute(f"CREATE SCHEMA {url.rpartition('=')[2]}")
        await connection.execute(f"CREATE TABLE {table} (colour text)")
        with pytest.raises(StoreFormatError, match="SESSION_TABLE_PREFIX"):
            await PostgresProvider.from_url(url).initialize()
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        assert [row[0] for row in await connection.fetch(tables)] == [table]
    beside = PostgresProvider.from_url(url.replace("table_prefix=", "table_prefix=ours_"))
    await beside.initialize()
    await create(beside)
    await beside.shutdown()


async def test_the_next_release_brings_the_tables_up_and_this_one_runs_on_beside_it(
    url: str, provider: PostgresProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = await create(provider)
    await provider.apply(append(header, "before"))
    alter = "ALTER TABLE {schema}.\"{prefix}sessions\" ADD COLUMN colour text DEFAULT 'red'"
    files = [*numbered_files("postgres"), (3, alter)]
    monkeypatch.setattr(sql_schema, "numbered_files", lambda _: files)
    with pytest.raises(StoreFormatError, match="at schema 2, this program needs 3"):
        await PostgresProvider.from_url(url, schema="check").initialize()
    following = PostgresProvider.from_url(url)
    await following.initialize()
    assert await message_ids(following) == ["before"]
    await following.apply(append(header, "by the next"))
    await provider.apply(append(header, "by this one"))
    await provider.apply(change(header, metadata={"title": "new"}))
    assert await message_ids(provider) == ["before", "by the next", "by this one"]
    async with connected(url) as connection:
        assert [tuple(row) for row in await connection.fetch("SELECT * FROM schema")] == [(3, 1)]
        assert await connection.fetchval("SELECT colour FROM sessions") == "red"
    await following.shutdown()


@pytest.mark.parametrize("mode", ["apply", "check"])
async def test_a_program_that_is_too_old_is_refused_by_name_and_touches_nothing(
    url: str, provider: PostgresProvider, mode: str
) -> None:
    async with connected(url) as connection:
        await connection.execute("UPDATE schema SET version = 9, oldest_program = 8")
        old = PostgresProvider.from_url(url, schema=mode)
        with pytest.raises(StoreFormatError, match="upgrade agent-cores-session"):
            await old.initialize()
        assert [tuple(row) for row in await connection.fetch("SELECT * FROM schema")] == [(9, 8)]


async def test_a_newer_schema_that_this_program_still_knows_is_used_as_it_is(
    url: str, provider: PostgresProvider
) -> None:
    async with connected(url) as connection:
        await connection.execute("UPDATE schema SET version = 9")
        await connection.execute("ALTER TABLE sessions ADD COLUMN colour text DEFAULT 'red'")
        beside = PostgresProvider.from_url(url)
        await beside.initialize()
        header = await create(beside)
        await connection.execute("UPDATE sessions SET colour = 'blue'")
        await beside.apply(append(header, "m"))
        assert await connection.fetchval("SELECT colour FROM sessions") == "blue"
        await beside.shutdown()


async def test_two_prefixes_are_two_stores_in_one_schema(url: str) -> None:
    first = PostgresProvider.from_url(url.replace("table_prefix=", "table_prefix=First_"))
    second = PostgresProvider.from_url(url.replace("table_prefix=", "table_prefix=second_"))
    for provider in (first, second):
        await provider.initialize()
    await create(first)
    assert (await first.count(None, utc_now())).sessions == 1
    assert (await second.count(None, utc_now())).sessions == 0
    for provider in (first, second):
        await provider.shutdown()
