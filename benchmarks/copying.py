"""How fast a store is copied: `python -m benchmarks.copying`, SQLite to Valkey.

Sessions of 20 messages of 200 bytes; `agent-sessions copy` with one process and with one for each
core, each into an empty server. Printed are sessions per second of the copy alone and with the
comparison, microseconds of processor time for a session, and the most memory of a process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from agent_cores.session import SessionManager, SessionSettings
from benchmarks.environments import clean_environment
from benchmarks.footprint import MESSAGES, SHORT, processor_time, valkey

TOGETHER = 250


def main() -> None:
    """Fill a file, copy it twice, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.copying", description=__doc__)
    parser.add_argument("--sessions", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="copying-") as folder:
        source = f"sqlite:///{Path(folder) / 'sessions.db'}"
        asyncio.run(_fill(source, arguments.sessions))
        for processes in (1, os.cpu_count() or 1):
            print(_copied(source, arguments.sessions, processes, folder), flush=True)


async def _fill(url: str, sessions: int) -> None:
    settings = SessionSettings(cleanup_interval=0, timeout=60)
    messages = [{"role": "user", "content": "how do I get there? " * (SHORT // 20)}] * MESSAGES
    async with SessionManager(url, settings=settings) as manager:

        async def one(number: int) -> None:
            user = f"user-{number % 500}"
            session_id = await manager.create_session(user)
            await manager.add_messages(session_id, user, messages)

        for first in range(0, sessions, TOGETHER):
            last = min(first + TOGETHER, sessions)
            await asyncio.gather(*map(one, range(first, last)))


def _copied(source: str, sessions: int, processes: int, folder: str) -> str:
    before = _spent()
    with valkey() as target:
        command = ["copy", "--from", source, "--to", target.url, "--json"]
        command += ["--processes", str(processes)]
        done = subprocess.run(
            [sys.executable, "-m", "agent_cores.session.cli", *command],
            env=clean_environment({}),
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        client, server = _spent() - before, processor_time(target.pid)
    found = json.loads(done.stdout)
    assert found["equal"]
    assert found["copied"]["sessions"] == sessions
    seconds = found["seconds"]
    both = seconds["copying"] + seconds["comparing"]
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return (
        f"{processes} processes: {sessions / seconds['copying']:,.0f} sessions/s copied,"
        f" {sessions / both:,.0f} copied and compared;"
        f" {client / sessions * 1e6:.0f} us of the client, {server / sessions * 1e6:.0f} us of the"
        f" server; {memory:.0f} MB"
    )


def _spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
