"""What the audit log says of commands: who ran them, on what, and how it ended."""

from __future__ import annotations

import asyncio
import errno
import getpass
import logging
import os
from pathlib import Path
from typing import Literal

import pytest

from agent_cores.session import SyncSessionManager
from agent_cores.session.cli import moving, upkeep
from agent_cores.session.cli.backup import backup
from agent_cores.session.cli.copying import copy
from agent_cores.session.cli.opening import Line, Where, recorded
from agent_cores.session.cli.output import OutputError
from agent_cores.session.errors import QuotaExceededError, SessionNotFoundError
from agent_cores.session.moving.export import ExportWriter
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


@pytest.mark.parametrize("format_", ["jsonl", "markdown"])
@pytest.mark.parametrize("acting", [{"user": "ann"}, {"as_operator": "ops"}])
def test_an_export_without_one_of_its_sessions_names_which(
    told: pytest.LogCaptureFixture,
    format_: Literal["jsonl", "markdown"],
    acting: dict[str, str],
) -> None:
    where = Where(storage=URL, **acting)
    with pytest.raises(SessionNotFoundError):
        moving.export("one", "none", "two", where=where, output="all", format=format_)
    exported = [
        (session_id, outcome)
        for verb, session_id, outcome in lines(told, "verb", "session_id", "outcome")
        if verb == "export_sessions"
    ]
    assert exported == [("one", "done"), ("none", "session_not_found"), ("two", "done")]
    written = Path("all").read_bytes()
    assert (b"one" in written, b"two" in written, b"none" in written) == (True, True, False)


@pytest.mark.parametrize("format_", ["jsonl", "markdown"])
def test_an_export_of_none_of_its_sessions_leaves_no_file(
    told: pytest.LogCaptureFixture, format_: Literal["jsonl", "markdown"]
) -> None:
    where = Where(storage=URL, user="ann")
    with pytest.raises(SessionNotFoundError):
        moving.export("none", where=where, output="all", format=format_)
    assert lines(told, "session_id", "outcome")[-1] == ("none", "session_not_found")
    assert not Path("all").exists()


@pytest.mark.usefixtures("told")
def test_markdown_has_the_sessions_that_are_there_and_names_the_other(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    where = Where(storage=URL, user="ann")
    with pytest.raises(SessionNotFoundError):
        moving.export("one", "none", "two", where=where, format="markdown")
    printed = capfdbinary.readouterr()
    assert printed.out.count(b"- session: ") == 2
    assert b"agent-sessions: none: session not found" in printed.err


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


@pytest.mark.parametrize("where", [{"user": "ann"}, {"as_operator": "ops"}])
def test_markdown_of_one_session_that_is_missing_is_one_error(
    told: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], where: dict[str, str]
) -> None:
    with pytest.raises(SessionNotFoundError):
        moving.export("none", where=Where(storage=URL, **where), format="markdown")
    assert "agent-sessions: " not in capsys.readouterr().err  # the command adds the one line
    assert ("export_sessions", "session_not_found") in lines(told, "verb", "outcome")


def test_an_export_to_a_full_disk_is_recorded_and_named_as_such(
    told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: ExportWriter, part: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ExportWriter, "part", full)
    where = Where(storage=URL, as_operator="ops")
    with pytest.raises(QuotaExceededError, match=r"all\.jsonl cannot be written: No space left"):
        moving.export(where=where, output="all.jsonl")
    with pytest.raises(OutputError, match="the output cannot be written: No space left"):
        moving.export(where=where)
    assert lines(told, "outcome") == [("quota_exceeded",), ("internal",)]
    assert list(Path.cwd().glob("all*")) == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, asyncio.CancelledError, BrokenPipeError])
def test_what_was_interrupted_is_recorded_as_cancelled(
    told: pytest.LogCaptureFixture, interrupt: type[BaseException]
) -> None:
    with pytest.raises(interrupt), recorded(Where(storage=URL), Line("copy_sessions")):
        raise interrupt
    assert lines(told, "outcome") == [("cancelled",)]
