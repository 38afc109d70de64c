"""`SessionSaver` of ours, called as LangGraph's own savers are in `benchmarks.peers`."""

from __future__ import annotations

import abc
from pathlib import Path

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver
from benchmarks.adapters.places import on_postgres, on_sqlite
from benchmarks.peers.langgraph_sqlite import Checkpoints


class LangGraph(Checkpoints, abc.ABC):
    """One saver on one manager."""

    packages = ("langgraph-checkpoint", "msgspec")

    @abc.abstractmethod
    async def manager(self, directory: Path) -> SessionManager:
        """The manager on an empty store."""

    async def open(self, directory: Path) -> None:
        self._manager = await self.manager(directory)
        await self._manager.initialize()
        self.saver = SessionSaver(self._manager, user_id="user")

    async def close(self) -> None:
        await self._manager.shutdown()


class LangGraphOnSqlite(LangGraph):
    """On one SQLite file."""

    async def manager(self, directory: Path) -> SessionManager:
        return await on_sqlite(directory)


class LangGraphOnPostgres(LangGraph):
    """On PostgreSQL."""

    async def manager(self, directory: Path) -> SessionManager:
        return await on_postgres(directory)
