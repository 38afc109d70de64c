"""``RedisOptions``: the options of a Redis URL and of ``RedisProvider``, without redis-py's own."""

from __future__ import annotations

from agent_cores.session.storage.batching import MAX_QUEUED
from agent_cores.session.storage.options import AtLeastOne, Seconds, StoreOptions


class RedisOptions(StoreOptions, frozen=True, kw_only=True):
    """``pool_size`` is per server; ``timeout`` is how many seconds a server may stay silent."""

    store = "Redis"

    prefix: str = "session:"
    pool_size: AtLeastOne = 10
    timeout: Seconds = 10.0
    max_queued: AtLeastOne = MAX_QUEUED
