"""Hosts of a URL that are down, or silent, while others answer."""
# ruff: noqa: SLF001 - what reaches the driver is not seen from outside

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from agent_cores.session.storage.redis.driver import AbstractConnection
from agent_cores.session.storage.redis.topology import ClusterServers, OneServer, topology_of
from tests.redis.talks import opened, start
from tests.servers.redis import RedisServer, SentinelServers, free_port, shared_cluster

HOSTS = "127.0.0.1:1,127.0.0.1:2"


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the address of a host that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_a_sentinel_that_is_down_or_silent_is_passed_over(silent: str) -> None:
    with SentinelServers() as servers:
        good = f"127.0.0.1:{servers.sentinels[0].port}"
        for first in (silent, f"127.0.0.1:{free_port()}"):
            url = f"redis+sentinel://{first},{good}/{servers.service}?timeout=1"
            async with opened(f"{url}&prefix={first}:") as provider:
                assert (await start(provider)).session_id == "talk"


async def test_a_silent_host_of_a_cluster_is_passed_over(silent: str) -> None:
    good = f"127.0.0.1:{shared_cluster().primaries[0].port}"
    for number in range(6):  # redis-py asks them in any order
        async with opened(
            f"redis+cluster://{silent},{good}?timeout=1&prefix=down-{number}:"
        ) as provider:
            assert (await start(provider)).session_id == "talk"


async def test_a_connection_that_is_about_to_close_is_lent_to_nobody(server: RedisServer) -> None:
    for turns in range(6):
        topology = topology_of(None, server.url, pool_size=3, timeout=1)
        lent = [await topology.acquire("server") for _ in range(3)]
        for connection in lent:
            await topology.release("server", connection)
        refreshing = asyncio.create_task(topology.refresh())
        for _ in range(turns):
            await asyncio.sleep(0)
        connection = await topology.acquire("server")
        await connection.send_command("PING")
        assert await connection.read_response() == b"PONG"
        await topology.release("server", connection)
        await refreshing
        await topology.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://there",
        "unix:///run/redis.sock",
        f"redis+sentinel://{HOSTS}/talks",
        f"redis+cluster://{HOSTS}",
    ],
)
def test_nothing_is_tried_again_by_the_driver_itself(url: str) -> None:
    topology = topology_of(None, url, pool_size=3, timeout=1)
    for connection in _connections(topology):
        assert connection.retry.get_retries() == 0


@pytest.mark.parametrize("url", ["redis://there", f"redis+cluster://{HOSTS}"])
def test_the_pool_size_reaches_the_driver(url: str) -> None:
    topology = topology_of(None, url, pool_size=3, timeout=1)
    if isinstance(topology, OneServer):
        assert topology._pool.max_connections == 3
    else:
        assert isinstance(topology, ClusterServers)
        nodes = topology._client.nodes_manager.startup_nodes.values()
        assert [node.max_connections for node in nodes] == [3, 3]


def _connections(topology: Any) -> Iterator[AbstractConnection]:  # noqa: ANN401 - either kind
    """Yield a connection, not open, of each kind that a topology makes."""
    if isinstance(topology, ClusterServers):
        for node in topology._client.nodes_manager.startup_nodes.values():
            yield node.acquire_connection()
        return
    yield topology._pool.make_connection()
    if topology._check is not None:
        for sentinel in topology._check._sentinel.sentinels:
            yield sentinel.connection_pool.make_connection()
