"""Stores that ADK wrote, imported: the adapter reads them as ADK does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import BaseSessionService
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from agent_cores.session import SessionManager
from agent_cores.session.adapters.google_adk import ADKSessionService
from agent_cores.session.errors import StoreFormatError
from tests.adapters.conftest import url_of
from tests.adapters.google_adk.conftest import event
from tests.adapters.importing import files, imported
from tests.servers import mariadb

USERS = ("ann", "bob")
STATE = {"app:a": {"x": [1.5, None]}, "user:u": "ü", "own": {}, "": 0}


async def fill(service: BaseSessionService) -> None:
    """Make the same session of two users, with state and odd events.

    Two are of one instant where ADK keeps their order.
    """
    instant = 1_700_000_001.5
    later = instant if isinstance(service, SqliteSessionService) else instant + 0.000_001
    for user in USERS:
        session = await service.create_session(
            app_name="app", user_id=user, session_id="s", state=STATE
        )
        part = types.Part(inline_data=types.Blob(data=b"\x00\xff", mime_type="image/png"))
        blob = types.Content(role="model", parts=[part])
        await service.append_event(session, event("1 ☂", timestamp=1_700_000_000.123456))
        second = Event(author="agent", content=blob, invocation_id="i", timestamp=instant)
        await service.append_event(session, second)
        third = event(f"of {user}", delta={"app:last": user, "own": 2}, timestamp=later)
        await service.append_event(session, third)


async def read(service: BaseSessionService) -> list[Any]:
    """Return the sessions of all users, whole, without what only their service understands."""
    found = []
    for user in USERS:
        session = await service.get_session(app_name="app", user_id=user, session_id="s")
        assert session is not None
        found.append(session.model_dump())
    return found


async def source_of(kind: str, folder: Path) -> tuple[BaseSessionService, str]:
    if kind == "SqliteSessionService":
        return SqliteSessionService(str(folder / "adk.db")), str(folder / "adk.db")
    if kind == "sqlite":
        url = f"sqlite+aiosqlite:///{folder / 'adk.db'}"
    elif kind == "postgres":
        url = f"postgresql+asyncpg://{url_of(kind, folder).partition('://')[2].partition('?')[0]}"
    else:
        url = f"mysql+asyncmy://{mariadb.empty_store().partition('://')[2]}"
    return DatabaseSessionService(url), url


@pytest.mark.parametrize("kind", ["SqliteSessionService", "sqlite", "postgres", "mysql"])
async def test_sessions_events_and_state(target: SessionManager, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    theirs, source = await source_of(kind, folder)
    await fill(theirs)
    expected, before = await read(theirs), files(folder)
    tally = await imported(target, "google-adk", source)
    assert (tally.sessions, tally.messages, tally.left_out.names) == (5, 9, [])
    assert files(folder) == before
    ours = ADKSessionService(target)
    assert await read(ours) == expected
    listed = await ours.list_sessions(app_name="app", user_id="ann")
    assert [session.id for session in listed.sessions] == ["s"]
    session = await ours.get_session(app_name="app", user_id="ann", session_id="s")
    assert session is not None
    await ours.append_event(session, event("later", delta={"user:u": "new"}))
    assert (await imported(target, "google-adk", source, replace=True)).present == 5
    assert len((await read(ours))[0]["events"]) == 4
    if isinstance(theirs, DatabaseSessionService):
        await theirs.close()


async def test_damaged_rows_are_left_out(target: SessionManager, tmp_path: Path) -> None:
    source = tmp_path / "adk.db"
    await fill(SqliteSessionService(str(source)))
    with closing(sqlite3.connect(source)) as database, database:
        database.execute("UPDATE sessions SET state = '[1' WHERE user_id = 'bob'")
        database.execute("UPDATE events SET event_data = '7' WHERE invocation_id = 'i'")
        database.execute(
            """UPDATE events SET event_data = '{"author": 7}' WHERE timestamp < 17e8 + 1"""
        )
        database.execute("UPDATE user_states SET state = 'NaN' WHERE user_id = 'ann'")
    tally = await imported(target, "google-adk", source)
    assert (tally.sessions, tally.messages, tally.is_complete) == (3, 4, False)
    assert [name.partition(":")[0] for name in sorted(tally.left_out.names)] == [
        "session adk",
        "session s of bob in app",
        "state of ann in app",
    ]


async def test_pickled_events_are_refused(target: SessionManager, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.execute("CREATE TABLE events (id, app_name, user_id, session_id, actions)")
    with pytest.raises(StoreFormatError, match="adk migrate session"):
        await imported(target, "google-adk", tmp_path / "old.db")
