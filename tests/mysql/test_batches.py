"""Batches: larger than a packet, across each other, and one bad change among good ones."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import SessionError
from agent_cores.session.models import AccessEffect, Change, Window
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.mysql.connection import MysqlConnection
from agent_cores.session.storage.mysql.provider import MysqlProvider
from agent_cores.session.storage.mysql.queries import MysqlQueries
from agent_cores.session.storage.sql.dialect import Statement, Step
from agent_cores.session.testing.samples import creation, new_header, new_message
from tests.mysql.support import sql
from tests.servers.mariadb import shared_server
from tests.sql_stores import append, change, create, message_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.storage.sql.dialect import Row

pytestmark = pytest.mark.anyio

PACKET = 16 * 1024 * 1024
EVERYTHING = Window(limit=10**9, max_bytes=10**9, after_seq=0)


async def test_the_largest_append_fits_into_the_smallest_packet(provider: MysqlProvider) -> None:
    header = await create(provider)
    at = utc_now()
    hard = "'\\" * (512 * 1024)  # twice as long once it is escaped
    messages = tuple(new_message(f"m{n}", hard, at=at) for n in range(4))
    plain = append(header)
    await provider.apply(
        Change(
            namespace="default",
            session_id="talk",
            at=at,
            incarnation=plain.incarnation,
            append=messages,
        )
    )
    snapshot = await provider.read("default", "talk", window=EVERYTHING)
    assert snapshot is not None
    assert snapshot.messages is not None
    assert [message.body for message in snapshot.messages] == [m.body for m in messages]


def test_a_statement_is_cut_before_it_is_longer_than_a_packet() -> None:
    rows = [(1, seq, f"m{seq}", 1, b"'" * 100_000) for seq in range(20)]
    queries = MysqlQueries()
    text = queries.texts[Statement.INSERT_MESSAGES].replace("{prefix}", "")
    texts = list(queries.statements(text, rows))
    assert len(texts) > 1
    assert max(map(len, texts)) < PACKET / 4
    assert sum(text.count("_binary'm") for text in texts) == 20


async def test_thousands_of_messages_are_removed_by_key(provider: MysqlProvider) -> None:
    header = await create(provider)
    for start in range(0, 3_000, 1_000):
        await provider.apply(append(header, *(f"m{n}" for n in range(start, start + 1_000))))
    keys = [(key,) for key in map(int, sql_keys(provider))]
    step = Step(Statement.DELETE_MESSAGES, [(keys[0][0], seq) for seq in range(1, 2_991)])
    async with provider.database.transaction() as transaction:
        await transaction.run(step)
    assert len(await message_ids(provider)) == 10


def sql_keys(provider: MysqlProvider) -> Sequence[str]:
    database = provider.describe().rpartition("/")[2]
    return shared_server().sql("SELECT session_key FROM sessions", database).split()


async def test_appends_from_two_programs_are_numbered_without_a_gap(
    url: str, provider: MysqlProvider
) -> None:
    other = MysqlProvider.from_url(url)
    await other.initialize()
    headers = [await create(provider, f"talk-{n}") for n in range(3)]
    appends = [
        program.apply(append(headers[n % 3], f"{program is provider}-{n}"))
        for n in range(150)
        for program in (provider, other)
    ]
    await asyncio.gather(*appends)
    for header in headers:
        snapshot = await provider.read("default", header.session_id, window=EVERYTHING)
        assert snapshot is not None
        assert snapshot.messages is not None
        assert [message.seq for message in snapshot.messages] == list(range(1, 101))
    await other.shutdown()


async def test_programs_that_change_the_same_sessions_leave_them_whole(
    url: str, provider: MysqlProvider
) -> None:
    other = MysqlProvider.from_url(url)
    await other.initialize()
    headers = {f"talk-{n}": await create(provider, f"talk-{n}") for n in range(5)}
    chance = random.Random(7)

    async def go_on(program: MysqlProvider, number: int) -> None:
        for step in range(12):
            session_id = chance.choice(list(headers))
            header = headers[session_id]
            kind = chance.randrange(4)
            if kind == 0:
                work = change(header, delete=True)
            elif kind == 1:
                new = new_header(session_id, at=utc_now(), incarnation=chance.getrandbits(60))
                headers[session_id], work = new, creation(new)
            elif kind == 2:
                work = change(header, access=AccessEffect(public=bool(step % 2)))
            else:
                work = append(header, f"{number}-{step}")
            try:
                await program.apply(work)
            except SessionError:
                continue

    await asyncio.gather(*(go_on((provider, other)[n % 2], n) for n in range(16)))
    counted = (await provider.count("default", utc_now())).sessions
    await other.shutdown()
    await provider.shutdown()
    await provider.initialize()
    assert counted == int(sql(url, "SELECT COUNT(*) FROM sessions"))
    assert counted == int(sql(url, "SELECT COUNT(*) FROM owned"))
    broken = """SELECT COUNT(*) FROM sessions s WHERE s.last_seq <> (
        SELECT COALESCE(MAX(seq), 0) FROM messages m WHERE m.session_key = s.session_key)"""
    assert sql(url, broken) == "0"


async def test_a_lone_append_is_two_round_trips_and_a_read_is_one(
    provider: MysqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = await create(provider)
    header = (await provider.apply(append(header, "warm"))).header
    packets: list[str] = []
    execute = MysqlConnection.execute

    async def counted(connection: MysqlConnection, text: str) -> list[list[Row]]:
        packets.append(text)
        return await execute(connection, text)

    monkeypatch.setattr(MysqlConnection, "execute", counted)
    await provider.apply(append(header, "counted"))
    assert len(packets) == 2
    packets.clear()
    await provider.read("default", "talk", context=True, window=Window(limit=10))
    assert len(packets) == 1


async def test_what_is_deleted_is_removed_in_the_background(
    url: str, provider: MysqlProvider
) -> None:
    header = await create(provider)
    header = (await provider.apply(append(header, "m"))).header
    await provider.apply(change(header, delete=True))
    left = ""
    for _ in range(200):
        left = sql(url, "SELECT (SELECT COUNT(*) FROM messages) + (SELECT COUNT(*) FROM deleted)")
        if left == "0":
            break
        await asyncio.sleep(0.02)
    assert left == "0"


async def test_a_lock_that_another_client_holds_stops_only_its_session(
    url: str, provider: MysqlProvider
) -> None:
    held, *free = [await create(provider, name) for name in ("held", "free", "open")]
    async with provider.database.transaction() as transaction:
        await transaction.run(Step(Statement.LOCK, [("default", "held")]))
        waiting = asyncio.create_task(provider.apply(append(held, "later")))
        await asyncio.gather(*(provider.apply(append(header, "now")) for header in free))
        assert not waiting.done()
    await waiting
    assert await message_ids(provider, "held") == ["later"]
