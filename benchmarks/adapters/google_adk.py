"""`ADKSessionService` of ours, called as ADK calls its own: see `benchmarks.peers.google_adk`."""

from __future__ import annotations

import abc
import asyncio
from pathlib import Path

from google.adk.sessions import Session  # type: ignore[import-not-found, unused-ignore]

from agent_cores.session import SessionManager
from agent_cores.session.adapters.google_adk import ADKSessionService
from benchmarks.adapters.places import on_postgres, on_sqlite
from benchmarks.peers.google_adk import APP, AdkStore

_TOGETHER = 100


class Adk(AdkStore, abc.ABC):
    """One service on one manager."""

    packages = ("google-adk", "msgspec")

    @abc.abstractmethod
    async def manager(self, directory: Path) -> SessionManager:
        """The manager on an empty store."""

    async def create(self, user_id: str, count: int) -> list[Session]:
        """Create many at once, which is not timed."""
        sessions: list[Session] = []
        for first in range(0, count, _TOGETHER):
            number = min(_TOGETHER, count - first)
            sessions += await asyncio.gather(
                *(
                    self._service.create_session(app_name=APP, user_id=user_id)
                    for _ in range(number)
                )
            )
        return sessions

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
