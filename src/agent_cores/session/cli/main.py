"""``agent-sessions``: what it can be told, and how its errors are shown."""

from __future__ import annotations

import sys

from cyclopts import App
from rich.console import Console

from agent_cores.session.cli.keys import keys
from agent_cores.session.cli.migrate import migrate
from agent_cores.session.cli.serve import serve
from agent_cores.session.errors import SessionError

app = App(
    name="agent-sessions",
    help="Sessions for AI agents, over HTTP. Settings come from the environment, .env and TOML.",
)
app.command(serve)
app.command(keys)
app.command(migrate)


def main() -> None:
    """Run the command line; an error of ours is one line, not a traceback."""
    try:
        app()
    except SessionError as error:
        Console(stderr=True).print(f"agent-sessions: {error}", style="red", markup=False)
        sys.exit(1)
