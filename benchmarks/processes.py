"""Run one contender on one workload in its own process, and return its report.

If a contender fails, its last line of output is recorded and the run continues.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import tempfile
from pathlib import Path

from benchmarks.entries import Contender, Workload
from benchmarks.environments import PeersEnvironmentError, clean_environment, interpreter
from benchmarks.records import Report, Settings, Stop
from benchmarks.servers import running

TIMEOUT = 240.0


class ContenderFailedError(Exception):
    """The process exited without a report; the message is the last line that it wrote."""


def run_contender(contender: Contender, workload: Workload, settings: Settings) -> Report:
    """Run one process in its own empty folder, which is removed afterwards."""
    largest = settings.peers_hold if contender.home == "peers" else None
    asked = dataclasses.replace(settings, largest=largest)
    with tempfile.TemporaryDirectory(prefix="agent-cores-bench-") as directory:
        stores = Path(directory) / "stores"
        stores.mkdir()
        request: dict[str, object] = {
            "workload": workload.module,
            "directory": str(stores),
            "settings": dataclasses.asdict(asked),
        }
        try:
            return _run(contender, workload, request, directory)
        except (PeersEnvironmentError, ContenderFailedError) as error:
            return Report(stops=[Stop("", f"failed: {error}")])


def _run(
    contender: Contender, workload: Workload, request: dict[str, object], directory: str
) -> Report:
    python = str(interpreter(contender.home))
    command = [python, "-m", "benchmarks.contender", contender.target, json.dumps(request)]
    try:
        with running(contender.server) as server_variables:
            done = subprocess.run(
                command,
                cwd=directory,
                env=clean_environment({**workload.environment, **server_variables}),
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise ContenderFailedError(f"no answer within {TIMEOUT:g} s") from error
    if done.returncode:
        raise ContenderFailedError(_last_line(done.stderr))
    return Report.from_json(json.loads(_last_line(done.stdout)))


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
