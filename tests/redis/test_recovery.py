"""What may happen between us and a server, and what comes of a write on its way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import redis.asyncio

from agent_cores.session import SessionManager
from agent_cores.session.errors import (
    ConfigurationError,
    CorruptRecordError,
    OverloadedError,
    QuotaExceededError,
    SessionNotFoundError,
    StorageUnavailableError,
)
from agent_cores.session.models import Query, Window
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.redis.connection import ALONE_BYTES
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing.samples import change_of, new_message
from tests.redis.talks import Writers, append, messages, opened, start
from tests.servers.redis import RedisServer, redis_program, shared_cluster


async def test_a_server_that_forgot_the_scripts_is_told_them_again(
    server: RedisServer, provider: RedisProvider
) -> None:
    header = await start(provider)
    server.command("SCRIPT", "FLUSH")
    await asyncio.gather(*(provider.apply(append(header, f"m{n}")) for n in range(20)))
    assert [message.seq for message in await messages(provider)] == list(range(1, 21))


async def test_idle_connections_that_the_server_closed_are_replaced(
    server: RedisServer, provider: RedisProvider
) -> None:
    header = await start(provider)
    server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(0.05)
    applied = await provider.apply(append(header, "m1"))
    assert applied.header.last_seq == 1


async def test_connections_that_break_under_way_lose_and_double_nothing(
    server: RedisServer, provider: RedisProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "agent_cores.session.storage.redis.wire")
    headers = [await start(provider, f"talk-{number}") for number in range(8)]
    async with Writers(provider, headers) as writers:
        for _ in range(5):
            await writers.more(50)
            server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await writers.more(50)
            server.command("CLIENT", "PAUSE", 10_000, "WRITE")  # so that some are on their way
            await asyncio.sleep(0.02)
            server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            server.command("CLIENT", "UNPAUSE")
        await writers.more(50)
    await writers.assert_stored()
    assert "an attempt to send a command failed: LostAnswerError" in caplog.text


async def test_an_append_without_an_answer_says_so_and_can_be_repeated() -> None:
    with RedisServer() as server:
        async with opened(f"{server.url}?timeout=0.3") as provider:
            header = await start(provider)
            change = append(header, "m1")
            server.pause()
            with pytest.raises(StorageUnavailableError) as raised:
                await provider.apply(change)
            server.go_on()
            assert raised.value.outcome_unknown
            applied = await provider.apply(change)
            assert applied.replayed
            assert [message.id for message in await messages(provider)] == ["m1"]


async def test_a_server_that_is_not_there_has_carried_out_nothing() -> None:
    with RedisServer() as server:
        async with opened(f"{server.url}?timeout=0.2") as provider:
            header = await start(provider)
            server.stop()
            await asyncio.sleep(0.05)
            with pytest.raises(StorageUnavailableError) as raised:
                await provider.apply(append(header, "m1"))
            assert not raised.value.outcome_unknown
            with pytest.raises(StorageUnavailableError):
                await provider.read("default", "talk")


async def test_a_store_that_cannot_be_reached_is_not_opened() -> None:
    with RedisServer() as server:
        url = server.url
    provider = RedisProvider.from_url(url, timeout=0.2)
    with pytest.raises(StorageUnavailableError, match="does not answer"):
        await provider.initialize()


async def test_a_server_that_is_a_replica_for_a_while_is_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "agent_cores.session.storage.redis.wire")
    with RedisServer() as server, RedisServer("--replicaof", f"127.0.0.1 {server.port}"):
        async with opened(server.url) as provider:
            header = await start(provider)
            server.command("REPLICAOF", "127.0.0.1", 1)
            appended = asyncio.create_task(provider.apply(append(header, "m1")))
            await asyncio.sleep(0.1)
            assert not appended.done()
            server.command("REPLICAOF", "NO", "ONE")
            assert (await appended).header.last_seq == 1
    assert "ReadOnlyError" in caplog.text


async def test_a_server_that_is_still_loading_is_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "agent_cores.session.storage.redis.wire")
    slowly = ("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
    with RedisServer(*slowly) as server:
        async with opened(server.url) as provider:
            header = await start(provider)
            for number in range(300):
                server.command("SET", f"filler-{number}", "x" * 100)
            server.command("SAVE")
            server.stop(at_once=True)
            server.start(loaded=False)
            await asyncio.sleep(0.05)
            assert (await provider.apply(append(header, "m1"))).header.last_seq == 1
    assert "BusyLoadingError" in caplog.text


async def test_a_caller_that_gives_up_leaves_no_half_made_session(
    provider: RedisProvider,
) -> None:
    for number in range(20):
        creating = asyncio.create_task(start(provider, f"talk-{number}"))
        await asyncio.sleep(0.0002 * number)
        creating.cancel()
    await asyncio.sleep(0.2)
    found = await provider.find(Query(namespace="default", at=utc_now(), owner_id="ann", limit=100))
    counts = await provider.count("default", utc_now())
    assert counts.sessions == len(found.headers)


@pytest.mark.parametrize("key", [":messages", ":ids"])
async def test_a_session_that_lost_a_key_is_never_shown_as_empty(
    server: RedisServer, key: str
) -> None:
    async with opened(f"{server.url}?prefix=lost{key}:") as provider:
        header = (await provider.apply(append(await start(provider), "m1"))).header
        server.command("DEL", f"lost{key}:{{default/talk}}{key}")
        with pytest.raises(CorruptRecordError, match="talk"):
            await provider.read("default", "talk", window=Window())
        with pytest.raises(CorruptRecordError):
            await provider.apply(append(header, "m2"))
        await provider.apply(change_of(header, utc_now(), delete=True))
        assert await provider.read("default", "talk") is None


async def test_a_session_that_lost_its_header_is_not_simply_absent(server: RedisServer) -> None:
    async with opened(f"{server.url}?prefix=headless:") as provider:
        header = (await provider.apply(append(await start(provider), "m1"))).header
        server.command("DEL", "headless:{default/talk}")
        with pytest.raises(CorruptRecordError):
            await provider.read("default", "talk")
        with pytest.raises(CorruptRecordError):
            await start(provider, incarnation=2)
        assert header.expires_at is not None
        for ended in await provider.due(header.expires_at, 10, 30):
            with pytest.raises(SessionNotFoundError):
                await provider.apply(ended.removal(header.expires_at))
        assert await provider.read("default", "talk") is None
        assert (await start(provider, incarnation=3)).incarnation == 3


async def test_a_key_that_holds_something_else_is_a_corrupt_record(server: RedisServer) -> None:
    server.command("SET", "other:{default/talk}", "mine")
    async with opened(f"{server.url}?prefix=other:") as provider:
        with pytest.raises(CorruptRecordError):
            await provider.read("default", "talk")
        with pytest.raises(CorruptRecordError):
            await start(provider)
    assert server.command("GET", "other:{default/talk}") == "mine"


async def test_a_session_that_redis_erased_by_itself_is_still_told_to_the_sweeper(
    server: RedisServer,
) -> None:
    async with opened(f"{server.url}?prefix=erased:") as provider:
        header = (await provider.apply(append(await start(provider), "m1"))).header
        for key in ("", ":messages", ":ids"):
            server.command("DEL", f"erased:{{default/talk}}{key}")
        assert header.expires_at is not None
        (ended,) = await provider.due(header.expires_at, 10, 30)
        assert (ended.session_id, ended.incarnation) == ("talk", header.incarnation)
        assert ended.header is None
        with pytest.raises(SessionNotFoundError):
            await provider.apply(ended.removal(header.expires_at))
        assert (await provider.count("default", header.expires_at)).sessions == 0


async def test_an_evicting_server_is_warned_of_by_its_policy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RedisServer("--maxmemory-policy", "volatile-lru") as server:
        async with opened(server.url):
            assert "volatile-lru" in caplog.text
    caplog.clear()
    with RedisServer() as server:
        async with opened(server.url):
            assert "maxmemory" not in caplog.text


async def test_a_full_server_is_a_quota_that_is_reached() -> None:
    with RedisServer() as server:
        async with opened(server.url) as provider:
            header = await start(provider)
            server.command("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(QuotaExceededError):
                await provider.apply(append(header, "m1"))
            server.command("CONFIG", "SET", "maxmemory", "0")
            assert (await provider.apply(append(header, "m1"))).header.last_seq == 1


async def test_one_server_of_a_cluster_is_not_taken_for_the_store() -> None:
    async with opened(shared_cluster().primaries[0].url) as provider:
        names = [f"talk-{number}" for number in range(20)]
        with pytest.raises(ConfigurationError, match="redis\\+cluster"):
            await asyncio.gather(*(start(provider, name) for name in names))


async def test_a_client_that_was_passed_in_is_used_and_left_open(server: RedisServer) -> None:
    client = redis.asyncio.Redis(port=server.port, decode_responses=True)
    provider = RedisProvider(client, prefix="given:")
    await provider.initialize()
    header = await start(provider)
    await provider.apply(append(header, "m1"))
    assert [message.id for message in await messages(provider)] == ["m1"]
    await provider.shutdown()
    assert await client.hget("given:{default/talk}", "owner_id") == "ann"
    await client.aclose()


async def test_large_writes_are_bounded_like_all_others(server: RedisServer) -> None:
    async with opened(f"{server.url}?prefix=large:&max_queued=2&pool_size=1") as provider:
        header = await start(provider, tags=())
        large = [append(header, f"m{number}", "x" * ALONE_BYTES) for number in range(9)]
        tries = await asyncio.gather(*map(provider.apply, large), return_exceptions=True)
        refused = [error for error in tries if isinstance(error, OverloadedError)]
        assert 0 < len(refused) < len(large)
        assert len(await messages(provider)) == len(large) - len(refused)


async def test_a_large_write_on_its_way_is_finished_before_the_store_closes() -> None:
    with RedisServer() as server:
        async with opened(server.url) as provider:
            header = await start(provider)
            server.pause()
            large = asyncio.create_task(provider.apply(append(header, "m1", "x" * ALONE_BYTES)))
            await asyncio.sleep(0.05)
            closing = asyncio.create_task(provider.shutdown())
            await asyncio.sleep(0.05)
            server.go_on()
            await closing
            assert (await large).header.last_seq == 1


async def test_a_closed_store_says_so(server: RedisServer) -> None:
    async with opened(f"{server.url}?prefix=closed:") as provider:
        header = await start(provider)
    with pytest.raises(StorageUnavailableError, match="shut down"):
        await provider.apply(append(header, "m1"))


class TestRoundTrips:
    """Counted at the server: how often it read something from its clients."""

    @pytest.fixture
    def server(self) -> Iterator[RedisServer]:
        with RedisServer(program=redis_program()) as server:
            yield server

    async def test_an_append_on_a_cached_header_is_one(
        self, server: RedisServer, provider: RedisProvider
    ) -> None:
        header = await start(provider)
        header = (await provider.apply(append(header, "m1"))).header
        with _reads(server) as reads:
            await provider.apply(append(header, "m2"))
        assert reads == [1]

    @pytest.mark.parametrize("tags", [(), ("x", "y")])
    async def test_an_append_that_moves_its_session_up_in_its_lists_is_one(
        self, server: RedisServer, provider: RedisProvider, tags: tuple[str, ...]
    ) -> None:
        header = await start(provider, tags=tags)
        header = (await provider.apply(append(header, "m1"))).header
        at = utc_now() + timedelta(seconds=2)
        await provider.read("default", "talk")
        with _reads(server) as reads:
            await provider.apply(append(header, "m2", at=at))
        assert reads == [1]
        query = Query(namespace="default", at=at, owner_id="ann", tags=tags)
        assert [found.listed_at for found in (await provider.find(query)).headers] == [at]

    async def test_tags_that_the_cached_header_did_not_know_cost_a_round_trip_once(
        self, server: RedisServer, provider: RedisProvider
    ) -> None:
        header = await start(provider)
        header = (await provider.apply(append(header, "m1"))).header
        await provider.apply(change_of(header, utc_now(), metadata={"tags": ["x"]}))
        begin = utc_now()
        for second, flights in ((2, 2), (4, 1)):
            at = begin + timedelta(seconds=second)
            with _reads(server) as reads:
                header = (await provider.apply(append(header, f"at {second}", at=at))).header
            assert reads == [flights]
            query = Query(namespace="default", at=at, owner_id="ann", tags=("x",))
            assert [found.listed_at for found in (await provider.find(query)).headers] == [at]

    async def test_an_append_and_a_read_through_the_manager_are_one_each(
        self, server: RedisServer
    ) -> None:
        async with SessionManager(server.url) as manager:
            session_id = await manager.create_session("ann", {"tags": ["x"]})
            await manager.add_message(session_id, "ann", "user", "one")
            await manager.get_session_messages(session_id, "ann")
            with _reads(server) as reads:
                await manager.add_message(session_id, "ann", "user", "two")
            assert reads == [1]
            with _reads(server) as reads:
                page = await manager.get_session_messages(session_id, "ann")
            assert reads == [1]
        assert [message.content for message in page] == ["one", "two"]

    async def test_a_read_of_everything_is_one(
        self, server: RedisServer, provider: RedisProvider
    ) -> None:
        header = await start(provider)
        batch = tuple(new_message(f"m{n}", at=utc_now()) for n in range(200))
        await provider.apply(change_of(header, utc_now(), append=batch))
        await provider.read("default", "talk")
        with _reads(server) as reads:
            await provider.read("default", "talk", context=True, window=Window())
        assert reads == [1]

    @pytest.mark.parametrize("tags", [(), ("x",), ("x", "y")])
    async def test_a_page_of_a_listing_is_two(
        self, server: RedisServer, provider: RedisProvider, tags: tuple[str, ...]
    ) -> None:
        for number in range(30):
            await start(provider, f"talk-{number}", tags=("x", "y"))
        query = Query(namespace="default", at=utc_now(), owner_id="ann", tags=tags)
        await provider.find(query)
        with _reads(server) as reads:
            found = await provider.find(query)
        assert len(found.headers) == 10
        assert reads == [2]


@contextmanager
def _reads(server: RedisServer) -> Iterator[list[int]]:
    """Fill in, at the end, how often the server read meanwhile, but for the asking."""
    with server.client() as client:

        def processed() -> int:
            return int(client.info("stats")["total_reads_processed"])

        processed()
        asking = -processed() + processed()
        reads: list[int] = []
        begin = processed()
        yield reads
        reads.append(processed() - begin - asking)
