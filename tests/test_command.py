"""``agent-sessions`` and its version, with what it needs and without."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import agent_cores.session as package
from agent_cores.session import SessionManager, errors
from agent_cores.session.cli import commands
from agent_cores.session.cli.main import main
from agent_cores.session.cli.status import INTERRUPTED, Status, status_of
from agent_cores.session.cli.users import log_id


def run(*arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command as if a package were not installed."""
    program = f"""
import sys
if {without!r}:
    sys.modules[{without!r}] = None
from agent_cores.session.cli.main import main
sys.argv[1:] = {list(arguments)!r}
main()
"""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_package_and_the_command_tell_their_version() -> None:
    expected = version("agent-cores-session")
    assert package.__version__ == expected != "0.0.0"
    assert "__version__" in dir(package)
    shown = run("--version")
    assert (shown.returncode, shown.stdout.strip()) == (0, expected)


@pytest.mark.parametrize("missing", ["cyclopts", "rich", "uvicorn", "joserfc"])
def test_without_its_extra_the_command_says_in_one_line_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = {"issuer": "i", "audience": "a", "algorithms": ["HS256"], "namespaces": ["n"]}
    monkeypatch.setenv("SESSION_SERVICE_JWT_ISSUERS", json.dumps([{**issuer, "secret": "s" * 32}]))
    shown = run("serve", without=missing)
    assert shown.returncode == 9
    assert shown.stdout == ""
    assert shown.stderr == (
        f"agent-sessions: {missing} is not installed;"
        " run: pip install 'agent-cores-session[service]'\n"
    )


def test_every_command_that_ends_by_itself_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    app = commands.application()
    keys = {("keys", name) for name in ("create", "list", "revoke")}
    tried = keys | {(name,) for name in app if not name.startswith("-") and name != "keys"}
    assert len(tried) > len(keys)

    def help_on(name: tuple[str, ...]) -> str:
        with pytest.raises(SystemExit, match=r"\A0\Z"):
            commands.run(app, [*name, "--help"])
        return capsys.readouterr().out

    without = {name for name in tried if "--json" not in help_on(name)}
    assert without == {("serve",), ("export",), ("completion",)}  # export writes JSON lines


def test_the_log_s_id_of_a_user_is_printed_as_json(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSION_SERVICE_LOG_KEY", "k" * 32)
    log_id("ann")
    log_id("ann", as_json=True)
    text, line = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"user": text}


def test_a_message_names_packages_in_the_plural() -> None:
    assert "a and b are not installed" in str(errors.MissingDependencyError("a and b", "redis"))
    assert "a is not installed" in str(errors.MissingDependencyError("a", "redis"))


def test_with_it_the_help_names_the_commands() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for name in ("serve", "keys", "migrate"):
        assert name in shown.stdout


# ── the exit status ──────────────────────────────────────────────────────────────────────────────

PAGE = (Path(__file__).parent.parent / "docs" / "command-line.md").read_text(encoding="utf-8")
OTHERS = {"internal", "unsupported", "wrong_context", "storage_error"}
"""Codes of errors that no script could act on."""


def classes(kind: type[errors.SessionError]) -> Iterator[type[errors.SessionError]]:
    """Return a class of the library and those below it."""
    if kind.__module__ == errors.__name__:
        yield kind
    for one in kind.__subclasses__():
        yield from classes(one)


def test_the_documented_statuses_are_those_that_there_are() -> None:
    told = [int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)]
    assert told == [*Status, INTERRUPTED]


def test_every_error_that_a_script_could_act_on_has_a_status_of_its_own_kind() -> None:
    without = {kind.code for kind in classes(errors.SessionError) if _status(kind) == Status.FAILED}
    assert without == OTHERS


def _status(kind: type[errors.SessionError]) -> Status:
    return status_of(kind.__new__(kind))


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("show",), 2),
        (("--no-such-option",), 2),
        (("show", "talk"), 2),  # in whose name?
        (("show", "none", "--user", "ann"), 3),
        (("keys", "revoke", "0123456789abcdef"), 3),
        (("send", "talk", "Hi", "--user", "bob"), 4),
        (("send", "talk", "Other", "--message-id", "m1", "--user", "ann"), 5),
        (("stats", "--storage", "redis://127.0.0.1:9"), 6),
        (("stats", "--storage", "sqlite:///text.db"), 8),
        (("show", "talk", "--user", "ann"), 0),
    ],
)
def test_the_status_says_what_kind_of_error_it_was(
    arguments: tuple[str, ...], status: int, nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def prepare() -> None:
        async with SessionManager("sqlite:///sessions.db") as manager:
            await manager.create_session("ann", session_id="talk")
            await manager.add_message("talk", "ann", "user", "Hi", message_id="m1")
            await manager.share_session("talk", "ann", "bob", role="viewer")

    asyncio.run(prepare())
    (nothing_set / "text.db").write_text("no store " * 200)
    monkeypatch.setenv("SESSION_STORAGE_URL", "sqlite:///sessions.db")
    monkeypatch.setenv("SESSION_TIMEOUT", "0.5")
    monkeypatch.setattr(sys, "argv", ["agent-sessions", *arguments])
    assert ended_with() == status


def ended_with() -> object:
    """Run the command in this process; return its exit status."""
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_are_given_a_script_of_all_commands(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["agent-sessions", "completion", shell])
    assert ended_with() == 0
    printed = capsys.readouterr().out
    for name in ("serve", "doctor", "migrate", "storage"):
        assert name in printed


def test_bash_completes_commands_and_options() -> None:
    script = """
eval "$1"
COMP_WORDS=(agent-sessions doc); COMP_CWORD=1
_agent_sessions; echo "${COMPREPLY[@]}"
COMP_WORDS=(agent-sessions doctor --st); COMP_CWORD=2
_agent_sessions; echo "${COMPREPLY[@]}"
"""
    text = run("completion", "bash").stdout
    done = subprocess.run(
        ["bash", "-c", script, "bash", text], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["doctor", "--storage"]
