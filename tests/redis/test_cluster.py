"""A cluster whose slots and primaries change while writes are in flight."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from agent_cores.session.models import Query
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.redis_keys import Keys
from agent_cores.session.storage.redis_provider import RedisProvider
from tests.redis.talks import Writers, append, messages, opened, start
from tests.servers.redis import ClusterServers, RedisServer, wait_until


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterServers]:
    with ClusterServers() as servers:
        yield servers


@pytest.fixture(autouse=True)
def _detailed_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "agent_cores.session.storage.redis_wire")


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
            await writers.more(300)
            for server in (target, source):
                server.command("CLUSTER", "SETSLOT", slot, "NODE", names[1])
            await writers.more(300)
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
            dying.command("WAIT", 1, 1_000)
            await asyncio.sleep(0.2)  # what was acknowledged by now has reached the replica
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


def _primary_of(cluster: ClusterServers, slot: int) -> RedisServer:
    for server in cluster.primaries:
        for begin, end, primary, *_ in server.command("CLUSTER", "SLOTS"):
            if begin <= slot <= end and primary[1] == server.port:
                return server
    raise AssertionError
