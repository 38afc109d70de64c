"""`RedisSession` of openai-agents: one object per session, all on one client.

As its documentation shows it: `RedisSession(session_id, redis_client=…)`, then `add_items` and
`get_items(limit=…)`.
"""

from __future__ import annotations

from uuid import uuid4

from agents.extensions.memory import (  # type: ignore[import-not-found, unused-ignore]
    RedisSession,
)

from benchmarks.peers.on_redis import OnRedis

MOST_IN_A_CALL = 1_000


class OpenAIAgentsRedis(OnRedis[RedisSession]):
    """It has no users: a session is only its id."""

    packages = ("openai-agents", "redis", "hiredis")

    async def create(self, user_id: str, count: int) -> list[RedisSession]:
        return [RedisSession(uuid4().hex, redis_client=self._redis) for _ in range(count)]

    async def append(self, session: RedisSession, text: str) -> None:
        await session.add_items([{"role": "user", "content": text}])

    async def fill(self, session: RedisSession, count: int, text: str) -> None:
        for start in range(0, count, MOST_IN_A_CALL):
            size = min(MOST_IN_A_CALL, count - start)
            await session.add_items([{"role": "user", "content": text} for _ in range(size)])

    async def read_last(self, session: RedisSession, limit: int) -> int:
        return len(await session.get_items(limit=limit))
