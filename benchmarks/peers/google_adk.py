"""The session services of google-adk: in memory, and on SQLite, PostgreSQL and MariaDB.

As its documentation shows them: `create_session(app_name=…, user_id=…)`, then
`append_event(session, Event(…))`; reads by
`get_session(config=GetSessionConfig(num_recent_events=…))`. The `Session` object is kept and
passed on, as the runner does, which saves a read before every append. A caller passes an event,
which has its own id and time, so creating it is part of an append; `AdkMemoryEventsReady` shows the
append without it.
"""

from __future__ import annotations

import abc
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

from google.adk.events import Event  # type: ignore[import-not-found, unused-ignore]
from google.adk.sessions import (  # type: ignore[import-not-found, unused-ignore]
    BaseSessionService,
    DatabaseSessionService,
    InMemorySessionService,
    Session,
)
from google.adk.sessions.base_session_service import (  # type: ignore[import-not-found, unused-ignore]
    GetSessionConfig,
)
from google.genai import types  # type: ignore[import-not-found, unused-ignore]
from sqlalchemy import event as engine_event  # type: ignore[import-not-found, unused-ignore]

from benchmarks.peers import on_mysql, on_postgres
from benchmarks.store import Store

APP = "benchmark"
EVENTS_READY = 50_000


class AdkStore(Store[Session], abc.ABC):
    """What the services share: their whole interface."""

    packages: ClassVar[tuple[str, ...]] = ("google-adk",)
    _service: BaseSessionService

    async def create(self, user_id: str, count: int) -> list[Session]:
        service = self._service_to_fill()
        sessions = [
            await service.create_session(app_name=APP, user_id=user_id) for _ in range(count)
        ]
        await self._filled(service)
        return sessions

    async def append(self, session: Session, text: str) -> None:
        await self._service.append_event(session, _event(text))

    async def fill(self, session: Session, count: int, text: str) -> None:
        service = self._service_to_fill()
        for _ in range(count):
            await service.append_event(session, _event(text))
        await self._filled(service)

    async def read_last(self, session: Session, limit: int) -> int:
        found = await self._service.get_session(
            app_name=APP,
            user_id=session.user_id,
            session_id=session.id,
            config=GetSessionConfig(num_recent_events=limit),
        )
        return len(found.events)

    async def list_newest(self, user_id: str, limit: int) -> int:
        """List all, oldest first, as it has no limit: the last ones are the newest."""
        found = await self._service.list_sessions(app_name=APP, user_id=user_id)
        return len(found.sessions[-limit:])

    def _service_to_fill(self) -> BaseSessionService:
        return self._service

    async def _filled(self, service: BaseSessionService) -> None:
        """Close a service that was only used to fill the store."""


class AdkMemory(AdkStore):
    """In the process's memory."""

    async def open(self, directory: Path) -> None:
        self._service = InMemorySessionService()

    async def close(self) -> None:
        self._service = InMemorySessionService()


class AdkMemoryEventsReady(AdkMemory):
    """The same, handed events that were made before the clock started."""

    async def open(self, directory: Path) -> None:
        await super().open(directory)
        model = _event("x" * 200)
        self._ready = [model.model_copy(update={"id": uuid4().hex}) for _ in range(EVENTS_READY)]

    async def append(self, session: Session, text: str) -> None:
        event = self._ready.pop() if self._ready else _event(text)
        await self._service.append_event(session, event)


class AdkSqlite(AdkStore):
    """On a SQLite file through SQLAlchemy and aiosqlite, on the engine that the service makes.

    Filling is not timed, and uses a second service that does not wait for the disk.
    """

    packages = ("google-adk", "SQLAlchemy", "aiosqlite")

    async def open(self, directory: Path) -> None:
        self._url = f"sqlite+aiosqlite:///{directory / 'adk.db'}"
        self._service = DatabaseSessionService(self._url)
        await self._service.list_sessions(app_name=APP)  # its first call checks for the tables

    async def close(self) -> None:
        await self._service.close()

    def _service_to_fill(self) -> BaseSessionService:
        service = DatabaseSessionService(self._url)
        engine_event.listen(service.db_engine.sync_engine, "connect", _do_not_wait_for_the_disk)
        return service

    async def _filled(self, service: BaseSessionService) -> None:
        await service.close()


class AdkPostgres(AdkStore):
    """On PostgreSQL through SQLAlchemy and asyncpg, on the engine that the service makes.

    Filling is not timed, and uses a second service that does not wait for the disk.
    """

    packages = ("google-adk", "SQLAlchemy", "asyncpg")

    async def open(self, directory: Path) -> None:
        self._url = await on_postgres.new_database(directory)
        self._service = DatabaseSessionService(self._url)
        await self._service.list_sessions(app_name=APP)  # its first call checks for the tables

    async def close(self) -> None:
        await self._service.close()

    def _service_to_fill(self) -> BaseSessionService:
        not_waiting = {"server_settings": {"synchronous_commit": "off"}}
        return DatabaseSessionService(self._url, connect_args=not_waiting)

    async def _filled(self, service: BaseSessionService) -> None:
        await service.close()


class AdkMysql(AdkStore):
    """On MariaDB through SQLAlchemy and asyncmy, on the engine that the service creates."""

    packages = ("google-adk", "SQLAlchemy", "asyncmy")

    async def open(self, directory: Path) -> None:
        self._service = DatabaseSessionService(await on_mysql.new_database(directory))
        await self._service.list_sessions(app_name=APP)  # its first call checks for the tables

    async def close(self) -> None:
        await self._service.close()


def _event(text: str) -> Event:
    content = types.Content(role="user", parts=[types.Part(text=text)])
    return Event(author="user", invocation_id="benchmark", content=content)


def _do_not_wait_for_the_disk(connection: object, record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA synchronous = OFF")
    cursor.close()
