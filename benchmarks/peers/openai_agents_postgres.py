"""`SQLAlchemySession` of openai-agents on PostgreSQL: one object per session, all on one engine.

As its documentation shows it: `SQLAlchemySession(session_id, engine=…)`, then `add_items` and
`get_items(limit=…)`, with `postgresql+asyncpg` and the engine's default pool. The first object
creates the tables, with `create_tables=True`; the others leave that out, as documented for
production, because each would check for the tables at its first call.
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from agents.extensions.memory import (  # type: ignore[import-not-found, unused-ignore]
    SQLAlchemySession,
)
from sqlalchemy.ext.asyncio import (  # type: ignore[import-not-found, unused-ignore]
    create_async_engine,
)

from benchmarks.peers.on_postgres import new_database
from benchmarks.store import Store

MOST_IN_A_CALL = 1_000


class OpenAIAgentsPostgres(Store[SQLAlchemySession]):
    """It has no users: a session is only its id."""

    packages = ("openai-agents", "SQLAlchemy", "asyncpg")

    async def open(self, directory: Path) -> None:
        self._engine = create_async_engine(await new_database(directory))
        await self._session(create_tables=True).get_items(limit=1)

    async def close(self) -> None:
        await self._engine.dispose()

    async def create(self, user_id: str, count: int) -> list[SQLAlchemySession]:
        """Create a session's row by a first append, which is not timed and is undone."""
        sessions = [self._session() for _ in range(count)]
        for session in sessions:
            await self.append(session, "first")
            await session.pop_item()
        return sessions

    async def append(self, session: SQLAlchemySession, text: str) -> None:
        await session.add_items([{"role": "user", "content": text}])

    async def fill(self, session: SQLAlchemySession, count: int, text: str) -> None:
        for start in range(0, count, MOST_IN_A_CALL):
            size = min(MOST_IN_A_CALL, count - start)
            await session.add_items([{"role": "user", "content": text} for _ in range(size)])

    async def read_last(self, session: SQLAlchemySession, limit: int) -> int:
        return len(await session.get_items(limit=limit))

    def _session(self, *, create_tables: bool = False) -> SQLAlchemySession:
        return SQLAlchemySession(uuid4().hex, engine=self._engine, create_tables=create_tables)
