"""`RedisChatStore` of LlamaIndex: a session is a key, and each message an entry of its list.

As its documentation shows it, `RedisChatStore(redis_url=…, ttl=300)`, in its asynchronous form:
`async_add_message(key, message)` and `aget_messages(key)`, which reads all and has no limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar
from uuid import uuid4

from llama_index.core.llms import (  # type: ignore[import-not-found, unused-ignore]
    ChatMessage,
)
from llama_index.storage.chat_store.redis import (  # type: ignore[import-not-found, unused-ignore]
    RedisChatStore,
)

from benchmarks.peers.on_redis import OnRedis
from benchmarks.store import server_address


class LlamaIndexRedis(OnRedis[str]):
    """It has no users either."""

    packages = ("llama-index-storage-chat-store-redis", "llama-index-core", "redis", "hiredis")
    ttl: ClassVar[int | None] = 300
    """Seconds until a session without appends expires; costs each append a second round trip."""

    async def open(self, directory: Path) -> None:
        await super().open(directory)
        self._store = RedisChatStore(server_address(), aredis_client=self._redis, ttl=self.ttl)

    async def create(self, user_id: str, count: int) -> list[str]:
        return [uuid4().hex for _ in range(count)]

    async def append(self, session: str, text: str) -> None:
        await self._store.async_add_message(session, ChatMessage(role="user", content=text))

    async def read_last(self, session: str, limit: int) -> int:
        return len((await self._store.aget_messages(session))[-limit:])


class LlamaIndexRedisForever(LlamaIndexRedis):
    """Without expiry: the store grows without bound, and an append is one RPUSH."""

    ttl = None
