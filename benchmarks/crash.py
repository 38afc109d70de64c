"""Start the crash run in its own process, and return its counts.

`crash_check` describes the run (it kills and counts), `crash_writer` the process that is killed.
The run tests the death of a process, not the loss of power.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from benchmarks.environments import clean_environment
from benchmarks.records import Settings

TIMEOUT = 300.0


class CrashRunFailedError(Exception):
    """The run itself failed; the message is the last line that it wrote."""


@dataclass(frozen=True)
class Crashes:
    """`longest_ms` is the longest time between an acknowledgement and the SIGKILL after it."""

    kills: int
    acknowledged: int
    repeated: int
    lost: int
    doubled: int
    gaps: int
    longest_ms: float


def measure_crashes(settings: Settings) -> Crashes:
    """Kill the writer `settings.crashes` times on one SQLite file."""
    with tempfile.TemporaryDirectory(prefix="agent-cores-bench-") as directory:
        url = f"sqlite:///{directory}/sessions.db"
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.crash_check", url, str(settings.crashes)],
            cwd=directory,
            env=clean_environment({}),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise CrashRunFailedError(lines[-1] if lines else "it said nothing")
    return Crashes(**json.loads(done.stdout))
