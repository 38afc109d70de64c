"""Runs the commands of a page as somebody would type them, one after another in one shell."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from contextlib import suppress
from typing import Any, Self

from tests.pages.blocks import Step, steps_of
from tests.pages.stand_ins import Place
from tests.service.processes import SECONDS, get

_SERVES = re.compile(r"\bagent-sessions serve\b")
_KEY = re.compile(r"^export AGENT_SESSIONS_KEY=ask_\S+$", re.MULTILINE)
_VARIES = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "SUM"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+Z)?"), "TIME"),
    (re.compile(r"(?<![\w-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{22}(?![\w-])"), "ID"),
    (re.compile(r"(ok +extras) .*"), r"\1"),
    (re.compile(r"\b(\d[\d,.]*) (session|message)s?\b"), r"\1 \2s"),
    (re.compile(r"\d[\d,.]*"), "N"),
    (re.compile(r" +"), " "),
)
"""What differs from run to run: sums, times, ids, what is installed, numbers, plurals, widths."""


class Shell:
    """A shell in a clean place. ``serve`` goes on behind it until the next one, or the end."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._state = place.folder / ".state"
        self._state.write_text("")
        self._service: subprocess.Popen[bytes] | None = None
        self.log = place.folder / "service.log"
        """What the service that was started last has written."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the service, if one runs."""
        if self._service is not None:
            self._service.terminate()
            assert self._service.wait(SECONDS) == 0, self.log.read_text()
            self._service = None

    def run_block(self, text: str) -> None:
        """Run each command of a block; what it prints must be what the page shows."""
        for step in steps_of(self._place.stands_for(text)):
            if _SERVES.search(step.command):
                self.serve(step.command)
            else:
                self.check(step)

    def check(self, step: Step) -> None:
        """Run one command, which ends as the page shows it."""
        is_sick = any(line.endswith(" to mend.") for line in step.shown)
        printed = self.run(step.command, status=int(is_sick))
        if step.shown:
            exact = "agent-sessions plan" in step.command
            compare(step.shown, printed.splitlines(), exact=exact)

    def run(self, command: str, *, status: int = 0) -> str:
        """Run a command; return its standard output. What it exports lasts."""
        script = f"set -e; source {self._state}; {command}\nexport -p > {self._state}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._place.folder,
            env=self._place.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * SECONDS,
        )
        assert done.returncode == status, (command, done.stdout, done.stderr)
        return done.stdout

    def logged(self, word: str) -> dict[str, Any]:
        """Return the line of the service's log that holds a word; wait for it."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            for line in self.log.read_text().splitlines():
                if word in line:
                    read: dict[str, Any] = json.loads(line)
                    return read
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def serve(self, command: str) -> None:
        """Start a service; return once it is ready. The key that it prints is exported."""
        self.stop()
        place = self._place
        words = f"source {self._state}; exec env {shlex.join(shlex.split(command, comments=True))}"
        printed = place.folder / "service.out"
        with self.log.open("wb") as log, printed.open("wb") as output:
            self._service = subprocess.Popen(
                ["bash", "-c", words],
                cwd=place.folder,
                env={**place.environment(), "SESSION_SERVICE_PORT": str(place.port)},
                stdout=output,
                stderr=log,
            )
        until = time.monotonic() + SECONDS
        while not _is_ready(place.port):
            assert self._service.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)
        key = _KEY.search(printed.read_text())
        if key is not None:
            self.run(key[0])


def _is_ready(port: int) -> bool:
    with suppress(OSError):
        return get(f"http://127.0.0.1:{port}/readyz")[0] == 200
    return False


def compare(shown: list[str], printed: list[str], *, exact: bool = False) -> None:
    """Compare what a page shows with what was printed; ``…`` stands for anything, or for lines."""
    varies = (lambda text: text) if exact else _without_what_varies
    pattern = "\n".join(_pattern(varies(line)) for line in shown)
    text = "\n".join(varies(line) for line in printed)
    assert re.fullmatch(pattern, text), f"shown:\n{chr(10).join(shown)}\nprinted:\n{text}"


def _pattern(line: str) -> str:
    if line.strip() == "…":
        return r"(?s:.*)"
    parts = re.split(r"\w*…", line.rstrip())  # what is cut off begins as on the page, or otherwise
    return ".*".join(map(re.escape, parts)) + " *"


def _without_what_varies(text: str) -> str:
    for pattern, word in _VARIES:
        text = pattern.sub(word, text)
    return text
