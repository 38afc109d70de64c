"""This project's service as a contender: `agent-sessions serve`, one worker, with an API key."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import ClassVar

from benchmarks.over_http import HttpStore

KEY = re.compile(r"AGENT_SESSIONS_KEY=(\S+)")


class ServiceOnMemory(HttpStore):
    """In this machine's memory. The key is the one that the service creates on its first run."""

    packages: ClassVar[tuple[str, ...]] = ("agent-cores-session", "uvicorn", "uvloop")
    status = 201

    def storage(self, directory: Path) -> str:
        """The storage URL."""
        return "memory://"

    def command(self, directory: Path, port: int) -> list[str]:
        storage = self.storage(directory)
        return ["agent_cores.session.cli", "serve", "--port", str(port), "--storage", storage]

    async def started(self, log: Path) -> None:
        while not (printed := _keys(log)):  # noqa: ASYNC110 - another process prints it
            await asyncio.sleep(0.05)
        [self._key] = printed

    def headers(self, user_id: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}", "X-User-Id": user_id}

    def create_path(self, user_id: str) -> str:
        return "/v1/sessions"

    def append_path(self, session: str) -> str:
        return f"/v1/sessions/{session}/messages"


def _keys(log: Path) -> list[str]:
    return KEY.findall(log.read_text())


class ServiceOnSqlite(ServiceOnMemory):
    """On one SQLite file, each write synced to the disk before the response."""

    packages = (*ServiceOnMemory.packages, "apsw")

    def storage(self, directory: Path) -> str:
        return f"sqlite:///{directory / 'sessions.db'}"
