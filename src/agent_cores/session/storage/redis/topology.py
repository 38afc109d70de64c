"""The servers behind a URL or a ready client: standalone, Sentinel or Cluster."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.storage.redis.driver import (
    AbstractConnection,
    AskError,
    ClusterNode,
    ConnectionPool,
    MovedError,
    NoBackoff,
    Redis,
    RedisCluster,
    RedisClusterException,
    RedisError,
    Retry,
    Sentinel,
    SentinelConnectionPool,
    idle_connections,
    is_stale,
    key_slot,
)
from agent_cores.session.storage.redis.errors import BROKEN
from agent_cores.session.storage.redis.url import UNUSABLE, parse

if TYPE_CHECKING:
    from collections.abc import Sequence


_REFRESH_INTERVAL = 0.1
"""The minimum seconds between two reads of a cluster's slots, even with many redirects."""
_IDLE = 1.0
"""Seconds without use after which a sentinel is asked whether the server is still the primary."""
_ASKED = 0.25
"""Seconds until the next sentinel is asked. If none answers, the connection is used."""


class Topology(Protocol):
    """The servers, which of them has a key, and connections to them."""

    async def open(self) -> None:
        """Find the servers."""

    def node_of(self, key: bytes | None) -> str:
        """Return the address of the primary that has a key; for ``None``, of any primary."""

    def redirected(self, error: MovedError | AskError) -> str | None:
        """Note the new address of a slot and return it; ``None`` if it is unknown yet."""

    def primaries(self) -> Sequence[str]:
        """Return the addresses of all primaries."""

    async def refresh(self) -> None:
        """Find the servers again, because one of them failed or was demoted."""

    async def acquire(self, address: str) -> AbstractConnection:
        """Return an open connection for one flight."""

    async def release(self, address: str, connection: AbstractConnection) -> None:
        """Return a connection."""

    async def close(self) -> None:
        """Close the connections, except those of a client that was passed in."""


def topology_of(client: object | None, url: str, *, pool_size: int, timeout: float) -> Topology:
    """Return the servers behind a client that was passed in, or else behind a URL."""
    if isinstance(client, RedisCluster):
        return ClusterServers(client, owned=False)
    if isinstance(client, Redis):
        return OneServer(client.connection_pool, check=PrimaryCheck.of(client.connection_pool))
    if client is not None:
        detail = f"{type(client).__name__} is not a redis.asyncio.Redis or RedisCluster"
        raise ConfigurationError(detail)
    try:
        return _connected(url, pool_size=pool_size, timeout=timeout)
    except ConfigurationError:  # it is a ValueError too
        raise
    except (KeyError, TypeError, ValueError, RedisError, RedisClusterException):
        raise ConfigurationError(UNUSABLE) from None  # the driver's text may contain the password


def _connected(url: str, *, pool_size: int, timeout: float) -> Topology:
    kind, hosts, service, chosen = parse(url)
    options: dict[str, Any] = {
        "max_connections": pool_size,
        "socket_timeout": None,  # flights are timed as a whole
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
    }
    if kind == "server":
        options |= chosen
        if "path" in options:
            del options["socket_keepalive"]
        return OneServer(_checked(ConnectionPool(**options)), owned=True)
    if kind == "sentinel":
        return _sentinel(hosts, service, {**options, **chosen}, timeout)
    nodes = [ClusterNode(host, port) for host, port in hosts]
    options |= {**_host_timeouts(timeout, hosts), "retry": Retry(NoBackoff(), 0), **chosen}
    return ClusterServers(_checked_client(RedisCluster(startup_nodes=nodes, **options)), owned=True)


def _host_timeouts(timeout: float, hosts: Sequence[object]) -> dict[str, float]:
    """Return timeouts for one host that leave time to ask the others.

    A cluster has at least three hosts, even if the URL names fewer.
    """
    share = timeout / (max(len(hosts), 3) + 1)
    return {"socket_timeout": share, "socket_connect_timeout": share}


def _sentinel(
    hosts: Sequence[tuple[str, int]], service: str, options: dict[str, Any], timeout: float
) -> Topology:
    own = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in options
    }
    tls = {name: value for name, value in options.items() if name.startswith("ssl")}
    once = Retry(NoBackoff(), 0)
    sentinel_options = {**_host_timeouts(timeout, hosts), "retry": once, **tls, **own}
    sentinel = Sentinel(hosts, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]
    pool = sentinel.master_for(service, **options).connection_pool
    return OneServer(_checked(pool), owned=True, check=PrimaryCheck(sentinel, service))


def _checked(pool: ConnectionPool) -> ConnectionPool:
    """Create a connection object: only then does redis-py reject an unknown option."""
    pool.make_connection()  # type: ignore[no-untyped-call]
    return pool


def _checked_client(client: RedisCluster) -> RedisCluster:
    """Create a connection object, as ``_checked`` does."""
    node = ClusterNode("any", 0, **client.nodes_manager.connection_kwargs)
    node.connection_class(**node.connection_kwargs)
    return client


async def _connect(connection: AbstractConnection) -> None:
    """Connect, or reconnect if the server has closed the connection or has sent unexpected data.

    redis-py's pools do the same, except with maintenance notifications on, which is the default.
    """
    if connection.is_connected and await is_stale(connection):
        await connection.disconnect(nowait=True)
    await connection.connect()  # type: ignore[no-untyped-call]


class OneServer:
    """A standalone server, or the one that Sentinel says is the primary."""

    def __init__(
        self, pool: ConnectionPool, *, owned: bool = False, check: PrimaryCheck | None = None
    ) -> None:
        self._pool = pool
        self._owned = owned
        self._check = check

    async def open(self) -> None:
        """Connect once."""
        await self._pool.release(await self.acquire(self.primaries()[0]))

    def node_of(self, key: bytes | None) -> str:  # noqa: ARG002 - there is only one
        """Return the one address."""
        return "server"

    def redirected(self, error: AskError) -> str | None:
        """Raise a configuration error: one server of a cluster is not the whole store."""
        detail = "this server belongs to a cluster: use redis+cluster://"
        raise ConfigurationError(detail) from error

    def primaries(self) -> Sequence[str]:
        """Return the one address."""
        return ["server"]

    async def refresh(self) -> None:
        """Close idle connections: the next ones lead to the new primary.

        Each is closed in one step, so that the pool never hands out one that is about to close.
        """
        for connection in idle_connections(self._pool):
            await connection.disconnect(nowait=True)

    async def acquire(self, address: str) -> AbstractConnection:  # noqa: ARG002 - as above
        """Return an open connection."""
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            if self._check is not None:
                await self._check.close_if_replaced(connection)
            await _connect(connection)
        except BaseException:
            await self._pool.release(connection)
            raise
        return connection

    async def release(self, address: str, connection: AbstractConnection) -> None:  # noqa: ARG002
        """Return the connection to the pool."""
        if self._check is not None:
            self._check.used(connection)
        await self._pool.release(connection)

    async def close(self) -> None:
        """Close the pool, unless it belongs to a client that was passed in."""
        if self._owned:
            await self._pool.aclose()
            if self._check is not None:
                await self._check.close()


class ClusterServers:
    """The primaries of a cluster, and which slots each of them has."""

    def __init__(self, client: RedisCluster, *, owned: bool) -> None:
        self._client = client
        self._owned = owned
        self._moved: dict[int, str] = {}
        self._newcomers: dict[str, ClusterNode] = {}
        self._refreshing = asyncio.Lock()
        self._refreshed_at = 0.0
        self._lenders: dict[AbstractConnection, tuple[ClusterNode, float | None]] = {}

    async def open(self) -> None:
        """Read the slots."""
        if not self._owned:
            await self._client.initialize()
            return
        try:  # its own initialize also requires the first primary to answer
            await self._client.nodes_manager.initialize()
        except BaseException:
            await self.close()
            raise

    def node_of(self, key: bytes | None) -> str:
        """Return the primary of the key's slot; ``RedisClusterException`` if there is none."""
        if key is None:
            return self.primaries()[0]
        slot = key_slot(key)
        moved = self._moved.get(slot)
        if moved is not None:
            return moved
        try:
            return self._client.nodes_manager.get_node_from_slot(slot).name
        except KeyError as error:  # a client may allow slots without a node
            detail = f"no node of the cluster has slot {slot}"
            raise RedisClusterException(detail) from error

    def redirected(self, error: AskError) -> str | None:
        """Follow MOVED for all later commands, ASK for this one only."""
        if not error.host:
            return None
        host, port = self._client.nodes_manager.remap_host_port(error.host, error.port)
        node = self._client.get_node(host, port) or self._newcomer(host, port)
        if isinstance(error, MovedError):
            self._moved[error.slot_id] = node.name
        return node.name

    def _newcomer(self, host: str, port: int) -> ClusterNode:
        """Return a node that is not listed yet: its first slot is being moved to it."""
        node = ClusterNode(host, port, **self._client.nodes_manager.connection_kwargs)
        return self._newcomers.setdefault(node.name, node)

    def _node(self, address: str) -> ClusterNode | None:
        return self._client.get_node(node_name=address) or self._newcomers.get(address)

    def primaries(self) -> Sequence[str]:
        """Return the addresses of all primaries."""
        return [node.name for node in self._client.get_primaries()]

    async def refresh(self) -> None:
        """Read the slots again, once for all concurrent redirects."""
        async with self._refreshing:
            now = asyncio.get_running_loop().time()
            if now - self._refreshed_at < _REFRESH_INTERVAL:
                return
            try:
                await self._client.nodes_manager.initialize()
                self._moved.clear()
            finally:
                self._refreshed_at = asyncio.get_running_loop().time()

    async def acquire(self, address: str) -> AbstractConnection:
        """Return an open connection to a node."""
        node = self._node(address)
        if node is None:
            detail = f"{address} is no longer a node of the cluster"
            raise ConnectionError(detail)
        connection = node.acquire_connection()
        try:
            await _connect(connection)
        except BaseException:
            node.release(connection)
            raise
        self._lenders[connection] = node, connection.socket_timeout
        connection.socket_timeout = None  # flights are timed as a whole
        return connection

    async def release(self, address: str, connection: AbstractConnection) -> None:
        """Return the connection to its node, or close it if the node has left the cluster."""
        node, connection.socket_timeout = self._lenders.pop(connection)
        if self._node(address) is not node:
            await connection.disconnect(nowait=True)
        node.release(connection)  # type: ignore[arg-type]  # it came from that node

    async def close(self) -> None:
        """Close the connections, but not those of a client that was passed in."""
        for node in self._newcomers.values():
            await node.disconnect()
        if self._owned:
            await self._client.nodes_manager.aclose()
            await self._client.nodes_manager.aclose("startup_nodes")


class PrimaryCheck:
    """Under Sentinel, closes an idle connection whose server is no longer the primary.

    After a failover, the old primary may come back and still answer as a primary for some seconds,
    until a sentinel makes it a replica. So a sentinel is asked.
    """

    def __init__(self, sentinel: Sentinel, service: str) -> None:
        self._sentinel = sentinel
        self._service = service
        self._used: WeakKeyDictionary[AbstractConnection, float] = WeakKeyDictionary()

    @classmethod
    def of(cls, pool: ConnectionPool) -> PrimaryCheck | None:
        """Return the check of a Sentinel pool; ``None`` for any other pool."""
        if isinstance(pool, SentinelConnectionPool):
            return cls(pool.sentinel_manager, pool.service_name)
        return None

    def used(self, connection: AbstractConnection) -> None:
        """Record that a connection was in use until now."""
        self._used[connection] = time.monotonic()

    async def close_if_replaced(self, connection: AbstractConnection) -> None:
        """Close a connection that was idle for a second, if its server is not the primary."""
        used = self._used.get(connection)
        if not connection.is_connected or used is None or time.monotonic() - used < _IDLE:
            return
        primary = await self._primary()
        if primary is not None and primary != (str(connection.host), int(connection.port)):  # type: ignore[attr-defined]  # set by redis-py once it is connected
            await connection.disconnect(nowait=True)

    async def _primary(self) -> tuple[str, int] | None:
        """Return the address of the primary, from the first sentinel that answers."""
        for sentinel in self._sentinel.sentinels:
            try:
                async with asyncio.timeout(_ASKED):
                    found: Any = await sentinel.sentinel_get_master_addr_by_name(self._service)
            except BROKEN:
                continue
            if found is not None:
                host, port = found
                return (host.decode() if isinstance(host, bytes) else str(host)), int(port)
        return None

    async def close(self) -> None:
        """Close the connections to the sentinels."""
        for sentinel in self._sentinel.sentinels:
            await sentinel.aclose()
