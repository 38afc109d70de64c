"""`OpenAIAgentsSession` of ours: one object per session, all on one manager.

Its calls are those of the SDK's own sessions in `benchmarks.peers`.
"""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any
from uuid import uuid4

from agent_cores.session import SessionManager
from agent_cores.session.adapters.openai_agents import OpenAIAgentsSession
from benchmarks.adapters.places import on_postgres, on_redis, on_sqlite
from benchmarks.store import Store

MOST_IN_A_CALL = 1_000


class OpenAIAgents(Store[OpenAIAgentsSession], abc.ABC):
    """Sessions of one user."""

    packages = ("openai-agents", "msgspec")

    @abc.abstractmethod
    async def manager(self, directory: Path) -> SessionManager:
        """The manager on an empty store."""

    async def open(self, directory: Path) -> None:
        self._manager = await self.manager(directory)
        await self._manager.initialize()

    async def close(self) -> None:
        await self._manager.shutdown()

    async def create(self, user_id: str, count: int) -> list[OpenAIAgentsSession]:
        """Create each session by a first append, which is not timed and is undone."""
        sessions = [
            OpenAIAgentsSession(uuid4().hex, self._manager, user_id=user_id) for _ in range(count)
        ]
        for session in sessions:
            await self.append(session, "first")
            await session.pop_item()
        return sessions

    async def append(self, session: OpenAIAgentsSession, text: str) -> None:
        await session.add_items([{"role": "user", "content": text}])

    async def fill(self, session: OpenAIAgentsSession, count: int, text: str) -> None:
        for start in range(0, count, MOST_IN_A_CALL):
            size = min(MOST_IN_A_CALL, count - start)
            items: list[Any] = [{"role": "user", "content": text} for _ in range(size)]
            await session.add_items(items)

    async def read_last(self, session: OpenAIAgentsSession, limit: int) -> int:
        return len(await session.get_items(limit=limit))


class OpenAIAgentsOnSqlite(OpenAIAgents):
    """On one SQLite file."""

    async def manager(self, directory: Path) -> SessionManager:
        return await on_sqlite(directory)


class OpenAIAgentsOnRedis(OpenAIAgents):
    """On a Redis server."""

    async def manager(self, directory: Path) -> SessionManager:
        return await on_redis(directory)


class OpenAIAgentsOnPostgres(OpenAIAgents):
    """On PostgreSQL."""

    async def manager(self, directory: Path) -> SessionManager:
        return await on_postgres(directory)
