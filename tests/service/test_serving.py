"""``agent-sessions`` as a process: what it prints, refuses, and does when told to stop."""

# ruff: noqa: S104, S310 - addresses of servers that the tests start

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SECONDS = 30


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "agent_cores.session.cli", *arguments]


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SESSION_", "REDIS_"))}
    return {
        **kept,
        "SESSION_STORAGE_URL": f"sqlite:///{folder / 'sessions.db'}",
        "COLUMNS": "200",
        **more,
    }


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(folder, **more),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@contextmanager
def serving(
    folder: Path, *arguments: str, first_run: bool = True, **more: str
) -> Iterator[tuple[Any, str, str]]:
    """Serve; give the process, the address and what was printed."""
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        command("serve", "--port", "0", *arguments),
        env=environment(folder, **more),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        assert process.stdout is not None
        printed = process.stdout.readline()
        found = re.search(r"http://\S+?(?=;)", printed)
        assert found is not None, (printed, (folder / "log").read_text())
        while first_run and "To keep one" not in printed:
            printed += process.stdout.readline()
        yield process, found[0], printed
    finally:
        process.terminate()
        process.wait(SECONDS)
        log.close()
        if process.stdout is not None:
            process.stdout.close()


def get(url: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    asked = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_first_run_prints_a_curl_that_works(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, address, printed):
        export = re.search(r"^export AGENT_SESSIONS_KEY=(ask_\S+)$", printed, re.MULTILINE)
        curl = re.search(r"^curl .*?\}'$", printed, re.MULTILINE | re.DOTALL)
        assert export is not None
        assert curl is not None
        done = subprocess.run(
            ["bash", "-c", curl[0]],
            env={**os.environ, "AGENT_SESSIONS_KEY": export[1]},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        session = json.loads(done.stdout)
        assert session["title"] == "Hello"
        headers = {"Authorization": f"Bearer {export[1]}", "X-User-Id": "ann"}
        assert get(f"{address}/v1/sessions", headers)[1]["data"][0]["id"] == session["id"]
        rebound = get(f"{address}/v1/sessions", {**headers, "Host": "evil.example"})
        assert rebound[0] == 400
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) in {0, -signal.SIGTERM}
    log = (tmp_path / "log").read_text().splitlines()
    lines = [json.loads(line) for line in log]
    asked = [line for line in lines if line.get("route") == "POST /v1/sessions"]
    assert (asked[0]["status"], asked[0]["level"]) == (201, "info")
    assert asked[0]["request_id"]
    assert "Hello" not in "".join(log)
    assert session["id"] not in "".join(log)


def test_keys_are_made_listed_used_and_revoked(tmp_path: Path) -> None:
    made = run(tmp_path, "keys", "create", "backend", "--expires-in-days", "1")
    key = made.stdout.strip()
    assert re.fullmatch(r"ask_[0-9a-f]{16}_\S{43}", key), made
    reader = run(tmp_path, "keys", "create", "reader", "--user", "ann", "--right", "read")
    assert reader.returncode == 0
    with serving(tmp_path, first_run=False) as (_, address, printed):
        assert "AGENT_SESSIONS_KEY" not in printed
        headers = {"Authorization": f"Bearer {key}", "X-User-Id": "ann"}
        assert get(f"{address}/v1/sessions", headers)[0] == 200
        only = {"Authorization": f"Bearer {reader.stdout.strip()}"}
        assert get(f"{address}/v1/me", only)[1]["rights"] == ["read"]
        listed = run(tmp_path, "keys", "list").stdout
        assert "backend" in listed
        assert key.split("_")[2] not in listed
        assert run(tmp_path, "keys", "revoke", key).returncode == 0
        deadline = time.monotonic() + 5
        while get(f"{address}/v1/me", headers)[0] == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert "backend" not in run(tmp_path, "keys", "list").stdout
    again = run(tmp_path, "keys", "revoke", key)
    assert (again.returncode, "Traceback" in again.stderr) == (1, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "--host", "0.0.0.0"), "keys create"),
        (("serve", "--workers", "2"), "keys create"),
        (("serve", "--workers", "2", "--storage", "memory://"), "workers"),
        (("serve", "--storage", "nowhere://x"), "nowhere"),
        (("keys", "create", "x", "--storage", "memory://"), "KEYS_FILE"),
        (("keys", "create", "x", "--right", "all"), "rights"),
        (("keys", "create", "x", "--namespace", "_keys"), "namespace"),
    ],
    ids=" ".join,
)
def test_what_cannot_work_is_refused_in_a_line(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_several_workers_share_one_store(tmp_path: Path) -> None:
    key = run(tmp_path, "keys", "create", "x").stdout.strip()
    port = _free_port()
    with serving_workers(tmp_path, port) as address:
        headers = {"Authorization": f"Bearer {key}", "X-User-Id": "ann"}
        assert [get(f"{address}/v1/sessions", headers)[0] for _ in range(10)] == [200] * 10


@contextmanager
def serving_workers(folder: Path, port: int) -> Iterator[str]:
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command("serve", "--workers", "2", "--port", str(port)),
            env=environment(folder),
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + SECONDS
            while True:
                try:
                    if get(f"{address}/readyz")[0] == 200:
                        break
                except OSError:
                    assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
            yield address
        finally:
            process.terminate()
            process.wait(SECONDS)


def _free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_on_sigterm_it_is_not_ready_first(tmp_path: Path) -> None:
    with serving(tmp_path, SESSION_SERVICE_DRAIN_SECONDS="1.5") as (process, address, _):
        assert get(f"{address}/readyz")[0] == 200
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 1
        while get(f"{address}/readyz")[0] == 200:
            assert time.monotonic() < deadline
        assert get(f"{address}/healthz")[0] == 200
        process.wait(SECONDS)
    with pytest.raises(OSError):  # noqa: PT011 - whatever the system says
        get(f"{address}/healthz")
