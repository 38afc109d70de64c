"""`adk api_server` of google-adk, with its sessions in a SQLite file.

As its documentation shows it: `adk api_server --session_service_uri=… AGENTS_DIR`, then
`POST /apps/{app}/users/{user}/sessions`. The folder of agents holds one agent, which is never run.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.over_http import HttpStore

APP = "benchmark"
AGENT = """
from google.adk.agents import Agent

root_agent = Agent(name="benchmark", model="none")
"""


class AdkServer(HttpStore):
    """It checks no credential."""

    packages = ("google-adk", "SQLAlchemy", "aiosqlite", "uvicorn", "uvloop")

    def command(self, directory: Path, port: int) -> list[str]:
        folder = directory / "agents" / APP
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("from . import agent\n")
        (folder / "agent.py").write_text(AGENT)
        database = f"sqlite+aiosqlite:///{directory / 'adk.db'}"
        options = ["--port", str(port), "--session_service_uri", database]
        return ["google.adk.cli", "api_server", *options, str(folder.parent)]

    def create_path(self, user_id: str) -> str:
        return f"/apps/{APP}/users/{user_id}/sessions"
