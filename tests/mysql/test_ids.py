"""Ids are equal byte for byte alone, whatever the character set and collation of the server."""

from __future__ import annotations

import pytest

from agent_cores.session.models import Query
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.mysql.provider import MysqlProvider
from agent_cores.session.testing.samples import new_context
from tests.mysql.support import sql
from tests.servers.mariadb import MariaDBServer, shared_server
from tests.sql_stores import append, change, create, message_ids

pytestmark = pytest.mark.anyio

ALIKE = ["talk", "Talk", "tálk", "talk ", "talk  ", "ta\u0301lk", "t\\'alk%", "谈话", "谈话😀"]
LONG = "é" * 127 + "x"


async def test_sessions_whose_ids_look_alike_are_different_ones(provider: MysqlProvider) -> None:
    for session_id in ALIKE:
        header = await create(provider, session_id, owner_id=session_id)
        await provider.apply(append(header, f"only in {session_id}"))
    for session_id in ALIKE:
        assert await message_ids(provider, session_id) == [f"only in {session_id}"]
        found = await provider.find(
            Query(namespace="default", owner_id=session_id, limit=10, at=utc_now())
        )
        assert [header.session_id for header in found.headers] == [session_id]


async def test_message_ids_and_context_keys_that_look_alike_are_different_ones(
    provider: MysqlProvider,
) -> None:
    header = await create(provider)
    for message_id in ALIKE:
        applied = await provider.apply(append(header, message_id))
        assert not applied.replayed
    assert await message_ids(provider) == ALIKE
    context = new_context(**{key: number for number, key in enumerate(ALIKE)})
    await provider.apply(change(header, context_set=context))
    snapshot = await provider.read("default", "talk", context=True)
    assert snapshot is not None
    assert snapshot.context == context


async def test_the_longest_names_fit_into_every_index(provider: MysqlProvider) -> None:
    assert len(LONG.encode()) == 255
    header = await create(provider, LONG, owner_id=LONG, tags=(LONG,))
    await provider.apply(append(header, LONG))
    await provider.apply(change(header, context_set=new_context(**{LONG: 1})))
    assert await message_ids(provider, LONG) == [LONG]
    found = await provider.find(
        Query(namespace="default", owner_id=LONG, tags=(LONG,), limit=10, at=utc_now())
    )
    assert [header.session_id for header in found.headers] == [LONG]


@pytest.mark.parametrize("charset", ["latin1", "utf8mb4", "ucs2"])
async def test_a_database_of_any_character_set_keeps_every_byte(charset: str) -> None:
    server = shared_server()
    database = server.new_database(f"CHARACTER SET {charset}")
    provider = MysqlProvider.from_url(server.url(database))
    await provider.initialize()
    header = await create(provider, "谈话😀", title="é\0'\\\"\n\x1a😀")
    await provider.apply(append(header, "消息"))
    snapshot = await provider.read("default", "谈话😀")
    assert snapshot is not None
    assert snapshot.header.title == "é\0'\\\"\n\x1a😀"
    assert await message_ids(provider, "谈话😀") == ["消息"]
    await provider.shutdown()


@pytest.mark.parametrize(
    "settings",
    [
        {"character_set_client_handshake": "0", "character_set_server": "gbk"},
        {"init_connect": "SET NAMES gbk"},
    ],
)
async def test_no_character_set_of_the_server_ends_a_literal_early(
    settings: dict[str, str],
) -> None:
    """In GBK the last byte of 中 and a backslash are one character: a quote is not escaped."""
    texts = ["中'", "中\\", "中\\' OR 1 -- "]
    with MariaDBServer(**settings) as server:
        database = server.new_database()
        # Not for root: init_connect is left out for administrators.
        server.sql(f"CREATE USER app@'127.0.0.1'; GRANT ALL ON {database}.* TO app@'127.0.0.1'")
        provider = MysqlProvider.from_url(server.url(database).replace("root@", "app@"))
        await provider.initialize()
        for text in texts:
            header = await create(provider, text, title=text, owner_id=text)
            await provider.apply(append(header, *texts))
        for text in texts:
            snapshot = await provider.read("default", text)
            assert snapshot is not None
            assert snapshot.header.title == text
            assert await message_ids(provider, text) == texts
        await provider.shutdown()


async def test_the_servers_defaults_do_not_reach_a_connection(
    url: str, provider: MysqlProvider
) -> None:
    defaults = sql(url, "SELECT @@global.tx_isolation, @@global.character_set_server")
    assert defaults == "REPEATABLE-READ\tlatin1"
    async with provider.database.transaction() as transaction:
        await transaction.add(
            "SELECT @@tx_isolation, @@sql_mode, @@time_zone, @@character_set_client"
        )
        [[(isolation, mode, zone, charset)]] = await transaction.send()
    assert (isolation, zone, charset) == ("READ-COMMITTED", "+00:00", "utf8mb4")
    assert "NO_BACKSLASH_ESCAPES" not in mode
    assert "STRICT_ALL_TABLES" in mode


async def test_the_clock_is_the_servers_whatever_its_time_zone(provider: MysqlProvider) -> None:
    before = utc_now()
    shown = await provider.store_time()
    assert abs((shown - before).total_seconds()) < 60
