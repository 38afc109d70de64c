"""From a URL or a ready client to the servers behind it: standalone, Sentinel or Cluster.

    redis://[user[:password]@]host[:port][/db]      rediss://… with TLS      unix:///path?db=0
    redis+sentinel://host[:port],host[:port]/service[/db]      rediss+sentinel://…
    redis+cluster://host[:port],host[:port]                     rediss+cluster://…

``valkey`` may stand for ``redis`` in each. A query string goes to redis-py as it understands it
(``client_name``, ``ssl_ca_certs``, ``protocol``, …), unknown names are refused. Sentinel's own user
and password are ``sentinel_username`` and ``sentinel_password``.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode, urlsplit

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
    SSLConnection,
    idle_connections,
    is_stale,
    key_slot,
    parse_url,
)
from agent_cores.session.storage.redis.options import RedisOptions
from agent_cores.session.storage.redis.sentinel import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.storage.redis.node import Topology

_URL = re.compile(r"(?:redis|valkey)(?P<tls>s?)(?:\+(?P<kind>cluster|sentinel))?", re.IGNORECASE)
_PORTS = {"cluster": 6379, "sentinel": 26379}
_UNUSABLE = (
    "the Redis URL cannot be used: a name of its query string is unknown, or a value, a port or a"
    " database is none; in a password, write % : / ? # [ ] @ percent-encoded"
)
_REFRESH_INTERVAL = 0.1
"""Seconds between two looks at the slots of a cluster, however many commands were redirected."""


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
        raise ConfigurationError(_UNUSABLE) from None  # the driver's words may hold the password


def split_url(url: str) -> tuple[str, dict[str, Any]]:
    """Return the URL without the provider's own options, and these."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(_UNUSABLE) from None
    options, others = RedisOptions.split_query(
        parts.query, aliases={"max_connections": "pool_size"}
    )
    if not options:
        return url, {}
    changed = parts._replace(query=urlencode(others)).geturl()
    return changed if parts.netloc or parts.path else f"{parts.scheme}://", options


def without_login(url: str) -> str:
    """Return the URL without user, password and query.

    Without its hosts too, if an ``@`` after them leaves open where the password ends.
    """
    scheme, mark, rest = url.partition("://")
    (authority,) = re.findall(r"^[^/?#]*", rest)
    if "@" in rest[len(authority) :]:
        return f"{scheme}{mark}…"
    return scheme + mark + re.split(r"[?#]", rest)[0].rpartition("@")[2]


def _connected(url: str, *, pool_size: int, timeout: float) -> Topology:
    scheme, _, rest = url.partition("://")
    known = _URL.fullmatch(scheme)
    defaults: dict[str, Any] = {
        "max_connections": pool_size,
        "socket_timeout": None,  # flights are timed as a whole
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
    }
    if known is None or known["kind"] is None:
        plain = url if known is None else f"redis{known['tls'].lower()}://{rest}"
        options: dict[str, Any] = defaults | _options(plain)
        if "path" in options:
            del options["socket_keepalive"]
        return OneServer(_checked(ConnectionPool(**options)), owned=True)
    kind = known["kind"].lower()
    hosts, service, options = _several(rest, kind, tls=bool(known["tls"]))
    if kind == "sentinel":
        return _watched(hosts, service, defaults | options, timeout)
    nodes = [ClusterNode(host, port) for host, port in hosts]
    patience = _patience(timeout, hosts)
    options = defaults | patience | {"retry": Retry(NoBackoff(), 0)} | options
    return ClusterServers(RedisCluster(startup_nodes=nodes, **options), owned=True)


def _several(
    rest: str, kind: str, *, tls: bool
) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """Return hosts, Sentinel's service and redis-py's options of a URL with several hosts."""
    authority, slash, tail = rest.partition("/")
    if not slash:
        authority, mark, query = rest.partition("?")
        tail = mark + query
    login, at, names = authority.rpartition("@")
    hosts = [_host(name, _PORTS[kind]) for name in names.split(",")]
    service = ""
    if kind == "sentinel":
        path, mark, query = tail.partition("?")
        service, _, path = path.partition("/")
        if not service:
            detail = "the name of the service is missing: redis+sentinel://host,host/service"
            raise ConfigurationError(detail)
        tail = path + mark + query
    options = _options(f"redis{'s' if tls else ''}://{login}{at}h/{tail}")
    del options["host"]
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    return hosts, unquote(service), options


def _options(url: str) -> dict[str, Any]:
    """Return redis-py's options of a URL. It takes a path that is no number for database 0."""
    parts = urlsplit(url)
    if parts.scheme != "unix" and not re.fullmatch(r"/?[0-9]*/?", unquote(parts.path)):
        detail = "the path of a Redis URL is the number of a database: redis://host/0"
        raise ConfigurationError(detail)
    return dict(parse_url(url))


def _patience(timeout: float, hosts: Sequence[object]) -> dict[str, float]:
    """Return how long one host is waited for, so that the others are asked in time.

    A cluster soon knows of more hosts than the URL names: of three at least.
    """
    share = timeout / (max(len(hosts), 3) + 1)
    return {"socket_timeout": share, "socket_connect_timeout": share}


def _host(name: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{name}")
    if not parts.hostname:
        detail = "a host of the Redis URL has no name: redis+cluster://host[:port],host[:port]"
        raise ConfigurationError(detail)
    return parts.hostname, parts.port or port


def _watched(
    hosts: list[tuple[str, int]], service: str, options: dict[str, Any], timeout: float
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
