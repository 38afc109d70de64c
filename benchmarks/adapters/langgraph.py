"""`SessionSaver` of ours, called as LangGraph's own saver is in `benchmarks.peers`."""

from __future__ import annotations

from pathlib import Path

from agent_cores.session.adapters.langgraph import SessionSaver
from benchmarks.adapters.places import on_sqlite
from benchmarks.peers.langgraph_sqlite import Checkpoints


class LangGraphOnSqlite(Checkpoints):
    """On one SQLite file."""

    packages = ("langgraph-checkpoint", "msgspec")

    async def open(self, directory: Path) -> None:
        self._manager = await on_sqlite(directory)
        await self._manager.initialize()
        self.saver = SessionSaver(self._manager, user_id="user")

    async def close(self) -> None:
        await self._manager.shutdown()
