"""``export``, ``import`` and ``copy`` as an operator uses them."""

# ruff: noqa: SLF001 - tests look behind the command

from __future__ import annotations

import asyncio
import getpass
import io
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil
import pytest

from agent_cores.session import SessionManager, SessionSettings, SyncSessionManager
from agent_cores.session.cli import commands, copying, markdown
from agent_cores.session.cli.markdown import message_lines, write_markdown
from agent_cores.session.cli.opening import Opened, Where
from agent_cores.session.cli.output import progress_bar
from agent_cores.session.cli.status import Status
from agent_cores.session.models import Message
from agent_cores.session.moving.tally import Tally, merged
from agent_cores.session.moving.walking import Share
from agent_cores.session.storage.sql.server_provider import SqlProvider
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from tests.moving.sessions import NOW, everything, long_session
from tests.servers.redis import empty_store, shared_valkey
from tests.service.processes import SECONDS

OPERATOR = ("--as-operator", "ops")


class Ran(NamedTuple):
    """What a command wrote, and its exit status."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Run(Protocol):
    """Runs a command in a thread of its own, with ``text`` as its standard input."""

    async def __call__(self, *arguments: str, text: bytes = b"") -> Ran: ...


@pytest.fixture
def run(nothing_set: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command, in a folder of its own."""

    async def run(*arguments: str, text: bytes = b"") -> Ran:
        given, out, err = io.BytesIO(text), io.BytesIO(), io.BytesIO()
        streams = [io.TextIOWrapper(buffer) for buffer in (given, out, err)]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["agent-sessions", *arguments])
            for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
                patch.setattr(sys, name, stream)
            status = await asyncio.to_thread(_status)
        for stream in streams[1:]:
            stream.flush()
        return Ran(status, out.getvalue(), err.getvalue())

    return run


def _status() -> int:
    try:
        commands.run(commands.application_for(sys.argv[1:]), sys.argv[1:])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """Return a store with two sessions of ann and bob."""
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    async with SessionManager(url, settings=SessionSettings()) as manager:
        for user in ("ann", "bob"):
            await manager.create_session(user, session_id=f"of-{user}", title=f"{user}'s *talk*")
            await manager.add_message(f"of-{user}", user, "user", f"hello\n# {user}")
    return url


def lines(text: bytes) -> list[str]:
    return text.decode().splitlines()


async def same(one: str, other: str) -> bool:
    held = []
    for url in (one, other):
        store = SQLiteProvider.from_url(url)
        await store.initialize()
        held.append(await everything(store))
        await store.shutdown()
    return held[0] == held[1] != {}


async def test_a_store_goes_through_a_file_into_another(run: Run, url: str, tmp_path: Path) -> None:
    file, copied = tmp_path / "export.jsonl", f"sqlite:///{tmp_path / 'other.db'}"
    done = await run("export", "--storage", url, *OPERATOR, "--output", str(file))
    audited, said = lines(done.stderr)
    assert "in every namespace: export_sessions" in audited
    assert audited.startswith("operator 'ops' (key os-user:")
    assert said == "2 sessions with 2 messages are exported."
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not file.with_name("export.jsonl.unfinished").exists()
    arguments = ("import", str(file), "--storage", copied, *OPERATOR)
    assert lines((await run(*arguments)).stdout) == ["2 sessions with 2 messages are imported."]
    assert await same(url, copied)
    assert json.loads((await run(*arguments, "--json")).stdout)["present"] == 2
    again = await run("export", "--storage", url, *OPERATOR, "--output", str(file))
    assert (again.returncode, b"name a new file" in again.stderr) == (Status.WRONG_USE, True)


@pytest.mark.parametrize("format_", ["jsonl", "markdown"])
async def test_an_export_of_ones_own_sessions_is_in_the_audit_log_too(
    run: Run, url: str, format_: str
) -> None:
    arguments = ("export", "of-ann", "--storage", url, "--format", format_)
    done = await run(*arguments, "--user", "ann")
    assert done.returncode == 0
    by = f"os-user:{getpass.getuser()}"
    line = f"user 'ann' (key {by}) in default: export_sessions, session 'of-ann': done"
    assert lines(done.stderr)[0] == line
    refused = await run(*arguments, "--user", "eve")
    assert "export_sessions, session 'of-ann': session_not_found" in refused.stderr.decode()


async def test_a_damaged_file_is_imported_only_in_part_and_if_that_is_wanted(
    run: Run, url: str, tmp_path: Path
) -> None:
    exported = (await run("export", "--storage", url, *OPERATOR)).stdout
    file = tmp_path / "cut.jsonl"
    file.write_bytes(b"".join(exported.splitlines(keepends=True)[:2]))
    copied = f"sqlite:///{tmp_path / 'other.db'}"
    refused = await run("import", str(file), "--storage", copied, *OPERATOR)
    [line] = lines(refused.stderr)
    assert "is cut off after line 2; it is good up to line 2; whole sessions: 1" in line
    assert "Nothing was imported; --partial imports what is good" in line
    assert not (tmp_path / "other.db").exists()
    partial = await run("import", str(file), "--storage", copied, *OPERATOR, "--partial")
    assert partial.returncode == Status.WRONG_USE
    whole = await run("import", "--storage", copied, *OPERATOR, text=exported)
    said = "1 session with 1 message is imported; 1 was there already."
    assert lines(whole.stdout) == [said]
    assert await same(url, copied)


async def test_a_store_is_copied_and_compared(run: Run, url: str, tmp_path: Path) -> None:
    copied = f"sqlite:///{tmp_path / 'other.db'}"
    for part in ("1/2", "2/2"):
        done = await run("copy", "--from", url, "--to", copied, "--part", part, "--json")
        assert json.loads(done.stdout)["equal"]
    assert await same(url, copied)
    copied = f"sqlite:///{tmp_path / 'whole.db'}"
    first, second = lines((await run("copy", "--from", url, "--to", copied)).stdout)
    assert first == "2 sessions with 2 messages are copied."
    assert second.startswith("Both stores hold 2 sessions with 2 messages: sha256 ")
    assert await same(url, copied)
    async with SessionManager(copied, settings=SessionSettings()) as manager:
        await manager.add_message("of-ann", "ann", "user", "more")
    done = await run("copy", "--from", url, "--to", copied, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["equal"] is False
    assert "left unchanged: default/of-ann" in done.stderr.decode()
    assert b"--yes" in (await run("copy", "--from", url, "--to", copied, "--replace")).stderr
    assert (await run("copy", "--from", url, "--to", copied, "--replace", "--yes")).returncode == 0
    assert await same(url, copied)


async def test_processes_divide_a_copy_and_report_as_one(run: Run, url: str) -> None:
    copied = empty_store(shared_valkey().url)
    done = await run("copy", "--from", url, "--to", copied, "--processes", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["equal"]
    assert (found["copied"]["sessions"], found["copied"]["messages"]) == (2, 2)
    assert found["compared"]["sessions"] == 2


@pytest.mark.parametrize(("processes", "size"), [(1, 10), (16, 4), (64, 2)])
def test_the_processes_of_a_copy_share_what_a_server_allows(processes: int, size: int) -> None:
    job = copying._Job("postgres://here/a", "mysql://here/a", None, replace=False)
    source, target = copying._stores(job, Share(1, processes))
    assert isinstance(source, SqlProvider)
    assert isinstance(target, SqlProvider)
    assert (source.database.pool_size, target.database.pool_size) == (size, size)


def _ends(*_: object) -> None:
    os._exit(1)


def test_a_process_that_is_killed_is_said_in_one_line(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with SyncSessionManager("sqlite:///a.db"):
        pass
    monkeypatch.setattr(copying, "_in_process", _ends)
    with pytest.raises(SystemExit):
        copying.copy(source="sqlite:///a.db", target="sqlite:///b.db", processes=2)
    audited, said = capsys.readouterr().err.splitlines()
    assert "was killed" in said
    assert audited.endswith("copy_sessions, session -: internal")


def test_no_process_of_a_copy_outlives_the_first(tmp_path: Path) -> None:
    program = tmp_path / "first.py"
    program.write_text(
        """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from agent_cores.session.cli.copying import _share_counts

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), _share_counts, (None,)) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(600)
"""
    )
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        other = psutil.Process(int(first.stdout.readline()))
        first.kill()
    gone, _ = psutil.wait_procs([other], SECONDS)
    assert gone == [other]


async def test_an_error_in_another_process_comes_back_as_status_and_text(
    url: str, tmp_path: Path
) -> None:
    job = copying._Job(url, f"sqlite:///{tmp_path}", None, replace=False)
    failure = await asyncio.to_thread(copying._in_process, job, Share(1, 2))
    assert isinstance(failure, copying._Failure)
    assert failure.status is Status.WRONG_USE
    assert "a folder" in failure.text


def test_what_is_counted_in_parts_is_added_up() -> None:
    one, other = Tally(sessions=1, messages=2, ended=1), Tally(sessions=3, present=4)
    for number in range(70):
        one.different.add("default", f"a{number}")
        other.different.add("default", f"b{number}")
    total = merged([one, other])
    assert (total.sessions, total.messages, total.present, total.ended) == (4, 2, 4, 1)
    assert (total.different.count, len(total.different.names)) == (140, 100)


async def test_what_is_missing_is_said_in_one_line(run: Run, url: str, tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(b"hello\n")
    for arguments, expected in (
        (("export", "--storage", url), "--user ID or --as-operator NAME"),
        (
            ("export", "of-ann", "--user", "bob", "--storage", url),
            "1 of these sessions is not stored, or not theirs",
        ),
        (("export", *OPERATOR, "--server", "http://127.0.0.1:9"), "name its --storage instead"),
        (("export", "--format", "markdown", "--user", "ann"), "name the sessions"),
        (("import", "e", "--storage", url, "--user", "ann"), "only an operator can import"),
        (("import", "e", "--storage", url, *OPERATOR), "is not an export of agent-sessions"),
        (("import", "none.jsonl", "--storage", url, *OPERATOR), "none.jsonl: No such file"),
        (("copy", "--from", url, "--to", url), "are the same store"),
        (("copy", "--from", url, "--to", "sqlite:///o.db", "--namespace", ""), "namespace"),
        (("copy", "--from", url, "--to", "memory://"), "keeps nothing after its process ends"),
        (("copy", "--from", url, "--to", "sqlite:///o.db", "--processes", "0"), "processes"),
        (("copy", "--from", url, "--to", "sqlite:///o.db", "--part", "3/2"), "is like 1/2 or 2/2"),
    ):
        done = await run(*arguments)
        missing = "not stored" in expected
        assert done.returncode == (Status.NOT_FOUND if missing else Status.WRONG_USE)
        assert expected in lines(done.stderr)[-1]


async def test_a_framework_s_store_is_imported(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, url = tmp_path / "agents.db", f"sqlite:///{tmp_path / 'sessions.db'}"
    with closing(sqlite3.connect(source)) as database, database:
        database.execute("CREATE TABLE agent_messages (id, session_id, message_data, created_at)")
        for number, text in enumerate(('{"role": "user", "content": "hello"}', "\x1b[2J"), 1):
            row = number, "talk", text, "2024-02-03 04:05:06"
            database.execute("INSERT INTO agent_messages VALUES (?, ?, ?, ?)", row)
    where = ("--storage", url, "--namespace", "team", *OPERATOR)
    arguments = ("import", "--from", "openai-agents", str(source), *where)
    done = await run(*arguments, "--user", "ann")
    assert (done.returncode, lines(done.stdout)) == (
        1,
        ["1 session with 1 message is imported."],
    )
    audited, left_out = lines(done.stderr)
    assert "in team: import_sessions, session -: incomplete" in audited
    assert left_out == "agent-sessions: 1 left out: session talk: item 2: is not valid JSON"
    async with SessionManager(url, settings=SessionSettings(), namespace="team") as manager:
        [message] = await manager.get_session_messages("talk", "ann")
    assert (message.role, message.content) == ("user", {"role": "user", "content": "hello"})
    again = json.loads((await run(*arguments, "--user", "ann", "--json")).stdout)
    assert (again["present"], again["sessions"], again["left_out"]["count"]) == (1, 0, 1)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    for changed, status, expected in (
        ({}, Status.WRONG_USE, "this store names no user: give --user ID"),
        ({str(source): "nowhere"}, Status.WRONG_USE, "nowhere is not a file"),
        ({str(source): "mongodb://db"}, Status.WRONG_USE, "mongodb:// is not read"),
        ({"openai-agents": "google-adk"}, Status.FORMAT, "has no table of ADK's events"),
        ({str(source): "postgresql://db"}, Status.MISSING_PACKAGE, "agent-cores-session[postgres]"),
        ({"openai-agents": "other"}, Status.WRONG_USE, "openai-agents"),
    ):
        done = await run(*(changed.get(each, each) for each in arguments))
        assert (done.returncode, expected in lines(done.stderr)[-1]) == (status, True)


async def test_sessions_are_written_as_markdown(
    nothing_set: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markdown, "_PAGE", 2)
    file = io.BytesIO()
    async with SessionManager(url, settings=SessionSettings()) as manager:
        for number in range(4):
            await manager.add_message("of-ann", "ann", "assistant", f"answer {number}")
        opened = Opened(manager, Where(user="ann"))
        await write_markdown(opened, "of-ann", file)
    written = file.getvalue().decode()
    assert written.startswith("# ann's \\*talk\\*\n")
    assert [line for line in written.splitlines() if line.startswith(("##", ">"))] == [
        "## #1 user (ann)",
        "> hello",
        "> # ann",
        *(line for n in range(4) for line in (f"## #{n + 2} assistant (ann)", f"> answer {n}")),
    ]


def test_what_is_no_text_is_written_as_fenced_json() -> None:
    content = [{"type": "text", "text": "Look:"}, {"type": "call", "arguments": "```\x1b[2J"}]
    message = Message(seq=1, id="m", role="to_ol", content=content, author_id="a|b", created_at=NOW)
    written = list(message_lines(message))
    assert written[0] == "## #1 to\\_ol (a\\|b)"
    assert "> Look:" in written
    assert "````json" in written
    assert not any("\x1b" in line for line in written)


async def test_a_long_session_is_exported_from_a_file(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'long.db'}"
    store = SQLiteProvider.from_url(url)
    await store.initialize()
    await store.apply(long_session("talk", 2_500, NOW))
    await store.shutdown()
    done = await run("export", "--storage", url, "--user", "ann")
    assert [json.loads(line)["record"]["kind"] for line in done.stdout.splitlines()] == [
        "opening",
        "session",
        "messages",
        "messages",
        "closing",
    ]


async def test_a_backup_says_what_it_holds(run: Run, url: str, tmp_path: Path) -> None:
    done = await run("backup", str(tmp_path / "backup.db"), "--storage", url)
    assert done.returncode == 0
    [audited] = lines(done.stderr)
    assert audited.endswith("in every namespace: back_up, session -: done")
    [said] = lines(done.stdout)
    assert re.fullmatch(r"2 sessions with 2 messages: \d+ bytes, checked\.", said)
    assert await same(url, f"sqlite:///{tmp_path / 'backup.db'}")
    other = await run("backup", str(tmp_path / "b"), "--storage", "postgresql://ann:secret@db/app")
    audited, line = lines(other.stderr)
    assert audited.endswith("back_up, session -: unsupported")
    assert other.returncode == 1
    assert "its own command: pg_dump --format=custom --file=FILE URL" in line
    assert "secret" not in line


def test_a_bar_shows_how_far_the_work_is_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    terminal, file = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar("copy", 4) as progress:
        assert progress is not None
        progress(3)
    assert "3/4" in terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", file)
    with progress_bar("copy", 4) as progress:
        assert progress is None
    assert file.getvalue() == ""
