"""What the peers on Redis share: one client, so that no session needs its own connection.

hiredis is installed, so redis-py uses it.
"""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from benchmarks.store import Handle, Store, server_address


class OnRedis(Store[Handle], abc.ABC):
    """A client to a server that is emptied when a store opens."""

    async def open(self, directory: Path) -> None:
        self._redis: Any = Redis.from_url(server_address())
        await self._redis.flushall()

    async def close(self) -> None:
        await self._redis.aclose()

    async def bytes_in_use(self) -> int:
        return int((await self._redis.info("memory"))["used_memory"])
