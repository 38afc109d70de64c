"""`SQLiteSession` of openai-agents on a file: one object per session, all on the same path.

As its documentation shows it: `SQLiteSession(session_id, "conversations.db")`, then `add_items` and
`get_items(limit=…)`. It sets WAL itself and leaves `synchronous` at SQLite's default, FULL.
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from agents import SQLiteSession  # type: ignore[import-not-found, unused-ignore]

from benchmarks.store import Store

MOST_IN_A_CALL = 1_000


class OpenAIAgentsSqlite(Store[SQLiteSession]):
    """It has no users: a session is only its id."""

    packages = ("openai-agents",)

    async def open(self, directory: Path) -> None:
        self._path = directory / "conversations.db"
        self._sessions: list[SQLiteSession] = []

    async def close(self) -> None:
        for session in self._sessions:
            session.close()

    async def create(self, user_id: str, count: int) -> list[SQLiteSession]:
        sessions = [SQLiteSession(uuid4().hex, self._path) for _ in range(count)]
        self._sessions.extend(sessions)
        return sessions

    async def append(self, session: SQLiteSession, text: str) -> None:
        await session.add_items([{"role": "user", "content": text}])

    async def fill(self, session: SQLiteSession, count: int, text: str) -> None:
        for start in range(0, count, MOST_IN_A_CALL):
            size = min(MOST_IN_A_CALL, count - start)
            await session.add_items([{"role": "user", "content": text} for _ in range(size)])

    async def read_last(self, session: SQLiteSession, limit: int) -> int:
        return len(await session.get_items(limit=limit))
