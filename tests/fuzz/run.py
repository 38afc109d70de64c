"""Fuzz a service of its own with schemathesis, and hold the run to what it has to reach.

``python tests/fuzz/run.py [CASES_AN_OPERATION]``; needs schemathesis and the extra ``service``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from pathlib import Path

from agent_cores.session.service.routes import ROUTES

HERE = Path(__file__).resolve().parent
CASES = 10_000
GOOD_CASES = 100
DEFAULT_EXAMPLES = "350"
FUZZERS = 2
"""How many run beside each other: making cases takes one processor each."""
WITHOUT_INPUT = {"GET /v1/openapi.json", "GET /docs", "GET /healthz", "GET /readyz"}
"""Operations of which there is one case only."""


def main() -> int:
    """Start the service, run the fuzzers, and return what the shell is told."""
    examples = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_EXAMPLES
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, str(HERE / "server.py")], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            address, key = (server.stdout.readline().strip() for _ in range(2))
            return _fuzzed(address, key, examples, Path(folder))
        finally:
            server.terminate()
            server.wait()


def _fuzzed(address: str, key: str, examples: str, folder: Path) -> int:
    """Run the fuzzers beside each other, each on its part of the operations."""
    # From a file: the operation that gives the document would else be left out.
    with urllib.request.urlopen(f"{address}/v1/openapi.json") as answer:  # noqa: S310 - our own
        document = answer.read()
    (folder / "openapi.json").write_bytes(document)
    operations = [
        it["operationId"] for its in json.loads(document)["paths"].values() for it in its.values()
    ]
    parts = [folder / str(number) for number in range(FUZZERS)]
    fuzzers = [
        _fuzzer(address, key, examples, part, operations[number::FUZZERS])
        for number, part in enumerate(parts)
    ]
    counts: list[tuple[str, int, int]] = []
    try:
        for fuzzer, part in zip(fuzzers, parts, strict=True):
            fuzzer.wait()
            sys.stdout.write((part / "output").read_text())
            counts += json.loads((part / "counts").read_text())
    finally:
        for fuzzer in fuzzers:
            fuzzer.kill()
            fuzzer.wait()
    failures = judged(counts)
    sys.stdout.writelines(f"{line}\n" for line in failures)
    return int(bool(failures) or any(fuzzer.returncode for fuzzer in fuzzers))


def _fuzzer(
    address: str, key: str, examples: str, part: Path, operations: list[str]
) -> subprocess.Popen[bytes]:
    part.mkdir()
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file",
        str(HERE / "schemathesis.toml"),
        "run",
        "../openapi.json",
        f"--url={address}",
        f"--header=Authorization: Bearer {key}",
        "--header=X-User-Id: fuzzer",
        "--checks=all",
        f"--max-examples={examples}",
        *(f"--include-operation-id={operation}" for operation in operations),
    ]
    environment = {
        **os.environ,
        "FUZZ_ADDRESS": address,
        "FUZZ_KEY": key,
        "FUZZ_COUNTS": str(part / "counts"),
        "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
        "PYTHONPATH": str(HERE.parents[1]),
    }
    with (part / "output").open("wb") as output:
        return subprocess.Popen(
            command, cwd=part, env=environment, stdout=output, stderr=subprocess.STDOUT
        )


def judged(counts: list[tuple[str, int, int]]) -> list[str]:
    """Return what a run lacks, by the number of cases of each operation and status."""
    good = Counter({route.name: 0 for route in ROUTES})
    failures = []
    for label, status, count in counts:
        good[label] += count if 200 <= status < 300 else 0
        if status >= 500:
            failures.append(f"{label} answered {status}")
    for label, count in good.items():
        wanted = 1 if label in WITHOUT_INPUT else GOOD_CASES
        if count < wanted:
            failures.append(f"{label}: {count} cases that end in 2xx, wanted {wanted}")
    total = sum(count for *_, count in counts)
    if total < CASES:
        failures.append(f"{total} cases, wanted {CASES}")
    least = ", ".join(f"{label} {count}" for label, count in good.most_common()[:-9:-1])
    sys.stdout.write(f"{total} cases; that end in 2xx, the least: {least}\n")
    return failures


if __name__ == "__main__":
    sys.exit(main())
