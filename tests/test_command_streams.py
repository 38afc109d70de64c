"""What commands do if their streams are closed, full or of another encoding, and on Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agent_cores.session import SyncSessionManager
from agent_cores.session.cli.status import INTERRUPTED, Status
from agent_cores.session.files import claim
from agent_cores.session.moving.importing import check_export
from tests.servers.redis import empty_store, shared_valkey
from tests.service.processes import SECONDS, command

OPERATOR = ("--as-operator", "ops")
SHELL = f"{sys.executable} -m agent_cores.session.cli"


@pytest.fixture
def folder(nothing_set: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a store with a session of ann, which is configured."""
    monkeypatch.setenv("SESSION_STORAGE_URL", "sqlite:///sessions.db")
    with SyncSessionManager("sqlite:///sessions.db") as manager:
        manager.create_session("ann", session_id="talk")
        manager.add_message("talk", "ann", "user", "Hello")
    return nothing_set


def in_shell(
    line: str, text: bytes = b"", *, local: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a line of the shell, in which ``agent-sessions`` is the command."""
    line = line.replace("agent-sessions", SHELL)
    return subprocess.run(
        ["/bin/sh", "-c", line],
        input=text,
        capture_output=True,
        check=False,
        timeout=SECONDS,
        env={**os.environ, **(local or {})},
    )


@pytest.mark.parametrize("line", ["list --user ann", "export --as-operator ops", "--help"])
def test_an_output_that_is_closed_is_an_error_of_one_line(folder: Path, line: str) -> None:
    done = in_shell(f"agent-sessions {line} >&-")
    assert done.returncode == Status.FAILED
    assert done.stderr == b"agent-sessions: the output cannot be written: it is closed\n"


def test_an_input_that_is_closed_is_empty_and_closed_errors_are_not_missed(folder: Path) -> None:
    done = in_shell("agent-sessions import --as-operator ops <&-")
    assert done.returncode == Status.WRONG_USE
    assert b"is not an export of agent-sessions" in done.stderr
    assert in_shell("agent-sessions show none --user ann 2>&-").returncode == Status.NOT_FOUND


@pytest.mark.parametrize(
    "line",
    [
        "list --user ann",
        "export --as-operator ops",
        "export talk --format markdown --user ann",
        "stats",
        "doctor",
        "migrate",
        "plan --sessions 1 --messages 1 --message-bytes 1 --requests 1",
        "completion bash",
        "--version",
    ],
)
def test_an_output_that_is_full_is_an_error_of_one_line(folder: Path, line: str) -> None:
    done = in_shell(f"agent-sessions {line} >/dev/full")
    assert done.returncode == Status.FAILED
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("agent-sessions: ")
    assert last.endswith("No space left on device")
    assert "Errno" not in last


@pytest.mark.parametrize("line", ["list --user ann", "export --as-operator ops", "migrate"])
def test_a_reader_that_has_gone_ends_a_command_quietly(folder: Path, line: str) -> None:
    done = in_shell(f"{{ sleep 0.1; agent-sessions {line}; }} | true")
    assert b"Traceback" not in done.stderr
    assert b"agent-sessions: " not in done.stderr


def test_a_file_that_is_missing_is_named(folder: Path) -> None:
    done = in_shell("agent-sessions import none.jsonl --as-operator ops")
    assert done.stderr.splitlines()[-1] == b"agent-sessions: none.jsonl: No such file or directory"


@pytest.mark.parametrize(
    "line",
    [
        "import {url} --as-operator ops",
        "import --from strands {url} --user ann --as-operator ops",
        "export --as-operator ops --output {url}",
        "export talk --format markdown --as-operator ops --output {url}",
        "backup {url}",
    ],
)
def test_a_url_where_a_path_belongs_is_refused_without_its_password(
    folder: Path, line: str
) -> None:
    url = "postgresql://ann:hunter2@db/app"
    done = in_shell(f"agent-sessions {line.format(url=url)}")
    assert done.returncode == Status.WRONG_USE
    assert b"is a path on this machine, not a URL" in done.stderr
    assert b"hunter2" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_message_from_standard_input_is_utf_8_in_every_locale(
    folder: Path, encoding: str
) -> None:
    local = {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    sent = in_shell("agent-sessions send talk --user ann --json", "é😀".encode(), local=local)
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["content"] == "é😀"
    assert in_shell("agent-sessions show talk --user ann", local=local).returncode == 0
    damaged = in_shell("agent-sessions send talk --user ann", b"\xff", local=local)
    assert damaged.returncode == Status.WRONG_USE
    assert b"is not UTF-8" in damaged.stderr


def test_no_more_of_an_endless_standard_input_is_read_than_a_message_may_have(
    folder: Path,
) -> None:
    sent = in_shell("ulimit -v 2000000; agent-sessions send talk --user ann < /dev/zero")
    assert sent.returncode == Status.WRONG_USE
    assert b"has more than 64 MiB" in sent.stderr


def test_an_id_that_looks_like_an_option_comes_after_two_dashes(folder: Path) -> None:
    assert in_shell("agent-sessions send --create --user ann -- -talk Hi").returncode == 0
    done = in_shell("agent-sessions show --user ann -- -talk")
    assert done.stdout.startswith(b"-talk  active\n")


def test_what_is_only_read_is_neither_made_nor_altered(folder: Path) -> None:
    (folder / "empty.db").touch()
    for name in ("none", "empty"):
        url = f"sqlite:///{name}.db"
        for line in (
            f"export --storage {url} --as-operator ops",
            f"copy --from {url} --to memory:",
        ):
            done = in_shell(f"agent-sessions {line}".replace("memory:", "sqlite:///new.db"))
            assert done.returncode == Status.FORMAT
            assert b"agent-sessions migrate" in done.stderr
    assert not (folder / "none.db").exists()
    assert (folder / "empty.db").read_bytes() == b""


def test_two_exports_to_one_file_do_not_mix_and_a_killed_one_is_replaced(folder: Path) -> None:
    unfinished = folder / "all.jsonl.unfinished"
    unfinished.write_bytes(b"left behind")
    line = "agent-sessions export --as-operator ops --output all.jsonl"
    with unfinished.open("ab") as other:
        assert claim(other)
        refused = in_shell(line)
        assert (refused.returncode, unfinished.read_bytes()) == (2, b"left behind")
        assert b"another process is writing all.jsonl" in refused.stderr
    assert in_shell(line).returncode == 0
    assert not unfinished.exists()
    with (folder / "all.jsonl").open("rb") as file:
        assert check_export(file).sessions == 1


@pytest.mark.parametrize(("options", "keys"), [("", 1), ("--namespace default", 0)])
def test_keys_of_the_service_move_unless_a_namespace_is_named(
    folder: Path, options: str, keys: int
) -> None:
    for line in (
        "keys create first",
        "export --as-operator ops --output all.jsonl",
        f"import all.jsonl --storage sqlite:///other.db --as-operator ops {options}",
    ):
        assert in_shell(f"agent-sessions {line}").returncode == 0
    listed = in_shell("agent-sessions keys list --storage sqlite:///other.db --json")
    assert len(json.loads(listed.stdout)) == keys


# ── Ctrl-C ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def heeds_interrupts() -> Iterator[None]:
    """Let commands be interrupted also where these tests run in the background, without Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(*arguments: str, after: float) -> subprocess.CompletedProcess[bytes]:
    """Run a command; send SIGINT to it and all its children, as a terminal does."""
    with subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        time.sleep(after)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


@pytest.mark.usefixtures("heeds_interrupts")
@pytest.mark.parametrize("after", [0.15, 0.3, 0.45])
def test_an_interrupt_at_the_start_prints_nothing(folder: Path, after: float) -> None:
    done = interrupted("bench", "--callers", "1", after=after)
    # The interpreter's own start, before any line of ours, is not ours to protect.
    is_ours = b"agent_cores" in done.stderr
    if is_ours or (b"site.py" not in done.stderr and done.returncode != -signal.SIGINT):
        assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, b"", b"")


@pytest.mark.usefixtures("heeds_interrupts")
def test_an_interrupted_copy_leaves_no_process_and_ends_right_when_run_again(
    nothing_set: Path,
) -> None:
    source, target = "sqlite:///sessions.db", empty_store(shared_valkey().url)
    with SyncSessionManager(source) as manager:
        for number in range(400):
            manager.create_session("ann", session_id=f"s{number}")
            manager.add_messages(f"s{number}", "ann", [{"role": "user", "content": "x"}] * 5)
    copying = ("copy", "--from", source, "--to", target, "--processes", "2", "--json")
    for after in (0.8, 1.2, 1.6):
        done = interrupted(*copying, after=after)
        if done.returncode == -signal.SIGINT:  # in the interpreter's own beginning or end
            assert not done.stdout or json.loads(done.stdout)["equal"]
        else:
            assert done.returncode in {INTERRUPTED, 0}
        assert all(b": copy_sessions, " in line for line in done.stderr.splitlines())
        assert len(done.stderr.splitlines()) <= 1
    assert not _copying(psutil.Process())
    again = in_shell("agent-sessions " + " ".join(f"'{word}'" for word in copying))
    found = json.loads(again.stdout)
    assert found["equal"]
    assert found["copied"]["sessions"] + found["copied"]["present"] == 400


def _copying(parent: psutil.Process) -> list[psutil.Process]:
    every = parent.children(recursive=True)
    return [one for one in every if "spawn_main" in " ".join(one.cmdline())]
