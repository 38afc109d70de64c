"""``KeyCache``: recently read keys, so that most requests do not read the store."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import SessionError
from agent_cores.session.service.auth.api_keys import ApiKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from agent_cores.session.service.auth.api_keys import Keys

logger: logging.Logger = logging.getLogger("agent_cores.session.service")

REFRESH_SECONDS = 2.0
"""The age at which a key is read again in the background while the cached one is still used."""
TRUSTED_SECONDS = 4.0
"""The age at which a cached key is no longer used: a revoked key fails everywhere within 5 s."""
USED_SECONDS = 60.0
FINISH_SECONDS = 5.0
"""How long a stopping service waits for key reads and use times in flight."""
_MOST = 10_000


class CachedKey(msgspec.Struct):
    """A key, when it was read, and when its use was recorded, by the monotonic clock."""

    key: ApiKey
    read_at: float
    noted_at: float = float("-inf")


class KeyCache:
    """Looks keys up in every place where they may be kept."""

    def __init__(self, places: tuple[Keys, ...], now: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        self._now = now
        self._cached: dict[str, CachedKey] = {}
        self._readings: dict[str, asyncio.Task[ApiKey | None]] = {}
        self._notes: set[asyncio.Task[None]] = set()

    def knows(self, key_id: str) -> bool:
        """Whether the key was found before."""
        return key_id in self._cached

    async def get(self, key_id: str) -> ApiKey | None:
        """Return the key as it was at most 4 seconds ago."""
        return self.at_hand(key_id) or await self._read(key_id)

    def at_hand(self, key_id: str) -> ApiKey | None:
        """Return the key if it was read at most 4 seconds ago, else ``None``."""
        seen = self._cached.get(key_id)
        if seen is None:
            return None
        age = self._now() - seen.read_at
        if age >= TRUSTED_SECONDS:
            return None
        if age >= REFRESH_SECONDS:
            self._reading(key_id)
        return seen.key

    def note_use(self, key: ApiKey, clock: Callable[[], datetime]) -> None:
        """Record in the background, at most once a minute, that the key was used."""
        seen = self._cached.get(key.id)
        now = self._now()
        if seen is None or now - seen.noted_at < USED_SECONDS:
            return
        seen.noted_at = now
        at = clock()
        if key.last_used_at is not None and (at - key.last_used_at).total_seconds() < USED_SECONDS:
            return
        task = asyncio.get_running_loop().create_task(self._note(key, at))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def finish(self) -> None:
        """Wait a bounded time for what is in flight, then cancel the rest."""
        tasks = [*self._notes, *self._readings.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=FINISH_SECONDS)
            for task in late:
                task.cancel()

    async def _read(self, key_id: str) -> ApiKey | None:
        return await asyncio.shield(self._reading(key_id))

    def _reading(self, key_id: str) -> asyncio.Task[ApiKey | None]:
        """Return the read of this key that is in flight, or start one."""
        task = self._readings.get(key_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._look_up(key_id))
            self._readings[key_id] = task
            task.add_done_callback(lambda done: self._read_done(key_id, done))
        return task

    def _read_done(self, key_id: str, task: asyncio.Task[ApiKey | None]) -> None:
        self._readings.pop(key_id, None)
        if not task.cancelled() and task.exception() is not None:
            logger.warning("a key could not be read again: %s", task.exception())

    async def _look_up(self, key_id: str) -> ApiKey | None:
        asked_at = self._now()
        for place in self._places:
            key = await place.get(key_id)
            if key is not None:
                self._keep(key, asked_at)
                return key
        self._cached.pop(key_id, None)
        return None

    def _keep(self, key: ApiKey, read_at: float) -> None:
        before = self._cached.pop(key.id, None)
        noted_at = before.noted_at if before else float("-inf")
        self._cached[key.id] = CachedKey(key, read_at, noted_at)
        if len(self._cached) > _MOST:
            del self._cached[next(iter(self._cached))]

    async def _note(self, key: ApiKey, at: datetime) -> None:
        try:
            for place in self._places:
                await place.used(key, at)
        except SessionError as error:
            logger.warning("the last use of a key could not be noted: %s", error)
