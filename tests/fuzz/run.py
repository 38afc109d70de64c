"""Fuzz a service of its own with schemathesis, and hold the run to what it has to reach.

``python tests/fuzz/run.py [CASES_AN_OPERATION] [--seed N]``; needs schemathesis and the extra
``service``. A seed makes the same requests in each run. Without one, every run chooses its own and
prints it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

from agent_cores.session.service.routes import ROUTES

HERE = Path(__file__).resolve().parent
CASES = 10_000
GOOD_CASES = 100
DEFAULT_EXAMPLES = 350
SEEDS = 2**32
FUZZERS = 2
"""How many run in parallel; generating cases keeps one processor busy for each."""
WITHOUT_INPUT = {
    "GET /v1/openapi.json",
    "GET /docs",
    "GET /docs/{file}",
    "GET /healthz",
    "GET /readyz",
}
"""Operations that have only one case, or a few."""

Count = tuple[str, int, int]
"""An operation, a status, and the number of its cases with that status."""


def main() -> int:
    """Start the service, run the fuzzers, and return the exit status."""
    arguments = _arguments()
    started = time.monotonic()
    sys.stdout.write(
        f"Fuzzing with seed {arguments.seed}, {arguments.examples} cases an operation. Repeat:\n"
        f'  make fuzz ARGS="{arguments.examples} --seed {arguments.seed}"\n'
    )
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, str(HERE / "server.py")], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            address, key = (server.stdout.readline().strip() for _ in range(2))
            status = _fuzzed(address, key, arguments, Path(folder))
        finally:
            server.terminate()
            server.wait()
    sys.stdout.write(f"{time.monotonic() - started:.0f} s, seed {arguments.seed}\n")
    return status


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("examples", type=int, nargs="?", default=DEFAULT_EXAMPLES)
    parser.add_argument("--seed", type=int, default=random.randrange(SEEDS))
    return parser.parse_args()


def _fuzzed(address: str, key: str, arguments: argparse.Namespace, folder: Path) -> int:
    """Fuzz every operation; then send valid cases alone to those that had too few by chance."""
    # From a file: schemathesis leaves out the operation that serves the document it reads.
    with urllib.request.urlopen(f"{address}/v1/openapi.json") as response:  # noqa: S310 - our own
        document = response.read()
    (folder / "openapi.json").write_bytes(document)
    names = {
        f"{method.upper()} {path}": operation["operationId"]
        for path, operations in json.loads(document)["paths"].items()
        for method, operation in operations.items()
    }
    options = [
        f"--url={address}",
        f"--header=Authorization: Bearer {key}",
        f"--seed={arguments.seed}",
    ]
    # A seed only repeats a run if Python iterates over sets in the same order.
    environment = {
        "FUZZ_ADDRESS": address,
        "FUZZ_KEY": key,
        "PYTHONHASHSEED": str(arguments.seed % SEEDS),
    }
    every = [*options, f"--max-examples={arguments.examples}"]
    status, counts = _beside(folder / "every", every, environment, list(names.values()))
    short = [names[label] for label in too_few(counts) if label in names]
    if short and not status:
        valid = [*options, "--mode=positive", f"--max-examples={2 * GOOD_CASES}"]
        status, more = _beside(folder / "valid", valid, environment, short)
        counts += more
    failures = judged(counts)
    sys.stdout.writelines(f"{line}\n" for line in failures)
    return status or int(bool(failures))


def _beside(
    folder: Path, options: list[str], environment: dict[str, str], operations: list[str]
) -> tuple[int, list[Count]]:
    """Run fuzzers in parallel, each on some of the operations."""
    parts = [operations[number::FUZZERS] for number in range(FUZZERS)]
    fuzzers = [
        (_fuzzer(folder / str(number), options, environment, part), folder / str(number))
        for number, part in enumerate(parts)
        if part
    ]
    status, counts = 0, []
    try:
        for fuzzer, place in fuzzers:
            status = fuzzer.wait() or status
            sys.stdout.write((place / "output").read_text())
            counts += json.loads((place / "counts").read_text())
    finally:
        for fuzzer, _ in fuzzers:
            fuzzer.kill()
            fuzzer.wait()
    return status, counts


def _fuzzer(
    folder: Path, options: list[str], environment: dict[str, str], operations: list[str]
) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file",
        str(HERE / "schemathesis.toml"),
        "run",
        "../../openapi.json",
        "--header=X-User-Id: fuzzer",
        "--checks=all",
        *options,
        *(f"--include-operation-id={operation}" for operation in operations),
    ]
    hooks = {
        "FUZZ_COUNTS": str(folder / "counts"),
        "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
        "PYTHONPATH": str(HERE.parents[1]),
    }
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment, **hooks},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def too_few(counts: list[Count]) -> dict[str, str]:
    """Return the operations with too few 2xx responses, and a message for each."""
    good = _good(counts)
    wanted = {label: 1 if label in WITHOUT_INPUT else GOOD_CASES for label in good}
    return {
        label: f"{label}: {count} cases that end in 2xx, wanted {wanted[label]}"
        for label, count in good.items()
        if count < wanted[label]
    }


def _good(counts: list[Count]) -> Counter[str]:
    good = Counter({route.name: 0 for route in ROUTES})
    for label, status, count in counts:
        good[label] += count if 200 <= status < 300 else 0
    return good


def judged(counts: list[Count]) -> list[str]:
    """Return what a run lacks, by the number of cases of each operation and status."""
    failures = [f"{label} answered {status}" for label, status, _ in counts if status >= 500]
    failures += too_few(counts).values()
    total = sum(count for *_, count in counts)
    if total < CASES:
        failures.append(f"{total} cases, wanted {CASES}")
    least = ", ".join(f"{label} {n}" for label, n in _good(counts).most_common()[:-9:-1])
    sys.stdout.write(f"{total} cases; that end in 2xx, the least: {least}\n")
    return failures


if __name__ == "__main__":
    sys.exit(main())
