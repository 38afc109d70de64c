"""Making the tables, and refusing those of others or of another release."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL

import pytest

from agent_cores.session.errors import StoreFormatError
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.mysql.provider import MysqlProvider
from tests.mysql.support import sql
from tests.sql_stores import append, create, message_ids

pytestmark = pytest.mark.anyio


async def test_processes_that_start_at_once_leave_one_clean_schema(url: str) -> None:
    program = (sys.executable, "-m", "agent_cores.session.cli", "migrate", "--storage", url)
    starting = (asyncio.create_subprocess_exec(*program, stdout=DEVNULL) for _ in range(4))
    processes = await asyncio.gather(*starting)
    assert await asyncio.gather(*(process.wait() for process in processes)) == [0] * 4
    assert sql(url, "SELECT * FROM `schema`") == "2\t1"


async def test_ten_programs_that_start_at_once_find_one_store(url: str) -> None:
    providers = [MysqlProvider.from_url(url, pool_size=2) for _ in range(10)]
    await asyncio.gather(*(provider.initialize() for provider in providers))
    header = await create(providers[0])
    for number, provider in enumerate(providers):
        await provider.apply(append(header, f"m{number}"))
    assert len(await message_ids(providers[0])) == 10
    for provider in providers:
        await provider.shutdown()


async def test_check_alters_nothing_and_says_what_to_do(url: str) -> None:
    with pytest.raises(StoreFormatError, match="agent-sessions migrate"):
        await MysqlProvider.from_url(url, schema="check").initialize()
    assert sql(url, "SHOW TABLES") == ""


async def test_check_accepts_tables_that_are_there(url: str, provider: MysqlProvider) -> None:
    checking = MysqlProvider.from_url(url, schema="check")
    await checking.initialize()
    assert (await checking.count(None, utc_now())).sessions == 0
    await checking.shutdown()


@pytest.mark.parametrize("table", ["sessions", "counters", "schema"])
async def test_tables_of_others_are_left_alone_and_the_way_out_is_named(
    url: str, table: str
) -> None:
    sql(url, f"CREATE TABLE `{table}` SELECT 7 AS theirs")
    with pytest.raises(StoreFormatError, match="SESSION_TABLE_PREFIX"):
        await MysqlProvider.from_url(url).initialize()
    assert sql(url, f"SELECT * FROM `{table}`") == "7"  # noqa: S608 - a name from above


async def test_an_interrupted_migration_goes_on_where_it_ended(
    url: str, provider: MysqlProvider
) -> None:
    await create(provider)
    sql(url, "DROP TABLE counters; DROP TABLE shared; DELETE FROM `schema`")
    again = MysqlProvider.from_url(url)
    await again.initialize()
    assert await message_ids(again) == []
    await again.shutdown()
    assert sql(url, "SELECT * FROM `schema`") == "2\t1"


async def test_tables_of_a_newer_program_are_refused(url: str, provider: MysqlProvider) -> None:
    sql(url, "UPDATE `schema` SET version = 9, oldest_program = 8")
    with pytest.raises(StoreFormatError, match="upgrade agent-cores-session"):
        await MysqlProvider.from_url(url).initialize()


async def test_tables_that_vanish_are_named_and_no_driver_error(
    url: str, provider: MysqlProvider
) -> None:
    sql(url, "DROP TABLE sessions")
    with pytest.raises(StoreFormatError, match=r"sessions' doesn't exist\); restore"):
        await provider.read("default", "talk")


async def test_a_store_that_lacks_a_table_is_not_opened_and_gets_no_empty_one(
    url: str, provider: MysqlProvider
) -> None:
    sql(url, "DROP TABLE messages")
    for schema in ("apply", "check"):
        with pytest.raises(StoreFormatError, match="restore the store from a backup"):
            await MysqlProvider.from_url(url, schema=schema).initialize()
    assert "messages" not in sql(url, "SHOW TABLES").split()


async def test_without_a_prefix_asked_for_the_tables_have_ours(url: str) -> None:
    provider = MysqlProvider.from_url(url.partition("?")[0])
    await provider.initialize()
    await provider.shutdown()
    assert all(name.startswith("agent_cores_") for name in sql(url, "SHOW TABLES").split())
