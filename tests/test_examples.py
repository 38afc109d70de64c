"""Each example runs as it stands, and does what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from agent_cores.session import StorageFactory
from agent_cores.session.cli import demo as command_line
from agent_cores.session.errors import AccessDeniedError
from agent_cores.session.examples import custom_provider, demo
from agent_cores.session.examples.fastapi_app import create_app
from agent_cores.session.testing import Store
from agent_cores.session.testing.provider.seven import SevenMethodCases


def run(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an example on a machine that has nothing configured."""
    bare = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, "-m", f"agent_cores.session.examples.{name}"],
        capture_output=True,
        check=False,
        cwd=folder,
        env=bare,
        text=True,
        timeout=120,
    )


def test_the_quick_start_runs_with_no_configuration(tmp_path: Path) -> None:
    for _ in range(2):
        ended = run("main", tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "你好，这是一条测试消息" in ended.stdout
        assert "seq=1" in ended.stdout
    assert [path.suffix for path in tmp_path.rglob("*.db")] == [".db"]


def test_the_demo_tells_the_whole_story_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ended = run("demo", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    for line in (
        "finds messages [1, 2]",
        "3 user: Friday.",
        "bob writes        AccessDeniedError",
        "eve asks for it   SessionNotFoundError: session not found",
        "hook              session.expired",
        "SessionExpiredError",
        "swept             1",
        "Everything worked as described.",
    ):
        assert line in ended.stdout
    assert not list(tmp_path.rglob("*.db"))


def test_the_command_line_runs_the_demo_and_nothing_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tempfile.py").write_text("raise SystemExit('not ours')")
    command_line.demo()
    assert "Everything worked as described." in capfd.readouterr().out
    command_line.demo(as_json=True)
    [line] = capfd.readouterr().out.splitlines()
    shown = json.loads(line)
    assert (shown["worked"], shown["lines"][-1]) == (True, "Everything worked as described.")


def test_the_demo_fails_aloud_if_its_second_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSION_TIMEOUT", "never")
    with pytest.raises(SystemExit) as ended:
        command_line.demo(as_json=True)
    assert ended.value.code == 1
    assert not json.loads(capfd.readouterr().out)["worked"]


def test_the_demo_fails_aloud_if_something_is_not_as_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.show("swept 0", as_expected=False)
    assert isinstance(ended.value.code, str)  # a message: the exit code is 1
    assert "swept 0" in capsys.readouterr().out


async def test_the_demo_fails_aloud_if_a_stranger_is_let_in() -> None:
    async def let_in() -> str:
        return "a secret"

    with pytest.raises(SystemExit, match="should have been refused"):
        await demo.refused(let_in(), AccessDeniedError)


async def test_the_custom_provider_is_registered_and_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StorageFactory, "_registered", {})
    await custom_provider.main()
    shown = capsys.readouterr().out
    assert "content='Hello'" in shown
    assert "{'sessions': 1, 'due': 0}" in shown


class TestCustomStorageProvider(SevenMethodCases):
    @pytest.fixture
    def store(self) -> Store:
        return Store(custom_provider.CustomStorageProvider)


def test_the_fastapi_application_keeps_conversations_apart() -> None:
    with TestClient(create_app("memory://")) as client:
        ann, eve = {"X-User-Id": "ann"}, {"X-User-Id": "eve"}
        created = client.post("/conversations", headers=ann)
        assert created.status_code == 201
        messages = f"/conversations/{created.json()['id']}/messages"
        replied = client.post(messages, json={"content": "你好 Rome"}, headers=ann)
        assert (replied.status_code, replied.text) == (200, "You said: 你好 Rome")
        page = client.get(messages, headers=ann).json()
        said = [(message["role"], message["content"]) for message in page["data"]]
        assert said == [("user", "你好 Rome"), ("assistant", "You said: 你好 Rome")]
        stranger = client.get(messages, headers=eve)
        assert (stranger.status_code, stranger.json()["code"]) == (404, "session_not_found")
        assert client.get(messages).status_code == 422
        nobody = client.post("/conversations", headers={"X-User-Id": "group:staff"})
        assert (nobody.status_code, nobody.json()["code"]) == (422, "invalid_input")
