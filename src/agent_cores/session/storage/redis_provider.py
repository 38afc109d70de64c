"""``RedisProvider``, under the path that the founding document names."""

from __future__ import annotations

from agent_cores.session.storage.redis.provider import RedisProvider

__all__ = ["RedisProvider"]
