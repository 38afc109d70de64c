"""`ADKSessionService` of ours, called as ADK calls its own: see `benchmarks.peers.google_adk`."""

from __future__ import annotations

import abc
from pathlib import Path

from agent_cores.session import SessionManager
from agent_cores.session.adapters.google_adk import ADKSessionService
from benchmarks.adapters.places import on_postgres, on_sqlite
from benchmarks.peers.google_adk import AdkStore


class Adk(AdkStore, abc.ABC):
    """One service on one manager."""

    packages = ("google-adk", "msgspec")

    @abc.abstractmethod
    async def manager(self, directory: Path) -> SessionManager:
        """The manager on an empty store."""

    async def open(self, directory: Path) -> None:
        self._manager = await self.manager(directory)
        await self._manager.initialize()
        self._service = ADKSessionService(self._manager)

    async def close(self) -> None:
        await self._manager.shutdown()


class AdkOnSqlite(Adk):
    """On one SQLite file."""

    async def manager(self, directory: Path) -> SessionManager:
        return await on_sqlite(directory)


class AdkOnPostgres(Adk):
    """On PostgreSQL."""

    async def manager(self, directory: Path) -> SessionManager:
        return await on_postgres(directory)
