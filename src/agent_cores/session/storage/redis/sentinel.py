"""``Watch``: under Sentinel, whether a connection that was idle still leads to the primary."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from agent_cores.session.storage.redis.driver import (
    AbstractConnection,
    ConnectionPool,
    SentinelConnectionPool,
)
from agent_cores.session.storage.redis.failures import BROKEN

if TYPE_CHECKING:
    from agent_cores.session.storage.redis.driver import Sentinel

_IDLE = 1.0
"""Seconds without use after which the sentinels are asked whether a server is still the primary."""
_ASKED = 0.25
"""Seconds until the next sentinel is asked; where none answers, the connection is trusted."""


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
