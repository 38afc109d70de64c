"""The servers that the tests start go with them, even if the tests are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.test_documents import ROOT

STARTS_A_SERVER = """
import time
from tests.servers.redis import RedisServer
server = RedisServer()
server.start()
print(server._process.pid, server._folder, flush=True)
time.sleep(60)
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
