"""A cluster whose slots and primaries change while writes are in flight."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.models import Query
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.redis.keys import Keys
from agent_cores.session.storage.redis.provider import RedisProvider
from tests.redis.talks import Writers, append, messages, opened, retried, start
from tests.servers.redis import ClusterServers, RedisServer, wait_for_replica, wait_until


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterServers]:
    with ClusterServers() as servers:
        yield servers


@pytest.fixture(autouse=True)
def _detailed_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "agent_cores.session.storage.redis.wire")


async def test_a_slot_moves_while_its_sessions_are_written_to(
    cluster: ClusterServers, caplog: pytest.LogCaptureFixture
) -> None:
    slot = key_slot(Keys("move:").session("default", "talk").header)
    source = _primary_of(cluster, slot)
    target = next(server for server in cluster.primaries if server is not source)
    async with opened(f"{cluster.url}?prefix=move:&timeout=20") as provider:
        headers = [await start(provider, name) for name in ("talk", "other", "third")]
        async with Writers(provider, headers) as writers:
            await writers.more()
            names = cluster.node_id(source), cluster.node_id(target)
            target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
            source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
            while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 1):
                source.command("MIGRATE", "127.0.0.1", target.port, keys[0], 0, 5_000)
                await asyncio.sleep(0.05)
            await writers.more(10, of="talk")  # its writer may have waited while the keys went
            for server in (target, source):
                server.command("CLUSTER", "SETSLOT", slot, "NODE", names[1])
            await writers.more(10, of="talk")
        await writers.assert_stored()
    assert "AskError" in caplog.text
    assert "TryAgainError" in caplog.text
    assert "MovedError" in caplog.text


async def test_a_replica_takes_over_while_sessions_are_written_to(
    cluster: ClusterServers, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(f"{cluster.url}?prefix=over:&timeout=20") as provider:
        headers = [await start(provider, f"talk-{number}") for number in range(12)]
        async with Writers(provider, headers) as writers:
            await writers.more()
            replica = cluster.servers[4]
            replica.command("CLUSTER", "FAILOVER")
            while replica.command("ROLE")[0] != b"master":
                await writers.more(1)
            await writers.more(500)
        await writers.assert_stored()
    assert "MovedError" in caplog.text


async def test_a_primary_that_dies_is_replaced(
    cluster: ClusterServers, caplog: pytest.LogCaptureFixture
) -> None:
    dying = next(server for server in cluster.servers[:3] if server.command("ROLE")[0] == b"master")
    async with opened(f"{cluster.url}?prefix=dies:&timeout=20") as provider:
        headers = [await start(provider, f"talk-{number}") for number in range(12)]
        async with Writers(provider, headers) as writers:
            await writers.more()
            before = writers.so_far()
            await asyncio.to_thread(wait_for_replica, dying, _replica_of(cluster, dying))
            dying.stop(at_once=True)
            uncertain_until = writers.count + len(headers)
            await writers.more(uncertain_until - writers.count)
            lost_at_most = writers.so_far()
            await writers.more(500)
            assert writers.so_far() > lost_at_most
        await writers.assert_stored(before)
    dying.start()
    wait_until(lambda: dying.command("ROLE")[0] == b"slave", "the old primary follows")
    assert "NotSentError" in caplog.text or "LostAnswerError" in caplog.text


async def test_a_primary_that_falls_silent_is_left_once_it_is_replaced(
    cluster: ClusterServers,
) -> None:
    silent = _primary_of(cluster, key_slot(Keys("silent:").session("default", "talk").header))
    async with opened(f"{cluster.url}?prefix=silent:&timeout=1") as provider:
        header = await start(provider)
        with _paused(silent, _replica_of(cluster, silent)):
            applied = await retried(provider, append(header, "m1"))
            assert applied.header.last_seq == 1
            assert [message.id for message in await messages(provider)] == ["m1"]
    wait_until(lambda: silent.command("ROLE")[0] == b"slave", "the old primary follows")


async def test_a_reader_of_a_primary_that_falls_silent_is_answered_by_its_successor(
    cluster: ClusterServers,
) -> None:
    silent = _primary_of(cluster, key_slot(Keys("mute:").session("default", "talk").header))
    async with opened(f"{cluster.url}?prefix=mute:&timeout=1") as provider:
        header = await start(provider)
        with _paused(silent, _replica_of(cluster, silent)):
            with suppress(StorageUnavailableError):
                await provider.read("default", "talk")
            snapshot = await provider.read("default", "talk")
        assert snapshot is not None
        assert snapshot.header == header
    wait_until(lambda: silent.command("ROLE")[0] == b"slave", "the old primary follows")


@contextmanager
def _paused(server: RedisServer, replica: RedisServer) -> Iterator[None]:
    """Have a primary fall silent, and its replica take over."""
    wait_for_replica(server, replica)
    server.pause()
    try:
        wait_until(lambda: replica.command("ROLE")[0] == b"master", "the replica took over")
        yield
    finally:
        server.go_on()


def _replica_of(cluster: ClusterServers, primary: RedisServer) -> RedisServer:
    wait_until(lambda: primary.command("ROLE")[2], "a replica follows")
    port = int(primary.command("ROLE")[2][0][1])
    return next(server for server in cluster.servers if server.port == port)


async def test_a_client_that_was_passed_in_is_used_and_left_open(cluster: ClusterServers) -> None:
    client = RedisCluster("127.0.0.1", cluster.primaries[0].port, decode_responses=True)
    provider = RedisProvider(client, prefix="given:")
    await provider.initialize()
    header = await start(provider)
    await provider.apply(append(header, "m1"))
    assert [message.id for message in await messages(provider)] == ["m1"]
    found = await provider.find(Query(namespace="default", at=utc_now(), owner_id="ann"))
    assert [header.session_id for header in found.headers] == ["talk"]
    await provider.shutdown()
    assert await client.hget("given:{default/talk}", "owner_id") == "ann"
    await client.aclose()


async def test_a_slot_that_nobody_has_is_looked_for(cluster: ClusterServers) -> None:
    client = RedisCluster("127.0.0.1", cluster.primaries[1].port, require_full_coverage=False)
    provider = RedisProvider(client, prefix="bare:")
    await provider.initialize()
    del client.nodes_manager.slots_cache[key_slot(Keys("bare:").session("default", "talk").header)]
    assert await provider.read("default", "talk") is None
    await provider.shutdown()
    await client.aclose()


async def test_a_slot_moves_to_a_server_that_has_just_joined(
    cluster: ClusterServers, caplog: pytest.LogCaptureFixture
) -> None:
    slot = key_slot(Keys("join:").session("default", "talk").header)
    async with opened(f"{cluster.url}?prefix=join:&timeout=5") as provider:
        header = await start(provider)
        header = (await provider.apply(append(header, "m1"))).header
        source, newcomer = _primary_of(cluster, slot), cluster.join()
        names = cluster.node_id(source), cluster.node_id(newcomer)
        newcomer.command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
        for key in source.command("CLUSTER", "GETKEYSINSLOT", slot, 1_000):
            source.command("MIGRATE", "127.0.0.1", newcomer.port, key, 0, 5_000)
        assert (await provider.apply(append(header, "m2"))).header.last_seq == 2
        assert [message.id for message in await messages(provider)] == ["m1", "m2"]
        for server in (newcomer, source):
            server.command("CLUSTER", "SETSLOT", slot, "NODE", names[1])
        assert (await provider.apply(append(header, "m3"))).header.last_seq == 3
    assert "AskError" in caplog.text
    assert "MovedError" in caplog.text


def _primary_of(cluster: ClusterServers, slot: int) -> RedisServer:
    for begin, end, primary, *_ in cluster.servers[0].command("CLUSTER", "SLOTS"):
        if begin <= slot <= end:
            return next(server for server in cluster.servers if server.port == primary[1])
    raise AssertionError
