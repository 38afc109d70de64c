"""``RedisProvider``: sessions in Redis or Valkey, standalone, under Sentinel or in a Cluster.

``changes.py`` applies a change, ``creates.py`` the creates of many callers; ``keys.py`` names the
keys, ``records.py`` and ``writes.py`` describe what they hold, ``headers.py`` reads many headers;
``indexes.py``, ``listings.py``, ``repair.py`` and ``due.py`` keep the indexes, ``background.py``
runs what no caller waits for; ``commands.py``, ``wire.py`` and ``connection.py`` send scripts in
batches; ``url.py`` and ``topology.py`` find the servers; ``driver.py`` imports redis-py;
``errors.py`` translates its errors; ``inspecting.py`` says what an operator should know.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self

from agent_cores.session.deadline import start_task
from agent_cores.session.errors import CorruptRecordError, StorageError
from agent_cores.session.models.change import Applied
from agent_cores.session.models.times import from_millis
from agent_cores.session.storage.abandoned import Abandoned
from agent_cores.session.storage.base import Capabilities, Counts
from agent_cores.session.storage.batching import MAX_QUEUED
from agent_cores.session.storage.identity import StoreIdentity, new_identity
from agent_cores.session.storage.native import NativeProvider
from agent_cores.session.storage.redis.background import Background
from agent_cores.session.storage.redis.changes import Changes
from agent_cores.session.storage.redis.commands import Command
from agent_cores.session.storage.redis.creates import Creates
from agent_cores.session.storage.redis.driver import NoPermissionError
from agent_cores.session.storage.redis.due import DueQueue
from agent_cores.session.storage.redis.headers import Headers
from agent_cores.session.storage.redis.indexes import Indexes
from agent_cores.session.storage.redis.inspecting import UNKNOWN, findings_of, info_of
from agent_cores.session.storage.redis.keys import Keys
from agent_cores.session.storage.redis.listings import Listings
from agent_cores.session.storage.redis.options import RedisOptions
from agent_cores.session.storage.redis.records import ReadRequest, StoredSession
from agent_cores.session.storage.redis.repair import Repairs, repair_lists
from agent_cores.session.storage.redis.topology import topology_of
from agent_cores.session.storage.redis.url import split_url, without_login
from agent_cores.session.storage.redis.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent_cores.session.models.change import Change
    from agent_cores.session.models.query import Ended, Found, Query
    from agent_cores.session.models.snapshot import Snapshot, Window
    from agent_cores.session.settings import SessionSettings
    from agent_cores.session.storage.findings import Finding
    from agent_cores.session.storage.pool_use import PoolUse
    from agent_cores.session.storage.redis.driver import Redis, RedisCluster

DEFAULT_URL = "redis://localhost:6379/0"
_CHECK_STAYS = 60_000
"""Milliseconds until the key of a health check expires."""

_log = logging.getLogger(__name__)


class RedisProvider(NativeProvider):
    """Sessions in Redis 7 or Valkey.

    ``client`` is a ready ``redis.asyncio.Redis`` or ``RedisCluster``, which the provider never
    closes; without one, ``url`` names the servers. There are at most ``pool_size`` connections per
    server, and an operation takes at most ``timeout`` seconds. With ``fast_path=False`` every
    change reads the session first.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(shared=True, durable=True, flat=True)
    backup_command: ClassVar[str] = "redis-cli -u URL --rdb FILE (of a cluster, for every primary)"

    def __init__(
        self,
        client: Redis | RedisCluster | None = None,
        *,
        url: str = DEFAULT_URL,
        prefix: str = "session:",
        pool_size: int = 10,
        timeout: float = 10,
        max_queued: int = MAX_QUEUED,
        fast_path: bool = True,
    ) -> None:
        RedisOptions.check(
            prefix=prefix, pool_size=pool_size, timeout=timeout, max_queued=max_queued
        )
        self._keys = Keys(prefix)
        self._where = without_login(url) if client is None else "by the given client"
        topology = topology_of(client, url, pool_size=pool_size, timeout=timeout)
        self._abandoned: Abandoned[bytes] = Abandoned()
        self._wire = Wire(
            topology,
            self._abandoned,
            pool_size=pool_size,
            timeout=timeout,
            max_queued=max_queued,
        )
        self._background = Background()
        self._indexes = Indexes(self._keys, self._wire, self._background)
        self._headers = Headers(self._keys, self._wire)
        self._due = DueQueue(self._keys, self._wire, self._headers)
        repairs = Repairs(self._wire, self._indexes, self._due, self._headers, self._background)
        self._listings = Listings(self._keys, self._wire, self._due, self._headers, repairs)
        self._changes = Changes(
            self._keys, self._wire, self._indexes, self._due, self._background, timeout=timeout
        )
        self._creates = Creates(
            self._keys,
            self._wire,
            self._indexes,
            self._background,
            self._abandoned,
            max_queued=max_queued,
        )
        self._identity = StoreIdentity()
        self._timeout = timeout
        self._fast_path = fast_path
        self._running: set[asyncio.Task[Any]] = set()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:  # noqa: ANN401 - checked by the constructor
        """``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``, ``redis+cluster://``."""
        url, own = split_url(url)
        return cls(url=url, **options | own)

    @classmethod
    def options_from(cls, settings: SessionSettings) -> dict[str, Any]:
        return {
            "prefix": settings.key_prefix,
            "pool_size": settings.pool_size,
            "timeout": settings.timeout,
            "max_queued": settings.max_queued_writes,
        }

    def describe(self) -> str:
        return f"Redis, {self._where}"

    async def initialize(self) -> None:
        await self._wire.open()
        self._identity.forget()
        self._abandoned.clear()
        self._creates.open()
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.gather(self._wire.note_times(), self._warn_of_eviction())
        except TimeoutError:
            _log.warning("some servers did not report their time or eviction policy in time")

    async def shutdown(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._finish()
        except TimeoutError:
            _log.warning("the store was closed while changes were in flight")
            for task in self._running:
                task.cancel()
            self._background.cancel()
        finally:
            await self._wire.close()

    async def _finish(self) -> None:
        """Finish the accepted changes."""
        while self._running:
            await asyncio.wait(self._running)
        await self._creates.drain()
        await self._background.finish()
        await self._wire.drain()

    async def check(self) -> None:
        checked, key = self._keys.checked, self._keys.identity
        identity = Command.read("GET", key, key=key)
        fresh = None
        if not self._identity.is_known:
            fresh = new_identity()
            identity = Command.write("SET", key, fresh, "NX", "GET", key=key)
        write = Command.write("SET", checked, 1, "PX", _CHECK_STAYS, key=checked)
        _, found = await self._wire.call_all([write, identity])
        self._identity.confirm(found or fresh)

    async def store_time(self) -> datetime | None:
        key = self._keys.namespaces
        asked_at = time.monotonic()
        answer = await self._wire.call(Command.read("TIME", key=key))
        self._wire.note_time(key, asked_at, answer)
        seconds, micros = answer
        return from_millis(int(seconds) * 1000 + int(micros) // 1000)

    def pool_use(self) -> PoolUse:
        return self._wire.pool_use()

    async def inspect(self) -> list[Finding]:
        try:
            answers = await self._wire.call_primaries(Command.read("INFO"))
        except StorageError as error:
            if not isinstance(error.__cause__, NoPermissionError):
                raise
            return [UNKNOWN]
        found = [finding for answer in answers for finding in findings_of(info_of(answer))]
        return list(dict.fromkeys(found))  # what several servers say alike, once

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        request = ReadRequest.of_session(context=context, window=window)
        stored = await self._changes.read(namespace, session_id, request)
        return stored.snapshot(request, window)

    async def read_several(
        self,
        names: Sequence[tuple[str, str]],
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> list[Snapshot | CorruptRecordError | None]:
        request = ReadRequest.of_session(context=context, window=window)
        several = await self._changes.read_several(names, request)
        return [_snapshot_or_error(stored, request, window) for stored in several]

    async def apply(self, change: Change) -> Applied:
        added = None
        if self._abandoned.writes:
            await self._abandoned.over(self._key(change))
        if self._fast_path:
            create = change.create is not None
            applied = await (self._creates.create if create else self._changes.append_hot)(change)
            if isinstance(applied, Applied):
                return applied
            added = applied
        # A task of its own: a cancelled caller leaves no index entries behind.
        task = start_task(self._changes.apply(change, added))
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._abandoned.add(self._key(change), task)
            raise

    def _key(self, change: Change) -> bytes:
        return self._keys.session(change.namespace, change.session_id).header

    def _ended(self, task: asyncio.Task[Applied]) -> None:
        """Forget a change, and retrieve its error in place of a cancelled caller."""
        self._running.discard(task)
        if not task.cancelled():
            task.exception()

    async def find(self, query: Query) -> Found:
        return await self._listings.find(query)

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        return await self._due.take(at, limit, timedelta(seconds=lease_seconds))

    async def repair_lists(self, namespace: str, user_id: str) -> None:
        await repair_lists(self._due, self._headers, self._indexes, namespace, user_id)

    async def count(self, namespace: str | None, at: datetime) -> Counts:
        return await self._due.count(namespace, at)

    async def count_archived(self) -> int:
        return await self._due.count_archived()

    async def namespaces(self) -> list[str]:
        return await self._due.namespaces()

    async def _warn_of_eviction(self) -> None:
        """Warn if Redis may evict sessions. ``INFO``, because ``CONFIG`` is often forbidden."""
        try:
            answers = await self._wire.call_primaries(Command.read("INFO", "memory"))
        except StorageError as error:
            _log.info("the eviction policy of Redis is unknown: %s", error)
            return
        policies = {info_of(answer).get("maxmemory_policy") for answer in answers}
        for policy in policies - {"noeviction", None}:
            _log.warning(
                "Redis has maxmemory-policy %s: when memory is full, it evicts live sessions and"
                " index entries; set it to noeviction",
                policy,
            )


def _snapshot_or_error(
    stored: StoredSession | CorruptRecordError, request: ReadRequest, window: Window | None
) -> Snapshot | CorruptRecordError | None:
    """Return what ``read`` returns, or the error that it raises."""
    if isinstance(stored, CorruptRecordError):
        return stored
    try:
        return stored.snapshot(request, window)
    except CorruptRecordError as error:
        return error
