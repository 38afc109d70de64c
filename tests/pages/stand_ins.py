"""What stands in for the addresses, passwords and paths on the operators' pages: one table."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.pages.blocks import ROOT
from tests.servers import mariadb, postgres
from tests.servers.launching import free_port
from tests.servers.redis import RedisServer

ROLE = "chat_service"
PROGRAMS = {
    "agent-sessions": f'exec {sys.executable} -m agent_cores.session.cli "$@"',
    "pip": f'exec {sys.executable} -m tests.pages.installing "$@"',
    "opentelemetry-instrument": 'exec "$@"',  # opentelemetry-distro is not installed here
}
"""Commands of the pages, and what runs for them."""


class Place(NamedTuple):
    """A folder of its own, with everything that the pages take for granted."""

    folder: Path
    port: int
    metrics_port: int
    postgres: str
    mariadb: str
    valkey: RedisServer

    def table(self) -> list[tuple[str, str]]:
        """Return what is on the pages, and what stands in for it."""
        here, valkey = str(self.folder), self.valkey.url
        return [
            ("postgresql://app:secret@db.example:5432/chat?sslmode=verify-full", self.postgres),
            ("postgresql://db/app", self.postgres),
            ("mysql://app:secret@db.example:3306/chat?ssl_mode=verify_identity", self.mariadb),
            ("chat.*", f"{self.mariadb.rpartition('/')[2]}.*"),
            ("10.0.0.%", "127.0.0.%"),
            (ROLE, f"{ROLE}_{self.port}"),
            ("valkey://cache:6379/0", valkey.replace("redis:", "valkey:")),
            ("redis://db.internal:6379/0", valkey),
            ("=redis://localhost ", f"={valkey} "),
            ("127.0.0.1:8080", f"127.0.0.1:{self.port}"),
            ("9464", str(self.metrics_port)),
            ("bench --storage", "bench --seconds 0.05 --storage"),
            ("LOG_KEY=…", f"LOG_KEY={'k' * 32}"),
            ("revoke ID", "revoke \"$(agent-sessions keys list | awk 'END { print $1 }')\""),
            ("/etc/agent-sessions", here),
            ("/var/lib/agents", here),
            ("/backups", f"{here}/backups"),
            ("sessions.jsonl", f"{here}/sessions.jsonl"),
            ("python -m pytest", f"cd {ROOT} && {sys.executable} -m pytest --collect-only -q"),
            ("${fpath[1]}", here),
        ]

    def stands_for(self, text: str) -> str:
        """Return text of a page with everything replaced."""
        for shown, stand_in in self.table():
            text = text.replace(shown, stand_in)
        return text

    def environment(self) -> dict[str, str]:
        """Return the environment of a command."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SESSION_", "REDIS_"))}
        return {
            **kept,
            "HOME": str(self.folder),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }


@contextmanager
def clean_place(folder: Path) -> Iterator[Place]:
    """Make the folder and the databases, start a Valkey of its own; remove what lasts."""
    for name in ("bin", "backups", ".local/share/bash-completion/completions"):
        (folder / name).mkdir(parents=True)
    (folder / ".config/fish/completions").mkdir(parents=True)
    for name, line in PROGRAMS.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / "bin" / name).chmod(0o755)
    server, database = postgres.shared_server(), f"pages_{secrets.token_hex(8)}"
    server.sql(f"CREATE DATABASE {database}")
    maria = mariadb.shared_server()
    with RedisServer() as valkey:
        ports = free_port(), free_port()
        urls = server.url(database), maria.url(maria.new_database())
        yield Place(folder, *ports, *urls, valkey)
    server.sql(f"DROP DATABASE {database} WITH (FORCE)")
