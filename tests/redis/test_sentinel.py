"""Sentinel: a failover while writes are in flight."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.redis.talks import Writers, append, messages, opened, retried, start
from tests.servers.redis import SentinelServers, wait_for_replica, wait_until


def _has_taken_over(servers: SentinelServers) -> bool:
    """Whether the replica is the primary, and the old one has seen that it lost its replica."""
    left_alone = "connected_slaves:0" in servers.primary.command("INFO", "replication")
    return left_alone and servers.replica.command("ROLE")[0] == b"master"


async def test_a_failover_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "agent_cores.session.storage.redis.wire")
    with SentinelServers() as servers:
        async with opened(f"{servers.url}?timeout=20") as provider:
            headers = [await start(provider, f"talk-{number}") for number in range(5)]
            async with Writers(provider, headers) as writers:
                await writers.more()
                servers.primary.command("REPLICAOF", "127.0.0.1", 1)
                await asyncio.to_thread(
                    wait_until, lambda: "ReadOnlyError" in caplog.text, "a write was refused"
                )
                servers.primary.command("REPLICAOF", "NO", "ONE")
                await writers.more()
                before = writers.so_far()
                wait_for_replica(servers.primary, servers.replica)
                servers.sentinels[0].command("SENTINEL", "FAILOVER", servers.service)
                await asyncio.to_thread(
                    wait_until, lambda: _has_taken_over(servers), "the replica has taken over"
                )
                lost_at_most = writers.so_far()
                await writers.more(500)
            after = writers.so_far() - lost_at_most
            await writers.assert_stored(before | after)
    failures = caplog.text[caplog.text.rindex("ReadOnlyError") :]
    assert "NotSentError" in failures or "LostAnswerError" in failures or "NOREPLICAS" in failures


async def test_a_primary_that_falls_silent_is_left_once_it_is_replaced() -> None:
    with SentinelServers() as servers:
        async with opened(f"{servers.url}?timeout=1") as provider:
            header = await start(provider)
            wait_for_replica(servers.primary, servers.replica)
            servers.primary.pause()
            wait_until(lambda: servers.replica.command("ROLE")[0] == b"master", "it took over")
            assert (await retried(provider, append(header, "m1"))).header.last_seq == 1


async def test_a_process_that_was_idle_during_a_failover_reads_from_the_new_primary() -> None:
    with SentinelServers() as servers:
        async with opened(f"{servers.url}?timeout=5") as idle:
            header = await start(idle)
            wait_for_replica(servers.primary, servers.replica)
            servers.primary.pause()
            wait_until(lambda: servers.replica.command("ROLE")[0] == b"master", "it took over")
            async with opened(f"{servers.url}?timeout=5") as other:
                await retried(other, append(header, "m1"))
            servers.primary.go_on()
            assert [message.id for message in await messages(idle)] == ["m1"]
