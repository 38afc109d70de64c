"""What the audit log says of commands: who ran them, on what, and how it ended."""

from __future__ import annotations

import asyncio
import getpass
import logging
from pathlib import Path

import pytest

from agent_cores.session import SyncSessionManager
from agent_cores.session.cli import moving, upkeep
from agent_cores.session.cli.backup import backup
from agent_cores.session.cli.copying import copy
from agent_cores.session.cli.opening import Line, Where, recorded
from agent_cores.session.errors import SessionNotFoundError
from agent_cores.session.verbs.upkeep import UpkeepVerbs

URL = "sqlite:///sessions.db"


@pytest.fixture
def told(nothing_set: Path, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Return the log, in a folder with a store of two sessions of ann."""
    with SyncSessionManager(URL) as manager:
        for name in ("one", "two"):
            manager.create_session("ann", session_id=name)
    caplog.set_level(logging.INFO, "agent_cores.session.audit")
    caplog.clear()
    return caplog


def lines(log: pytest.LogCaptureFixture, *fields: str) -> list[tuple[object, ...]]:
    """Return these fields of each line."""
    found = [one for one in log.records if one.name == "agent_cores.session.audit"]
    return [tuple(getattr(one, name) for name in fields) for one in found]


def test_a_copy_and_a_backup_are_recorded(told: pytest.LogCaptureFixture) -> None:
    copy(source=URL, target="sqlite:///other.db")
    backup("backup.db", storage=URL)
    user = getpass.getuser()
    assert lines(told, "verb", "user", "key", "outcome") == [
        ("copy_sessions", user, f"os-user:{user}", "done"),
        ("back_up", user, f"os-user:{user}", "done"),
    ]


def test_an_export_without_one_of_its_sessions_names_which(
    told: pytest.LogCaptureFixture,
) -> None:
    where = Where(storage=URL, user="ann")
    with pytest.raises(SessionNotFoundError, match="1 of these sessions is not stored"):
        moving.export("one", "none", "two", where=where, output="all.jsonl")
    assert lines(told, "session_id", "outcome") == [
        ("one", "done"),
        ("none", "session_not_found"),
        ("two", "done"),
    ]


def test_an_operator_s_export_as_markdown_has_one_line_of_its_own(
    told: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    where = Where(storage=URL, as_operator="ops")
    moving.export("one", where=where, output="one.md", format="markdown")
    verbs = [verb for [verb] in lines(told, "verb")]
    assert verbs.count("export_sessions") == 1
    printed = capsys.readouterr().err
    assert (printed.count("export_sessions"), printed.count("get_session,")) == (1, 1)


@pytest.mark.parametrize("operator", [None, "ops"])
def test_an_erasure_names_the_user_and_whether_something_is_left(
    told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, operator: str | None
) -> None:
    where = Where(storage=URL, as_operator=operator)
    upkeep.erase("ann", where=where, yes=True)

    async def partly(*_: object) -> bool:
        return False

    monkeypatch.setattr(UpkeepVerbs, "_erase_all", partly)
    with pytest.raises(SystemExit):
        upkeep.erase("ann", where=where, yes=True)
    assert lines(told, "verb", "erased_user", "outcome") == [
        ("erase_user", "ann", "done"),
        ("erase_user", "ann", "incomplete"),
    ]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, asyncio.CancelledError])
def test_what_was_interrupted_is_recorded_as_cancelled(
    told: pytest.LogCaptureFixture, interrupt: type[BaseException]
) -> None:
    with pytest.raises(interrupt), recorded(Where(storage=URL), Line("copy_sessions")):
        raise interrupt
    assert lines(told, "outcome") == [("cancelled",)]
