"""A service whose log is not read goes on: standard error is a pipe that nobody empties."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.service.processes import SECONDS, command, environment, get

REQUESTS = 1_500
"""Their lines are several times what a pipe holds."""


def test_requests_are_answered_while_nobody_reads_the_log(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("serve", "--port", "0"),
        env=environment(tmp_path),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        found = re.search(r"http://\S+?(?=;)", process.stdout.readline())
        assert found is not None
        for _ in range(REQUESTS):
            assert get(f"{found[0]}/nothing")[0] == 404
        process.terminate()
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
