"""Stops the servers of a test process that died before it could: killed, or timed out.

A small process holds one end of a pipe. The pipe closes when the tests end, for any reason; the
process then kills the servers that were not stopped, and removes their folders.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_REAPERS: list[subprocess.Popen[str]] = []
"""Kept, because dropping a process that still runs raises a ``ResourceWarning``."""


def watch(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Register a server to be killed if the tests end without stopping it; return it."""
    _report(f"started {process.pid}")
    return process


def ended(process: subprocess.Popen[bytes]) -> None:
    """Forget a server that has exited: its process id may be used again."""
    _report(f"ended {process.pid}")


def remove_at_the_end(folder: Path) -> Path:
    """Register a folder to be removed after the tests, if it still exists; return it."""
    _report(f"folder {folder}")
    return folder


def reap(reports: Iterable[str]) -> None:
    """Read what the tests report until they end; then kill and remove what they left."""
    processes: set[int] = set()
    folders: list[str] = []
    for report in reports:
        kind, _, value = report.rstrip("\n").partition(" ")
        if kind == "started":
            processes.add(int(value))
        elif kind == "ended":
            processes.discard(int(value))
        elif kind == "folder":
            folders.append(value)
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _report(line: str) -> None:
    pipe = _pipe(os.getpid())  # a fork of the tests gets its own reaper
    pipe.write(f"{line}\n")
    pipe.flush()


@functools.cache
def _pipe(_process: int) -> IO[str]:
    """Start the reaper of this process, in its own session: Ctrl-C must not reach it."""
    reaper = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # it outlives the tests, whose output others wait for
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        cwd="/",
    )
    assert reaper.stdin is not None
    _REAPERS.append(reaper)
    return reaper.stdin


if __name__ == "__main__":
    reap(sys.stdin)
