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
"""Seconds between two looks at the slots of a cluster, however many commands were redirected."""
_IDLE = 1.0
"""Seconds without use after which the sentinels are asked whether a server is still the primary."""
_ASKED = 0.25
"""Seconds until the next sentinel is asked; where none answers, the connection is trusted."""


class Topology(Protocol):
    """Which nodes there are, which of them has a key, and connections to them."""

    async def open(self) -> None:
        """Find the nodes."""

    def node_of(self, key: bytes | None) -> str:
        """Return the address of the primary that has a key; of any for ``None``."""

    def redirected(self, error: MovedError | AskError) -> str | None:
        """Note where a slot is, and return the address; ``None`` if it is not known yet."""

    def primaries(self) -> Sequence[str]:
        """Return the addresses of all primaries."""

    async def refresh(self, address: str | None) -> None:
        """Find the nodes anew, after the one at that address failed or is no primary any more."""

    async def acquire(self, address: str) -> AbstractConnection:
        """Return an open connection for one flight."""

    async def release(self, address: str, connection: AbstractConnection) -> None:
        """Give a connection back."""

    async def close(self) -> None:
        """Close what was opened here, and only that."""


def topology_of(client: object | None, url: str, *, pool_size: int, timeout: float) -> Topology:
    """Return the servers behind a client that was passed in, or else behind a URL."""
    if isinstance(client, RedisCluster):
        return ClusterServers(client, owned=False)
    if isinstance(client, Redis):
        return OneServer(client.connection_pool, watch=Watch.of(client.connection_pool))
    if client is not None:
        detail = f"{type(client).__name__} is no redis.asyncio.Redis or RedisCluster"
        raise ConfigurationError(detail)
    try:
        return _connected(url, pool_size=pool_size, timeout=timeout)
    except ConfigurationError:  # a kind of ValueError, with words of our own
        raise
    except (KeyError, TypeError, ValueError, RedisError, RedisClusterException):
        raise ConfigurationError(UNUSABLE) from None  # the driver's words may hold the password


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
        return _watched(hosts, service, {**options, **chosen}, timeout)
    nodes = [ClusterNode(host, port) for host, port in hosts]
    options |= {**_patience(timeout, hosts), "retry": Retry(NoBackoff(), 0), **chosen}
    return ClusterServers(RedisCluster(startup_nodes=nodes, **options), owned=True)


def _patience(timeout: float, hosts: Sequence[object]) -> dict[str, float]:
    """Return how long one host is waited for, so that the others are asked in time.

    A cluster soon knows of more hosts than the URL names: of three at least.
    """
    share = timeout / (max(len(hosts), 3) + 1)
    return {"socket_timeout": share, "socket_connect_timeout": share}


def _watched(
    hosts: Sequence[tuple[str, int]], service: str, options: dict[str, Any], timeout: float
) -> Topology:
    own = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in options
    }
    tls = {name: value for name, value in options.items() if name.startswith("ssl")}
    once = Retry(NoBackoff(), 0)
    watcher = {**_patience(timeout, hosts), "retry": once, **tls, **own}
    sentinel = Sentinel(hosts, sentinel_kwargs=watcher)  # type: ignore[no-untyped-call]
    pool = sentinel.master_for(service, **options).connection_pool
    return OneServer(_checked(pool), owned=True, watch=Watch(sentinel, service))


def _checked(pool: ConnectionPool) -> ConnectionPool:
    """Make a connection, without connecting: only so does redis-py refuse an unknown option."""
    pool.make_connection()  # type: ignore[no-untyped-call]
    return pool


async def _renew_if_stale(connection: AbstractConnection) -> None:
    """Connect, anew where the server has hung up, or has sent what nobody waits for any more.

    redis-py's pools look for that too, but not with maintenance notifications on, as by default.
    """
    if connection.is_connected and await is_stale(connection):
        await connection.disconnect(nowait=True)
    await connection.connect()  # type: ignore[no-untyped-call]


class OneServer:
    """A standalone server, or the one that Sentinel says is the primary."""

    def __init__(
        self, pool: ConnectionPool, *, owned: bool = False, watch: Watch | None = None
    ) -> None:
        self._pool = pool
        self._owned = owned
        self._watch = watch

    async def open(self) -> None:
        """Connect once."""
        await self._pool.release(await self.acquire(self.primaries()[0]))

    def node_of(self, key: bytes | None) -> str:  # noqa: ARG002 - there is but one
        """Return the one address."""
        return "server"

    def redirected(self, error: AskError) -> str | None:
        """Refuse: one server of a cluster is not the whole store."""
        detail = "this server belongs to a cluster: use redis+cluster://"
        raise ConfigurationError(detail) from error

    def primaries(self) -> Sequence[str]:
        """Return the one address."""
        return ["server"]

    async def refresh(self, address: str | None) -> None:  # noqa: ARG002 - as above
        """Drop idle connections: the next ones go to whoever is the primary then.

        Each in one step: nobody is lent one that is about to close, as the pool's own way allows.
        """
        for connection in idle_connections(self._pool):
            await connection.disconnect(nowait=True)

    async def acquire(self, address: str) -> AbstractConnection:  # noqa: ARG002 - as above
        """Return a connection that was found open."""
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            if self._watch is not None:
                await self._watch.leave_if_replaced(connection)
            await _renew_if_stale(connection)
        except BaseException:
            await self._pool.release(connection)
            raise
        return connection

    async def release(self, address: str, connection: AbstractConnection) -> None:  # noqa: ARG002
        """Give it back to the pool."""
        if self._watch is not None:
            self._watch.used(connection)
        await self._pool.release(connection)

    async def close(self) -> None:
        """Close the pool, if it is ours."""
        if self._owned:
            await self._pool.aclose()
            if self._watch is not None:
                await self._watch.close()


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
        """Ask for the slots."""
        if not self._owned:
            await self._client.initialize()
            return
        try:  # not its initialize, which also wants an answer of the first primary
            await self._client.nodes_manager.initialize()
        except BaseException:
            await self.close()
            raise

    def node_of(self, key: bytes | None) -> str:
        """Return the primary of the key's slot; ``RedisClusterException`` if nobody has it."""
        if key is None:
            return self.primaries()[0]
        slot = key_slot(key)
        moved = self._moved.get(slot)
        if moved is not None:
            return moved
        try:
            return self._client.nodes_manager.get_node_from_slot(slot).name
        except KeyError as error:  # from a client that does not insist on every slot
            detail = f"no node of the cluster has slot {slot}"
            raise RedisClusterException(detail) from error

    def redirected(self, error: AskError) -> str | None:
        """Follow MOVED for good, ASK for once."""
        if not error.host:
            return None
        host, port = self._client.nodes_manager.remap_host_port(error.host, error.port)
        node = self._client.get_node(host, port) or self._newcomer(host, port)
        if isinstance(error, MovedError):
            self._moved[error.slot_id] = node.name
        return node.name

    def _newcomer(self, host: str, port: int) -> ClusterNode:
        """Return a node that is not listed yet: it has no slot but the one on its way to it."""
        node = ClusterNode(host, port, **self._client.nodes_manager.connection_kwargs)
        return self._newcomers.setdefault(node.name, node)

    def _node(self, address: str) -> ClusterNode | None:
        return self._client.get_node(node_name=address) or self._newcomers.get(address)

    def primaries(self) -> Sequence[str]:
        """Return the addresses of all primaries."""
        return [node.name for node in self._client.get_primaries()]

    async def refresh(self, address: str | None) -> None:  # noqa: ARG002 - all are asked about
        """Ask for the slots anew, once for all that were redirected meanwhile."""
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
            detail = f"{address} is no node of the cluster any more"
            raise ConnectionError(detail)
        connection = node.acquire_connection()
        try:
            await _renew_if_stale(connection)
        except BaseException:
            node.release(connection)
            raise
        self._lenders[connection] = node, connection.socket_timeout
        connection.socket_timeout = None  # flights are timed as a whole
        return connection

    async def release(self, address: str, connection: AbstractConnection) -> None:
        """Give it back to its node; a node that has left closes it."""
        node, connection.socket_timeout = self._lenders.pop(connection)
        if self._node(address) is not node:
            await connection.disconnect(nowait=True)
        node.release(connection)  # type: ignore[arg-type]  # it came from there

    async def close(self) -> None:
        """Close the connections, those of the client only if it is ours."""
        for node in self._newcomers.values():
            await node.disconnect()
        if self._owned:
            await self._client.nodes_manager.aclose()
            await self._client.nodes_manager.aclose("startup_nodes")


class Watch:
    """Tells whether a connection that was idle still leads to the primary.

    A server that comes back after a failover does not know of it yet: for some seconds it answers
    as the primary that it was, until a sentinel makes it a replica. So the sentinels are asked.
    """

    def __init__(self, sentinel: Sentinel, service: str) -> None:
        self._sentinel = sentinel
        self._service = service
        self._used: WeakKeyDictionary[AbstractConnection, float] = WeakKeyDictionary()

    @classmethod
    def of(cls, pool: ConnectionPool) -> Watch | None:
        """Return one for a pool whose servers sentinels know, ``None`` for any other."""
        if isinstance(pool, SentinelConnectionPool):
            return cls(pool.sentinel_manager, pool.service_name)
        return None

    def used(self, connection: AbstractConnection) -> None:
        """Note that a connection was in use until now."""
        self._used[connection] = time.monotonic()

    async def leave_if_replaced(self, connection: AbstractConnection) -> None:
        """Close a connection that was idle for a while, if its server is not the primary."""
        used = self._used.get(connection)
        if not connection.is_connected or used is None or time.monotonic() - used < _IDLE:
            return
        primary = await self._primary()
        if primary is not None and primary != (str(connection.host), int(connection.port)):  # type: ignore[attr-defined]  # set by redis-py once it is connected
            await connection.disconnect(nowait=True)

    async def _primary(self) -> tuple[str, int] | None:
        """Return where the first sentinel that answers says the primary is."""
        for watcher in self._sentinel.sentinels:
            try:
                async with asyncio.timeout(_ASKED):
                    found: Any = await watcher.sentinel_get_master_addr_by_name(self._service)
            except BROKEN:
                continue
            if found is not None:
                host, port = found
                return (host.decode() if isinstance(host, bytes) else str(host)), int(port)
        return None

    async def close(self) -> None:
        """Close the connections to the sentinels."""
        for watcher in self._sentinel.sentinels:
            await watcher.aclose()
