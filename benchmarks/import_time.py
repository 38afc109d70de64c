"""How long an import takes in a fresh interpreter, minus the start of the bare interpreter.

The first start of each is discarded, because it writes the bytecode. `sys.modules` of such an
interpreter shows which drivers our own import loads.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from benchmarks.catalogue import IMPORT
from benchmarks.entries import Contender, Home, Role
from benchmarks.environments import PeersEnvironmentError, clean_environment, interpreter
from benchmarks.records import Settings
from benchmarks.rounds import Measurement, Results, Stopped
from benchmarks.timing import middle

PACKAGE = "agent_cores.session"
OURS = {
    f"import {PACKAGE}": f"import {PACKAGE}",
    "import SessionManager": f"from {PACKAGE} import SessionManager",
}
DRIVERS = (
    "aiohttp",
    "aiomysql",
    "aiosqlite",
    "apsw",
    "asyncmy",
    "asyncpg",
    "hiredis",
    "psycopg",
    "pymysql",
    "redis",
    "sqlite3",
    "starlette",
    "uvicorn",
)
NAME = "agent_cores"
TIMEOUT = 60.0


class ImportFailedError(Exception):
    """The statement failed; the message is the last line of the traceback."""


class Subject(NamedTuple):
    """One statement to time, and whose it is."""

    name: str
    role: Role
    home: Home
    case: str
    statement: str
    repeats: int


def measure_imports(
    contenders: Iterable[Contender],
    settings: Settings,
    results: Results,
    say: Callable[[str], None],
) -> None:
    """Add one row for each statement."""
    for subject in _subjects(contenders, settings):
        say(f"import: {subject.statement}")
        try:
            taken = _milliseconds(subject)
        except (PeersEnvironmentError, ImportFailedError) as error:
            why = f"failed: {error}"
            results.stops.append(Stopped(IMPORT, subject.name, subject.case, why))
            continue
        sample = middle(subject.case, "ms", "lower", taken)
        row = Measurement(IMPORT, subject.name, "import", subject.role, sample, taken)
        results.measurements.append(row)


def _subjects(contenders: Iterable[Contender], settings: Settings) -> Iterator[Subject]:
    for case, statement in OURS.items():
        yield Subject(NAME, "ours", "project", case, statement, settings.imports)
    for peer in contenders:
        if peer.statement is not None:
            yield Subject(
                peer.name, "peer", peer.home, "import", peer.statement, settings.peers_imports
            )


def drivers_loaded() -> list[str]:
    """The driver modules that are loaded once our package is imported."""
    code = f"import {PACKAGE}, json, sys; print(json.dumps(sorted(sys.modules)))"
    modules = set(json.loads(_run(interpreter("project"), code)))
    return [driver for driver in DRIVERS if driver in modules]


def _milliseconds(subject: Subject) -> list[float]:
    """Alternate with bare starts; return each import minus the bare start next to it."""
    python = interpreter(subject.home)
    _run(python, subject.statement)
    taken = []
    for _ in range(subject.repeats):
        bare = _seconds(python, "pass")
        taken.append((_seconds(python, subject.statement) - bare) * 1e3)
    return taken


def _seconds(python: Path, code: str) -> float:
    started = perf_counter()
    _run(python, code)
    return perf_counter() - started


def _run(python: Path, code: str) -> str:
    done = subprocess.run(
        [str(python), "-P", "-c", code],
        cwd=tempfile.gettempdir(),
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise ImportFailedError(done.stderr.strip().splitlines()[-1])
    return done.stdout
