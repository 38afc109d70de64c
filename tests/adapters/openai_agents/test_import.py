"""Stores that the Agents SDK wrote, imported: the adapter reads them as the SDK does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from agents.extensions.memory import AdvancedSQLiteSession, SQLAlchemySession
from agents.memory import Session

from agent_cores.session import SessionManager
from agent_cores.session.adapters.openai_agents import OpenAIAgentsSession
from agent_cores.session.errors import (
    ConfigurationError,
    StorageUnavailableError,
    StoreFormatError,
)
from agent_cores.session.frameworks import databases
from agent_cores.session.frameworks.writing import ImportTally
from tests.adapters import importing
from tests.adapters.conftest import url_of
from tests.adapters.importing import files
from tests.adapters.openai_agents.test_openai_agents_session import ODD_ITEMS, user

NAMES = ("chat", "with/slash", "", "x" * 300)


async def imported(target: SessionManager, source: str | Path, **options: Any) -> ImportTally:  # noqa: ANN401
    return await importing.imported(target, "openai-agents", source, user="ann", **options)


def ours(target: SessionManager, name: str) -> OpenAIAgentsSession:
    return OpenAIAgentsSession(name, target, user_id="ann")


@pytest.mark.parametrize(
    ("target", "is_open"),
    [("sqlite", True), ("valkey", False), ("postgres", False)],
    indirect=["target"],
)
async def test_the_items_of_an_sqlite_session(
    target: SessionManager, tmp_path: Path, is_open: bool
) -> None:
    source = tmp_path / "source" / "agents.db"
    source.parent.mkdir()
    theirs = [SQLiteSession(name, source) for name in NAMES]
    for session in theirs:
        await session.add_items(ODD_ITEMS)
    await theirs[0].add_items([user(f"{number}") for number in range(2_500)])
    items = [await session.get_items() for session in theirs]
    if not is_open:
        for session in theirs:
            session.close()
    before = files(source.parent)
    told: list[tuple[int, int | None]] = []
    tally = await imported(target, source, progress=lambda *done: told.append(done))
    assert (tally.sessions, tally.messages, tally.is_complete) == (
        4,
        4 * len(ODD_ITEMS) + 2_500,
        True,
    )
    assert told[-1] == (4, 4)
    assert files(source.parent) == before
    assert [await ours(target, name).get_items() for name in NAMES] == items
    await ours(target, "chat").add_items([user("later")])
    assert (await imported(target, source, replace=True)).present == 4
    assert (await ours(target, "chat").get_items())[-2:] == [user("2499"), user("later")]


async def test_times_are_kept_and_damage_is_reported(
    target: SessionManager, tmp_path: Path
) -> None:
    source = tmp_path / "agents.db"
    async_session = AdvancedSQLiteSession(session_id="chat", db_path=source, create_tables=True)
    await async_session.add_items([user("1"), user("2"), user("3"), user("4")])
    async_session.close()
    with closing(sqlite3.connect(source)) as database, database:
        database.execute("UPDATE agent_messages SET created_at = '2024-02-03 04:05:0' || id")
        database.execute("UPDATE agent_messages SET message_data = '{\"a' WHERE id = 2")
        database.execute(
            "UPDATE agent_messages SET message_data = CAST(x'ff' AS TEXT) WHERE id = 3"
        )
        row = "INSERT INTO agent_messages SELECT 9, CAST(x'ff' AS TEXT), '{}', created_at"
        database.execute(f"{row} FROM agent_messages WHERE id = 1")
    tally = await imported(target, source)
    assert (tally.sessions, tally.is_complete, tally.left_out.count) == (2, False, 2)
    assert tally.left_out.names[0] == "session chat: item 2: is not valid JSON"
    stored = await target.get_session("chat", "ann")
    assert [str(message.created_at) for message in stored.messages or ()] == [
        "2024-02-03 04:05:01+00:00",
        "2024-02-03 04:05:04+00:00",
    ]
    assert str(stored.metadata.last_active_at) == "2024-02-03 04:05:04+00:00"
    assert {message.author_id for message in stored.messages or ()} == {"ann"}
    with closing(sqlite3.connect(source)) as database, database:
        database.execute("DELETE FROM agent_messages WHERE id > 1")
    assert (await imported(target, source)).different.names == ["default/chat"]
    assert (await imported(target, source, replace=True)).sessions == 1
    assert await ours(target, "chat").get_items() == [user("1")]


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_the_items_of_an_sqlalchemy_session(store: str, tmp_path: Path) -> None:
    url = url_of(store, tmp_path).partition("?")[0]
    driver = {"sqlite": "sqlite+aiosqlite", "postgres": "postgresql+asyncpg"}[store]
    source = f"{driver}://{url.partition('://')[2]}"
    theirs: Session = SQLAlchemySession.from_url("chat", url=source, create_tables=True)
    await theirs.add_items(ODD_ITEMS)
    if store == "postgres":  # of two that wrote at a time, the one that began first
        early = "UPDATE agent_messages SET created_at = '2024-01-01' WHERE id = 2"
        async with theirs.engine.begin() as connection:
            await connection.exec_driver_sql(early)
    async with SessionManager(f"sqlite:///{tmp_path / 'target.db'}") as target:
        assert (await imported(target, source)).sessions == 1
        assert await ours(target, "chat").get_items() == await theirs.get_items()
    await theirs.engine.dispose()


async def test_what_is_no_such_store_is_refused(
    target: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("no database, " * 99)
    sqlite3.connect(tmp_path / "empty").close()
    for name, error in (
        ("text", StoreFormatError),
        ("empty", StoreFormatError),
        ("no", ConfigurationError),
    ):
        with pytest.raises(error):
            await imported(target, tmp_path / name)
    monkeypatch.setattr(databases, "PATIENCE", 0.01)
    with closing(sqlite3.connect(tmp_path / "empty")) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageUnavailableError):
            await imported(target, tmp_path / "empty")
