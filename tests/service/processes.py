"""``agent-sessions`` as a process: run to its end, or serving during a test."""

# ruff: noqa: S310 - addresses of servers that the tests start

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

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
    """Serve; yield the process, the address and the output."""
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
            assert "With a key" not in printed
        yield process, found[0], printed
    finally:
        process.terminate()
        process.wait(SECONDS)
        log.close()
        if process.stdout is not None:
            process.stdout.close()


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the workers of a service that has several."""
    children = psutil.Process(process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def key_in(printed: str) -> str:
    found = re.search(r"^export AGENT_SESSIONS_KEY=(ask_\S+)$", printed, re.MULTILINE)
    assert found is not None
    return found[1]


def get(url: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    asked = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def serve_without(module: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run ``serve`` as if a module were not installed."""
    program = f"""
import sys
sys.modules[{module!r}] = None
from agent_cores.session.cli.main import main
sys.argv[1:] = ["serve", "--port", "0"]
main()
"""
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment(folder, **settings),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
