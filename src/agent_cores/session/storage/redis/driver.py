"""What this package uses of redis-py and hiredis. No other module imports them."""

from __future__ import annotations

from typing import Any

from agent_cores.session.errors import MissingDependencyError

try:
    from hiredis import pack_command
    from redis.asyncio import ConnectionPool, Redis, RedisCluster
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
    from redis.backoff import NoBackoff
    from redis.crc import key_slot
    from redis.exceptions import (
        AskError,
        AuthenticationError,
        AuthorizationError,
        BusyLoadingError,
        ClusterDownError,
        MovedError,
        NoPermissionError,
        NoScriptError,
        OutOfMemoryError,
        ReadOnlyError,
        RedisClusterException,
        RedisError,
        ResponseError,
        TryAgainError,
    )
except ImportError as _error:
    package = "redis and hiredis"
    raise MissingDependencyError(package, "redis") from _error


async def is_stale(connection: AbstractConnection) -> bool:
    """Whether a connection must be reopened before it is used.

    The server has closed it or has sent unexpected data, or redis-py has marked it after a change
    of the cluster. Older releases of redis-py name the first check differently and lack the second.
    """
    has_unread = getattr(connection, "can_read", None) or connection.can_read_destructive
    is_marked = getattr(connection, "should_reconnect", None)
    return bool((is_marked is not None and is_marked()) or await has_unread())


async def read_reply(connection: AbstractConnection) -> Any:  # noqa: ANN401 - whatever it replies
    """Read one reply; an error reply is returned, or raised if redis-py derives it otherwise.

    Connections read through three more calls, which take twice as long as the rest of it, and
    Sentinel's close themselves on READONLY and lose the replies to the rest of the flight.
    """
    parser: Any = connection._parser  # noqa: SLF001
    return await parser.read_response(disable_decoding=True)


def idle_connections(pool: ConnectionPool) -> list[AbstractConnection]:
    """Return the idle connections of a pool, for which redis-py has no public method."""
    return list(pool._available_connections)  # noqa: SLF001


__all__ = [
    "AbstractConnection",
    "AskError",
    "AuthenticationError",
    "AuthorizationError",
    "BusyLoadingError",
    "ClusterDownError",
    "ClusterNode",
    "ConnectionPool",
    "MovedError",
    "NoBackoff",
    "NoPermissionError",
    "NoScriptError",
    "OutOfMemoryError",
    "ReadOnlyError",
    "Redis",
    "RedisCluster",
    "RedisClusterException",
    "RedisError",
    "ResponseError",
    "Retry",
    "SSLConnection",
    "Sentinel",
    "SentinelConnectionPool",
    "TryAgainError",
    "idle_connections",
    "is_stale",
    "key_slot",
    "pack_command",
    "parse_url",
    "read_reply",
]
