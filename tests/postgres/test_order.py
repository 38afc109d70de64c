"""What waits for a lock: the order of messages, and what changed while it waited."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest

from agent_cores.session.errors import StaleHeaderError, StorageUnavailableError
from agent_cores.session.models import AccessEffect, AccessRole, Grant, Query, StoredMessage, Window
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.batching import SMALLEST_SHARE
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.testing.samples import new_context
from tests.postgres.support import connected, uncommitted, waits_for_lock
from tests.sql_stores import append, change, create, message_ids

pytestmark = pytest.mark.anyio


async def test_a_message_that_commits_later_never_has_a_lower_seq(
    provider: PostgresProvider, url: str
) -> None:
    header = await create(provider)
    async with uncommitted(provider, append(header, "first")):
        second = asyncio.ensure_future(provider.apply(append(header, "second")))
        await asyncio.to_thread(asyncio.run, waits_for_lock(url))
        assert await message_ids(provider) == []
        assert not second.done()
    assert (await second).messages[0].seq == 2
    assert await message_ids(provider) == ["first", "second"]


async def test_a_reader_paging_by_after_seq_misses_nothing_that_two_writers_append(
    provider: PostgresProvider, url: str
) -> None:
    header = await create(provider)
    other = PostgresProvider.from_url(url)
    await other.initialize()
    writers = [
        asyncio.ensure_future(writer.apply(append(header, f"{name}{number}")))
        for number in range(150)
        for name, writer in (("a", provider), ("b", other))
    ]
    read: list[StoredMessage] = []
    while len(read) < len(writers):
        window = Window(after_seq=read[-1].seq if read else 0, limit=7)
        look = await provider.read("default", "talk", window=window)
        assert look is not None
        read += look.messages or []
    await asyncio.gather(*writers)
    await other.shutdown()
    assert [message.seq for message in read] == list(range(1, 301))


@pytest.mark.parametrize("fast_path", [True, False])
async def test_who_is_revoked_while_the_write_waits_is_refused(url: str, fast_path: bool) -> None:
    provider = PostgresProvider.from_url(url, fast_path=fast_path)
    await provider.initialize()
    grant = Grant(subject="bob", role=AccessRole.EDITOR, granted_by="ann", granted_at=utc_now())
    header = await create(provider, grants={"bob": grant})
    revoke = change(header, access=AccessEffect(revoke=("bob",)))
    async with uncommitted(provider, revoke):
        write = asyncio.ensure_future(provider.apply(append(header, "late")))
        await asyncio.to_thread(asyncio.run, waits_for_lock(url))
    with pytest.raises(StaleHeaderError):
        await write
    assert await message_ids(provider) == []
    await provider.shutdown()


async def test_the_same_message_sent_twice_at_once_is_stored_once(
    provider: PostgresProvider, url: str
) -> None:
    header = await create(provider)
    twice = append(header, "same")
    async with uncommitted(provider, twice):
        second = asyncio.ensure_future(provider.apply(twice))
        await asyncio.to_thread(asyncio.run, waits_for_lock(url))
    applied = await second
    assert applied.replayed
    assert applied.messages[0].seq == 1
    assert await message_ids(provider) == ["same"]


async def test_a_change_that_waits_reads_the_context_as_the_other_left_it(
    provider: PostgresProvider, url: str
) -> None:
    header = await create(provider)
    async with uncommitted(provider, change(header, context_set=new_context(key="a" * 100))):
        second = asyncio.ensure_future(
            provider.apply(change(header, context_set=new_context(key="b")))
        )
        await asyncio.to_thread(asyncio.run, waits_for_lock(url))
    after = (await second).header
    assert after.revision == header.revision + 2
    look = await provider.read("default", "talk", context=True)
    assert look is not None
    assert look.context == new_context(key="b")
    assert look.header.context_bytes == len("key") + len('"b"')


async def test_an_append_that_waits_while_tags_change_moves_the_session_in_every_list(
    provider: PostgresProvider, url: str
) -> None:
    now = utc_now()
    header = await create(provider, created=now - timedelta(seconds=5), tags=("kept", "gone"))
    write = msgspec.structs.replace(append(header, "m"), at=now + timedelta(seconds=5))
    async with uncommitted(provider, change(header, metadata={"tags": ["kept", "new"]})):
        waiting = asyncio.ensure_future(provider.apply(write))
        await asyncio.to_thread(asyncio.run, waits_for_lock(url))
    assert (await waiting).header.listed_at == write.at
    async with connected(url) as connection:
        places = await connection.fetch(
            "SELECT o.mark, o.listed_at = s.listed_at FROM owned o JOIN sessions s"
            " USING (session_key) ORDER BY mark"
        )
    assert [tuple(row) for row in places] == [("", True), ("=kept", True), ("=new", True)]


async def test_several_appends_of_one_batch_to_one_session_are_numbered_as_they_came(
    provider: PostgresProvider,
) -> None:
    header = await create(provider)
    other = await create(provider, "other")
    blocker = asyncio.ensure_future(provider.apply(append(other, "x")))
    count = SMALLEST_SHARE - 1  # with the other one: more would be shared between two batches
    batch = [append(header, f"a{n}", f"b{n}") for n in range(count)]
    answers = await asyncio.gather(*(provider.apply(item) for item in batch))
    await blocker
    totals = list(range(2, 2 * count + 1, 2))
    assert [m.seq for answer in answers for m in answer.messages] == list(range(1, 2 * count + 1))
    assert [answer.header.last_seq for answer in answers] == totals
    assert [answer.header.message_count for answer in answers] == totals
    look = await provider.read("default", "talk")
    assert look is not None
    assert (look.header.last_seq, look.header.message_count) == (2 * count, 2 * count)


async def test_a_refused_append_leaves_the_others_of_its_batch_alone(
    provider: PostgresProvider,
) -> None:
    header = await create(provider)
    stale = append(header, "stale", turn="not-held")
    good = [append(header, f"good{number}") for number in range(5)]
    results = await asyncio.gather(
        provider.apply(append(header, "first")),
        *(provider.apply(item) for item in (*good[:2], stale, *good[2:])),
        return_exceptions=True,
    )
    refused = [type(result).__name__ for result in results if isinstance(result, Exception)]
    assert refused == ["TurnLostError"]
    assert await message_ids(provider) == ["first", *(f"good{number}" for number in range(5))]


async def test_tables_locked_for_long_are_unavailable_to_who_reads_and_no_conflict(
    provider: PostgresProvider, url: str
) -> None:
    await create(provider)
    reader = PostgresProvider.from_url(url, timeout=0.5)
    await reader.initialize()
    at, large = utc_now(), Window(max_bytes=10**12)
    async with connected(url) as connection, connection.transaction():
        await connection.execute("LOCK TABLE sessions, owned")
        answers = await asyncio.gather(
            reader.read("default", "talk"),
            reader.read("default", "talk", window=large),
            reader.find(Query(namespace="default", owner_id="ann", at=at)),
            reader.due(at, 10, 30),
            return_exceptions=True,
        )
    assert [type(answer) for answer in answers] == [StorageUnavailableError] * 4
    await reader.shutdown()


async def test_a_very_large_session_is_read_whole(provider: PostgresProvider) -> None:
    header = await create(provider)
    body = b"1" + b"x" * 1_000_000
    for page in range(10):
        messages = tuple(
            StoredMessage(0, f"{page}-{number}", header.created_at, body) for number in range(7)
        )
        await provider.apply(change(header, append=messages))
    everything = Window(limit=10**12, max_bytes=10**12, after_seq=0)
    for window in (everything, msgspec.structs.replace(everything, after_seq=None)):
        look = await provider.read("default", "talk", window=window)
        assert look is not None
        assert look.messages is not None
        assert [message.seq for message in look.messages] == list(range(1, 71))
        assert not look.has_more
