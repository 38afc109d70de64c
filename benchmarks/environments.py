"""The Python environments: the project's own, and one for the peers, created on first use.

The peers' packages are never installed into the project's environment. The peers' environment also
holds what our package needs, for the adapters. It is created again when `peers/requirements.txt`
changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.entries import Home

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
REQUIREMENTS = HERE / "peers" / "requirements.txt"
PEERS_VENV = HERE / ".venv-peers"


class PeersEnvironmentError(Exception):
    """The peers' environment could not be created; the message is the last line of pip."""


def interpreter(home: Home) -> Path:
    """The Python of `home`; creates its environment if needed."""
    return Path(sys.executable) if home == "project" else _peers_python()


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's variables, without those that would change the default settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SESSION_") and name != "REDIS_URL"
    }
    folders = (str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH"))
    path = os.pathsep.join(filter(None, folders))
    return {**kept, "PYTHONPATH": path, **extra}


def _peers_python() -> Path:
    python = PEERS_VENV / "bin" / "python"
    stamp = PEERS_VENV / "requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(PEERS_VENV, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(PEERS_VENV)])
        _run([str(python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)])
        stamp.write_text(wanted)
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise PeersEnvironmentError(lines[-1] if lines else f"{command[0]} failed")
