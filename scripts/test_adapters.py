"""Make an environment for each adapter, and run its tests there.

    python scripts/test_adapters.py [ENVIRONMENT …] [-- ARGUMENTS OF PYTEST]

A file ``requirements/adapters/NAME.txt`` is an environment: everything that is installed there, at
exact versions. It runs ``tests/adapters/NAME`` on every store; ``NAME-oldest.txt``, with the oldest
release of the framework that is supported, on those that need no server. The environments are in
``.venv-adapters`` and are made again when their file changes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements" / "adapters"
ENVIRONMENTS = ROOT / ".venv-adapters"


def main() -> int:
    """Run the environments that were named, or all, and return the exit status."""
    arguments = _arguments()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(lambda name: _run(name, arguments.pytest), arguments.names))
    failed = [name for name, passed in zip(arguments.names, outcomes, strict=True) if not passed]
    print(f"adapters: {len(outcomes) - len(failed)} environments passed", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return bool(failed)


def known_environments() -> list[str]:
    """Return the names of all environments."""
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=known_environments(), metavar="ENVIRONMENT")
    given, pytest = sys.argv[1:], []
    if "--" in given:
        at = given.index("--")
        given, pytest = given[:at], given[at + 1 :]
    arguments = parser.parse_args(given)
    unknown = set(arguments.names) - set(known_environments())
    if unknown:
        parser.error(f"no such environment: {', '.join(sorted(unknown))}")
    arguments.pytest = pytest
    return arguments


def _run(name: str, arguments: list[str]) -> bool:
    """Make the environment if needed, run its tests, and show what they print."""
    started = time.monotonic()
    python, problem = _made(name)
    made = time.monotonic()
    if problem:
        print(f"── {name}: cannot be made\n{problem}", flush=True)
        return False
    tests = f"tests/adapters/{name.removesuffix('-oldest')}"
    stores = {"ADAPTER_STORES": "memory,sqlite"} if name.endswith("-oldest") else {}
    done = subprocess.run(
        [str(python), "-m", "pytest", tests, *arguments],
        cwd=ROOT,
        env={**os.environ, **stores},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = f"{made - started:.0f} s to make, {time.monotonic() - made:.0f} s to run"
    print(f"── {name}: {seconds}\n{done.stdout}", flush=True)
    return done.returncode == 0


def _made(name: str) -> tuple[Path, str]:
    """Return the environment's Python, and what went wrong if it could not be made."""
    folder = ENVIRONMENTS / name
    python, stamp = folder / "bin" / "python", folder / "made"
    requirements = REQUIREMENTS / f"{name}.txt"
    project = (ROOT / "pyproject.toml").read_bytes()
    wanted = hashlib.sha256(requirements.read_bytes() + project).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return python, ""
    shutil.rmtree(folder, ignore_errors=True)
    run = [sys.executable, "-m"]
    problem = _make(folder, requirements, [*run, "uv", "pip", "install", "--python", str(python)])
    if problem:  # uv reads no settings of pip, such as its index
        problem = _make(folder, requirements, [*run, "pip", "--python", str(python), "install"])
    if not problem:
        stamp.write_text(wanted)
    return python, problem


def _make(folder: Path, requirements: Path, install: list[str]) -> str:
    """Make an environment; return what went wrong, if anything."""
    for command in (
        [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)],
        [*install, "--quiet", "--requirement", str(requirements)],
        [*install, "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr or done.stdout
    return ""


if __name__ == "__main__":
    sys.exit(main())
