"""The commands that look at sessions and look after them, on a storage and through the service."""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

import pytest

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.models.times import EPOCH
from agent_cores.session.testing.samples import creation, new_header

Ran = subprocess.CompletedProcess[str]
Run = Callable[..., Ran]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'sessions.db'}"


@pytest.fixture
def run(nothing_set: Path, url: str) -> Run:
    """Return a function that runs a command on the store, as ``user`` if one is given."""

    def run(
        *arguments: str, user: str = "", text: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        options = [] if "--server" in arguments else ["--storage", url]
        options += ["--user", user] if user else []
        return subprocess.run(
            [sys.executable, "-m", "agent_cores.session.cli", *arguments, *options],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, **more},
        )

    return run


def shown(done: Ran) -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def done_and_audited(done: Ran) -> list[str]:
    [audited] = done.stderr.splitlines()
    assert (done.returncode, audited.endswith(": done")) == (0, True)
    return done.stdout.splitlines()


def refused(done: Ran) -> str:
    """Return the one line of a command that failed."""
    assert done.returncode > 0
    [line] = done.stderr.splitlines()
    return line


def test_a_message_is_sent_listed_and_shown(run: Run) -> None:
    [sent] = shown(
        run("send", "talk", "Hello\nthere", "--create", "--message-id", "m1", user="ann")
    )
    assert sent == "#1 m1"
    assert shown(run("send", "talk", "--role", "assistant", text="Hi.", user="ann"))
    head, row = shown(run("list", user="ann"))
    assert head.split() == ["ID", "OWNER", "STATUS", "MESSAGES", "LAST", "ACTIVE", "TITLE"]
    assert row.split()[:4] == ["talk", "ann", "active", "2"]
    lines = shown(run("show", "talk", user="ann"))
    assert lines[0] == "talk  active"
    assert "messages: 2" in lines
    assert [line for line in lines if line.startswith("  ")] == ["  Hello", "  there", "  Hi."]
    assert "#2 assistant (ann)" in " ".join(lines)


def test_sending_again_with_an_id_stores_nothing(run: Run) -> None:
    for _ in range(2):
        assert shown(run("send", "t", "Hi", "--create", "--message-id", "m", user="ann")) == [
            "#1 m"
        ]
    record = json.loads(shown(run("show", "t", "--json", user="ann"))[0])
    assert [message["content"] for message in record["messages"]] == ["Hi"]


async def test_a_long_session_is_shown_as_far_as_asked(run: Run, url: str) -> None:
    async with SessionManager(url, settings=SessionSettings()) as manager:
        await manager.create_session("ann", session_id="talk")
        for first in (0, 1000):
            batch = [{"role": "user", "content": str(first + n)} for n in range(1000)]
            await manager.add_messages("talk", "ann", batch)
    record = json.loads(shown(run("show", "talk", "--limit", "1500", "--json", user="ann"))[0])
    assert [m["content"] for m in record["messages"]] == [str(n) for n in range(500, 2000)]


async def test_tool_calls_are_folded_unless_shown_whole(run: Run, url: str) -> None:
    call = {"type": "function_call", "name": "weather", "arguments": "x" * 300}
    text = [{"type": "output_text", "text": "Sunny."}]
    async with SessionManager(url, settings=SessionSettings()) as manager:
        await manager.create_session("ann", session_id="talk")
        await manager.add_message("talk", "ann", "assistant", call)
        await manager.add_message("talk", "ann", "assistant", text)
    lines = shown(run("show", "talk", user="ann"))
    [folded] = [line for line in lines if "function_call" in line]
    assert folded.startswith("  [function_call weather] ")
    assert len(folded) < 200
    assert "  Sunny." in lines
    assert "x" * 300 in run("show", "talk", "--full", user="ann").stdout


def test_stored_text_cannot_control_the_terminal(run: Run) -> None:
    run("send", "talk", "a\x1b[2Jb", "--create", user="ann")
    assert "\x1b" not in run("show", "talk", user="ann").stdout


def test_who_shares_or_erases_is_in_the_audit_log(run: Run) -> None:
    run("send", "talk", "Hi", "--create", user="ann")
    user = getpass.getuser()
    for arguments, line in (
        (
            ("share", "talk", "bob", "--user", "ann"),
            f"user 'ann' (key os-user:{user}) in default: share_session",
        ),
        (("share", "talk", "bob", "--revoke", "--user", "ann"), "in default: revoke_access"),
        (("erase", "ann", "--yes"), "in default: erase_user 'ann', session -"),
    ):
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        [audited] = done.stderr.splitlines()
        assert line in audited
        assert audited.endswith(": done")


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "talk", "Hi"),
        ("show", "talk"),
        ("list",),
        ("share", "talk", "bob"),
        ("share", "talk", "bob", "--revoke"),
        ("export", "talk", "--format", "markdown"),
        ("export", "talk"),
        ("erase", "ann", "--yes"),
    ],
)
def test_each_line_of_an_operator_names_the_user_of_the_machine(
    run: Run, arguments: tuple[str, ...]
) -> None:
    run("send", "talk", "Hi", "--create", user="ann")
    done = run(*arguments, "--as-operator", "ops")
    assert done.returncode == 0, done.stderr
    audited = [line for line in done.stderr.splitlines() if line.startswith("operator")]
    assert audited, done.stderr
    for line in audited:
        assert line.startswith(f"operator 'ops' (key os-user:{getpass.getuser()}) in ")


def test_an_operator_sees_the_sessions_of_all(run: Run) -> None:
    for user in ("ann", "bob"):
        run("send", f"of-{user}", "Hi", "--create", user=user)
    operator = ("--as-operator", "ops")
    listed = json.loads(run("list", *operator, "--json").stdout)
    assert {session["id"] for session in listed["data"]} == {"of-ann", "of-bob"}
    listed = json.loads(run("list", *operator, "--owner", "ann", "--json").stdout)
    assert [session["id"] for session in listed["data"]] == ["of-ann"]
    done = run("show", "of-bob", *operator)
    assert done.stdout.startswith("of-bob  active\n")
    [audited] = done.stderr.splitlines()
    assert "get_session" in audited
    assert "of-bob" in audited
    assert "session not found" in refused(run("show", "of-bob", user="ann"))


def test_a_list_goes_on_with_its_cursor(run: Run) -> None:
    for n in range(3):
        run("send", f"s{n}", "Hi", "--create", user="ann")
    first = run("list", "--limit", "2", user="ann")
    cursor = first.stderr.strip().removeprefix("There are more: --cursor ")
    second = shown(run("list", "--cursor", cursor, user="ann"))
    assert [line.split()[0] for line in first.stdout.splitlines()[1:]] == ["s2", "s1"]
    assert [line.split()[0] for line in second[1:]] == ["s0"]


def test_a_role_is_given_and_taken_away(run: Run) -> None:
    run("send", "talk", "Hi", "--create", user="ann")
    assert done_and_audited(run("share", "talk", "bob", user="ann")) == ["bob is viewer."]
    assert shown(run("show", "talk", user="bob"))[0] == "talk  active"
    [listed] = shown(run("list", "--shared", user="bob"))[1:]
    assert listed.startswith("talk")
    revoked = run("share", "talk", "bob", "--revoke", user="ann")
    assert done_and_audited(revoked) == ["The role is taken away."]
    assert "session not found" in refused(run("show", "talk", user="bob"))
    assert "days" in refused(run("share", "talk", "bob", "--days", "0", user="ann"))


def test_a_namespace_is_counted_and_cleaned(run: Run) -> None:
    run("send", "talk", "Hi", "--create", user="ann")
    assert shown(run("stats")) == ["sessions: 1", "due: 0"]
    assert json.loads(shown(run("stats", "--json", "--namespace", "other"))[0])["sessions"] == 0
    assert shown(run("clean")) == ["0 expired sessions are removed."]


async def test_cleaning_counts_what_it_removes_of_other_namespaces_too(run: Run, url: str) -> None:
    async def end(**sessions: int) -> None:
        """Store so many sessions in each namespace that have expired."""
        async with SessionManager(url, settings=SessionSettings(cleanup_interval=0)) as manager:
            for namespace, number in sessions.items():
                for _ in range(number):
                    header = new_header(token_hex(4), at=EPOCH, namespace=namespace, ttl_seconds=1)
                    await manager.runtime.storage.apply(creation(header))

    await end(default=1, other=2)
    assert shown(run("clean")) == ["1 expired session is removed, and 2 of other namespaces."]
    assert shown(run("stats", "--namespace", "other"))[0] == "sessions: 0"
    await end(default=2)
    assert shown(run("clean")) == ["2 expired sessions are removed."]
    await end(default=1, other=1)
    [line] = shown(run("clean", "--namespace", "none", "--json"))
    assert json.loads(line) == {"removed": 0, "removed_elsewhere": 2}


def test_a_user_is_erased_only_after_a_yes(run: Run) -> None:
    run("send", "talk", "Hi", "--create", user="ann")
    assert "--yes" in refused(run("erase", "ann"))
    assert shown(run("stats"))[0] == "sessions: 1"
    [line] = done_and_audited(run("erase", "ann", "--yes"))
    assert line == "1 session with 1 message and 0 grants are removed."
    assert shown(run("stats"))[0] == "sessions: 0"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("show", "talk"), "--user ID or --as-operator NAME"),
        (("list", "--owner", "bob", "--user", "ann"), "--owner is for operators"),
        (("list", "--shared", "--as-operator", "ops"), "--shared needs --user"),
        (("stats", "--server", "http://127.0.0.1:9"), "set AGENT_SESSIONS_KEY"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    run: Run, arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in refused(run(*arguments))


def test_a_store_that_forgets_is_refused(run: Run) -> None:
    command = [sys.executable, "-m", "agent_cores.session.cli", "stats", "--storage", "memory"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "this store keeps nothing after its process ends" in refused(done)


def test_the_commands_work_through_a_service(run: Run, url: str) -> None:
    key = shown_key(run)
    serve = [sys.executable, "-m", "agent_cores.session.cli", "serve", "--port", "0"]
    with subprocess.Popen(
        [*serve, "--storage", url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as service:
        assert service.stdout is not None
        try:
            found = (re.search(r"http://[0-9.]+:[1-9][0-9]*", line) for line in service.stdout)
            address = next(match[0] for match in found if match)
            server = ("--server", address)
            more = {"AGENT_SESSIONS_KEY": key}
            sent = run("send", "talk", "Hi", "--create", *server, user="ann", **more)
            assert sent.returncode == 0, sent.stderr
            assert shown(run("show", "talk", *server, user="ann", **more))[0] == "talk  active"
            listed = run("list", "--as-operator", "ops", *server, **more)
            assert shown(listed)[1].split()[:2] == ["talk", "ann"]
            bench = ("bench", *server, "--seconds", "0.05", "--callers", "2", "--json")
            measured = json.loads(shown(run(*bench, **more))[0])
            assert (measured["store"], measured["library_micros"]) == ("service", None)
            assert len(measured["rates"]) == 3
            assert json.loads(shown(run("stats", "--json"))[0])["sessions"] == 1
            more = {"AGENT_SESSIONS_KEY": shown_key(run, "read", "act-as")}
            denied = run(*bench, **more)
            assert denied.returncode == 4
            assert "write" in refused(denied)
        finally:
            service.terminate()


def shown_key(run: Run, *rights: str) -> str:
    wanted = rights or ("read", "write", "act-as", "operator")
    options = [part for right in wanted for part in ("--right", right)]
    return run("keys", "create", "test", *options).stdout.strip()
