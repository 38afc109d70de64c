"""Fuzz a service of its own with schemathesis, and hold the run to what it has to reach.

``python tests/fuzz/run.py [CASES_AN_OPERATION]``; needs schemathesis and the extra ``service``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
CASES = 10_000
GOOD_CASES = 100
DEFAULT_EXAMPLES = "400"
WITHOUT_INPUT = {"GET /v1/openapi.json", "GET /docs", "GET /healthz", "GET /readyz"}
"""Operations of which there is one case only."""


def main() -> int:
    """Start the service, run the fuzzer, and return what the shell is told."""
    examples = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_EXAMPLES
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, str(HERE / "server.py")], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            address, key = (server.stdout.readline().strip() for _ in range(2))
            counts = Path(folder) / "counts.json"
            status = _fuzz(address, key, counts, examples, folder)
            return status or _judged(json.loads(counts.read_text()))
        finally:
            server.terminate()
            server.wait()


def _fuzz(address: str, key: str, counts: Path, examples: str, folder: str) -> int:
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "--config-file",
            str(HERE / "schemathesis.toml"),
            "run",
            f"{address}/v1/openapi.json",
            f"--header=Authorization: Bearer {key}",
            "--header=X-User-Id: fuzzer",
            "--checks=all",
            f"--max-examples={examples}",
        ],
        cwd=folder,
        env={
            **os.environ,
            "FUZZ_ADDRESS": address,
            "FUZZ_KEY": key,
            "FUZZ_COUNTS": str(counts),
            "SCHEMATHESIS_HOOKS": "hooks",
            "PYTHONPATH": str(HERE),
        },
        check=False,
    ).returncode


def _judged(counts: list[tuple[str, int, int]]) -> int:
    total, good = 0, Counter[str]()
    failed = []
    for label, status, count in counts:
        total += count
        good[label] += count if 200 <= status < 300 else 0
        if status >= 500:
            failed.append(f"{label} answered {status}")
    failed += [
        f"{label}: {count} cases that end in 2xx, wanted {GOOD_CASES}"
        for label, count in good.items()
        if count < GOOD_CASES and label not in WITHOUT_INPUT
    ]
    if total < CASES:
        failed.append(f"{total} cases, wanted {CASES}")
    least = ", ".join(f"{label} {count}" for label, count in good.most_common()[:-9:-1])
    sys.stdout.write(f"{total} cases; that end in 2xx, the least: {least}\n")
    sys.stdout.writelines(f"{line}\n" for line in failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
