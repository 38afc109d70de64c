"""The servers that the tests start go with them, even if the tests are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.test_documents import ROOT

STARTS_A_SERVER = """
import time
from tests.servers.redis import RedisServer
server = RedisServer()
server.start()
print(server._process.pid, server._folder, flush=True)
time.sleep(60)
"""
USES_STORES_AGAIN = """
from tests.servers import {server}
from tests.servers.reused import KEPT
for _ in range(KEPT + 1):
    url = {server}.reused_store({address})
"""
SECONDS = 20


def test_a_killed_run_leaves_no_server_and_no_folder_behind() -> None:
    tests = subprocess.Popen(
        [sys.executable, "-c", STARTS_A_SERVER], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert tests.stdout is not None
    pid, folder = tests.stdout.readline().split()
    server = psutil.Process(int(pid))
    assert server.is_running()
    assert Path(folder).is_dir()
    tests.send_signal(signal.SIGKILL)
    tests.wait()
    tests.stdout.close()
    server.wait(SECONDS)
    end = time.monotonic() + SECONDS
    while Path(folder).exists():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("server", "address"), [("postgres", "postgres.shared_server().url()"), ("mariadb", "")]
)
def test_stores_that_are_used_again_leave_no_connection_open(server: str, address: str) -> None:
    program = USES_STORES_AGAIN.format(server=server, address=address)
    tests = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    unclosed = [line for line in tests.stderr.splitlines() if "unclosed" in line]
    assert [line for line in unclosed if "connection" in line or "transport" in line] == []
