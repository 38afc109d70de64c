"""``agent-sessions keys``: whatever keys are called, and wherever the output goes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent_cores.session.cli.main import main
from agent_cores.session.models.times import utc_now
from agent_cores.session.service.auth.api_keys import ApiKey, hashed, split_key
from tests.service.processes import SECONDS, command, environment, run

Ran = tuple[int, str, str]
Run = Callable[..., Ran]


@pytest.fixture
def keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run ``agent-sessions keys`` in this process; give its exit status and what it printed."""
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run_here(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["agent-sessions", "keys", *arguments])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run_here


def is_one_line(text: str) -> bool:
    return text.startswith("agent-sessions: ") and text.count("\n") == 1 and text.endswith("\n")


@pytest.mark.parametrize("name", ["[/x]", "[red]", "[link=http://x]", "名字", "a " * 100, "-"])
def test_a_key_is_listed_by_the_name_it_was_given(keys: Run, name: str) -> None:
    status, key, _ = keys("create", "--", name)
    assert status == 0
    status, listed, _ = keys("list")
    assert status == 0
    assert name.rstrip() in listed
    parts = split_key(key.strip())
    assert parts is not None
    assert parts[0] in listed, "the id is whole: revoking needs it"


def test_the_width_of_the_terminal_cuts_nothing(keys: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    _, key, _ = keys("create", "billing backend of the shop", "--user-prefix", "shop:" * 10)
    _, listed, _ = keys("list")
    head, line = listed.splitlines()
    assert line.startswith(key.split("_")[1] + "  billing backend of the shop  default  ")
    assert "shop:" * 10 + "*" in line
    assert line.index("default") == head.index("NAMESPACE")
    assert keys("revoke", line.split()[0])[0] == 0


@pytest.mark.parametrize("name", ["\x1b[2Jgone", "two\nlines", "\x9b31m", "\udcff", "", "x" * 256])
def test_a_name_that_is_no_line_of_text_is_refused(keys: Run, name: str) -> None:
    status, printed, errors = keys("create", "--", name)
    assert (status, printed) == (2, "")
    assert is_one_line(errors), errors
    assert "\x1b" not in errors
    assert keys("list")[1].count("\n") == 1


def test_nothing_that_a_file_holds_acts_on_the_terminal(
    keys: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"
    key = ApiKey(
        id="k1",
        name="\x1b]0;owned\x07\u202eevil\nk2  fake",
        namespace="default",
        secret_hash=hashed("secret"),
        rights=("read",),
        user_id="a\u200bnn",
        created_at=utc_now(),
    )
    path.write_bytes(msgspec.json.encode({"keys": [key]}))
    monkeypatch.setenv("SESSION_SERVICE_KEYS_FILE", str(path))
    status, listed, _ = keys("list")
    assert (status, listed.count("\n")) == (0, 2)
    assert "\\x1b]0;owned\\x07\\u202eevil\\nk2  fake" in listed
    assert listed.isascii()
    status, text, _ = keys("list", "--json")
    assert text.isascii()
    assert text.strip().isprintable()
    assert json.loads(text)[0]["name"] == key.name


def test_each_command_speaks_json(keys: Run) -> None:
    status, text, _ = keys("create", "名字 \U0001f600", "--expires-in-days", "1", "--json")
    made = json.loads(text)
    assert status == 0
    parts = split_key(made.pop("key"))
    assert parts is not None
    assert made["id"] == parts[0]
    assert (made["name"], made["rights"]) == ("名字 \U0001f600", ["read", "write", "act-as"])
    status, text, _ = keys("list", "--json")
    assert json.loads(text) == [made]
    assert "secret" not in text
    status, text, errors = keys("revoke", made["id"], "--json")
    assert (status, json.loads(text)) == (0, {"id": made["id"], "revoked": True})
    assert f"(key {made['id']}) in -: revoke_key" in errors
    assert is_audit_line(errors)
    assert json.loads(keys("list", "--json")[1]) == []


@pytest.mark.parametrize(
    "key_id", ["\udcff", "é", "[/x]", "a_b", "ask_", "ask_\udcff_x", "", "a b"]
)
def test_an_id_that_no_key_has_is_told_in_a_line(keys: Run, key_id: str) -> None:
    status, printed, errors = keys("revoke", "--", key_id)
    assert (status, printed) == (3, "")
    assert "there is no such key" in errors
    assert is_one_line(errors), errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "x", "--expires-in-days", "[/x]"),
        ("create", "x", "--namespace", "\udcff"),
        ("create", "x", "--user", "\udcff"),
        ("create", "x", "--group", "\x1b[2J"),
        ("create", "x", "--storage", "redis://\udcff?timeout=0.5"),
        ("create", "x", "--storage", "sqlite:////dev/null/x.db"),
        ("create",),
        ("nothing",),
        ("revoke", "a", "[/b]"),
        ("list", "--[/x]"),
    ],
    ids=ascii,
)
def test_every_error_is_one_line(keys: Run, arguments: tuple[str, ...]) -> None:
    status, printed, errors = keys(*arguments)
    assert status in {2, 6}
    assert printed == ""
    assert is_one_line(errors), errors
    assert "\x1b" not in errors


def test_a_reader_that_goes_is_no_error_to_tell_of(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    fill(path)
    script = f"{' '.join(command('keys', 'list'))} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment(tmp_path, SESSION_SERVICE_KEYS_FILE=str(path)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    head, status = done.stdout.splitlines()
    assert head.startswith("ID ")
    assert (status, done.stderr) == ("1", "")


def is_audit_line(text: str) -> bool:
    return text.startswith("user '") and text.count("\n") == 1


def fill(path: Path) -> None:
    """Write more keys than a pipe holds lines of."""
    key = ApiKey(
        id="k",
        name="x" * 200,
        namespace="default",
        secret_hash=hashed("secret"),
        rights=("read", "act-as"),
        created_at=utc_now(),
    )
    many = [msgspec.structs.replace(key, id=f"k{number}") for number in range(1_000)]
    path.write_bytes(msgspec.json.encode({"keys": many}))


def test_a_full_disk_is_told_in_a_line_and_leaves_no_key_that_nobody_saw(tmp_path: Path) -> None:
    for arguments in (("create", "x"), ("list",)):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command("keys", *arguments),
                env=environment(tmp_path),
                cwd=tmp_path,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        assert done.returncode == 1
        line = done.stderr.splitlines()[-1]
        assert line == "agent-sessions: the output cannot be written: No space left on device"
        assert "Traceback" not in done.stderr
    assert json.loads(run(tmp_path, "keys", "list", "--json").stdout) == []
