"""Sessions of Google's ADK: ``SqliteSessionService``, and ``DatabaseSessionService`` since 1.22.

Sessions, events and state are as ``ADKSessionService`` stores them. Databases of older releases
hold pickled Python objects, which are not read: ``adk migrate session`` converts them.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from agent_cores.session.adapters.ids import id_of, user_id_of
from agent_cores.session.adapters.layouts.google_adk import (
    APP_OWNER,
    MARK,
    app_state_id,
    app_tag,
    entries_of,
    names_of,
    role_of,
    session_id_of,
    user_state_id,
)
from agent_cores.session.errors import StoreFormatError
from agent_cores.session.frameworks.databases import (
    Database,
    Needed,
    Row,
    is_sqlite,
    open_database,
    walk,
)
from agent_cores.session.frameworks.found import FoundMessage, FoundSession, Given, LeftOut
from agent_cores.session.frameworks.keys import rows_without
from agent_cores.session.frameworks.values import DamagedError, object_of, time_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_OWN_ID = ("app_name", "user_id", "session_id")
_APP, _USER, _SESSION = ("app_name",), ("app_name", "user_id"), ("app_name", "user_id", "id")
_EVENT = Needed((*_OWN_ID, "id"), ("timestamp",))


@asynccontextmanager
async def open_reader(given: Given) -> AsyncIterator[ADKReader]:
    """Open a store."""
    async with open_database(given.source) as database:
        columns = (await database.columns()).get("events", set())
        if "actions" in columns:
            problem = "the source holds pickled events; convert it first, with: adk migrate session"
            raise StoreFormatError(problem)
        if not columns >= {*_OWN_ID, "event_data", "timestamp"}:
            raise StoreFormatError("the source has no table of ADK's events")
        yield ADKReader(database, "rowid" if is_sqlite(given.source) else "id")


class ADKReader:
    """Reads shared state, then sessions with their events by time; ``tie`` orders equal times."""

    def __init__(self, database: Database, tie: str) -> None:
        self._database = database
        self._tie = tie

    async def total(self) -> int:
        """Return how many sessions ADK has."""
        [(count,)] = await self._database.rows("SELECT COUNT(*) FROM sessions")
        return int(count)

    async def sessions(self) -> AsyncIterator[FoundSession | LeftOut]:
        """Yield the sessions, each of its user, and those that keep shared state."""
        async for left_out in rows_without(self._database, "events", _EVENT):
            yield left_out
        async for row in self._rows("app_states", _APP, ["state", "update_time"]):
            found = row if isinstance(row, LeftOut) else _app_state(*row)
            if found is not None:
                yield found
        async for row in self._rows("user_states", _USER, ["state", "update_time"]):
            found = row if isinstance(row, LeftOut) else _user_state(*row)
            if found is not None:
                yield found
        columns = ["state", "create_time", "update_time"]
        async for row in self._rows("sessions", _SESSION, columns):
            yield row if isinstance(row, LeftOut) else self._session(row)

    async def _rows(
        self, table: str, key: tuple[str, ...], columns: list[str]
    ) -> AsyncIterator[Row | LeftOut]:
        """Yield the rows of a table, and what is left out of it."""
        async for left_out in rows_without(self._database, table, Needed(key)):
            yield left_out
        async for row in walk(self._database, table, key, columns, needed=Needed(key)):
            yield row

    def _session(self, row: tuple[Any, ...]) -> FoundSession | LeftOut:
        app_name, user_id, name, state, created_at, updated_at = row
        try:
            context = entries_of(object_of(state))
        except DamagedError as error:
            return LeftOut(f"session {name} of {user_id} in {app_name}", f"its state {error}")
        return FoundSession(
            session_id=session_id_of(app_name, user_id, name),
            owner_id=user_id_of(user_id),
            messages=partial(self._events, (app_name, user_id, name)),
            created_at=time_of(created_at),
            last_active_at=time_of(updated_at),
            tags=(app_tag(app_name),),
            attributes=names_of(app_name, user_id, name),
            context=context,
        )

    async def _events(self, of: tuple[str, str, str]) -> AsyncIterator[FoundMessage | LeftOut]:
        rows = walk(
            self._database,
            "events",
            ["timestamp", self._tie],
            ["id", "invocation_id", "event_data"],
            where=dict(zip(_OWN_ID, of, strict=True)),
            needed=_EVENT,
        )
        async for time, _, name, invocation_id, data in rows:
            try:
                event = object_of(data)
            except DamagedError as error:
                yield LeftOut(f"event {name}", str(error))
                continue
            at = time_of(event.get("timestamp")) or time_of(time)
            event = {**event, "id": name, "invocation_id": invocation_id}
            if "timestamp" not in event and at is not None:
                event["timestamp"] = at.timestamp()
            author = event.get("author")
            role = role_of(author if isinstance(author, str) else None)
            yield FoundMessage(id=id_of(name), role=role, content=event, created_at=at)


def _app_state(app_name: str, state: object, time: object) -> FoundSession | LeftOut | None:
    return _shared(f"state of app {app_name}", app_state_id(app_name), APP_OWNER, state, time)


def _user_state(
    app_name: str, user_id: str, state: object, time: object
) -> FoundSession | LeftOut | None:
    where, name = f"state of {user_id} in {app_name}", user_state_id(app_name, user_id)
    return _shared(where, name, user_id_of(user_id), state, time)


def _shared(
    where: str, session_id: str, owner: str, state: object, time: object
) -> FoundSession | LeftOut | None:
    """Return the session that keeps what an app or a user shares, if they share anything."""
    try:
        context = entries_of(object_of(state))
    except DamagedError as error:
        return LeftOut(where, str(error))
    if not context:
        return None
    return FoundSession(
        session_id=session_id,
        owner_id=owner,
        messages=_mark,
        created_at=time_of(time),
        context=context,
    )


async def _mark() -> AsyncIterator[FoundMessage | LeftOut]:
    yield FoundMessage(**MARK)
