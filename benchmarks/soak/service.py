"""The service that is loaded: two workers, replaced by SIGTERM one after another; its sizes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import psutil

from benchmarks.environments import ROOT, clean_environment
from benchmarks.soak.hook.sitecustomize import FOLDER

HOOK = Path(__file__).parent / "hook"
WORKERS = 2
_MEGABYTE = 1e6


class Size(NamedTuple):
    """What all processes of the service hold together."""

    memory: float
    descriptors: int
    tasks: int
    processes: int


class Service:
    """`agent-sessions serve` with two workers, on a store."""

    def __init__(self, storage: str) -> None:
        self._storage = storage
        self._folder = tempfile.TemporaryDirectory(prefix="soak-")
        self.folder = Path(self._folder.name)
        self._tasks = self.folder / "tasks"
        self._tasks.mkdir()
        self.port = 0
        self.key = ""

    def __enter__(self) -> Self:
        """Start, and wait until it serves."""
        self.log = self.folder / "log"
        paths = ":".join(map(str, (HOOK, ROOT, ROOT / "src")))
        environment = clean_environment(
            {
                "SESSION_STORAGE_URL": self._storage,
                "PYTHONPATH": paths,
                FOLDER: str(self._tasks),
            }
        )
        made = subprocess.run(
            [sys.executable, "-m", "agent_cores.session.cli", "keys", "create", "soak"],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        self.key = made.stdout.strip()
        self._started(environment)
        return self

    def _started(self, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "agent_cores.session.cli", "serve", "--port", "0"]
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, "--workers", str(WORKERS)],
                env=environment,
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        printed = self._process.stdout.readline()
        found = re.search(r"http://[^:]+:(\d+)", printed)
        assert found is not None, (printed, self.log.read_text())
        self.port = int(found[1])

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(60)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._folder.cleanup()

    def replace_workers(self) -> None:
        """Have the supervisor start each worker anew, and end the old one by SIGTERM."""
        self._process.send_signal(signal.SIGHUP)

    @property
    def errors(self) -> list[str]:
        """Lines of the log at level error; the end of a worker that was replaced is none."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if '"level":"error"' in line.replace(" ", "")]

    def size(self) -> Size:
        """Memory in MB (each process's own, shared pages in proportion), descriptors, tasks."""
        memory, descriptors, tasks, processes = 0.0, 0, 0, 0
        top = psutil.Process(self._process.pid)
        for process in top.children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError, ValueError):
                text = (self._tasks / str(process.pid)).read_text()
                memory += process.memory_full_info().uss / _MEGABYTE
                descriptors += process.num_fds()
                tasks += int(text or 0)
                processes += 1
        return Size(memory, descriptors, tasks, processes)
