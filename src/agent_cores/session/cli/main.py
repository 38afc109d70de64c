"""``agent-sessions``: run the commands, or name the extra that installs their packages."""

from __future__ import annotations

import importlib
import sys

from agent_cores.session.cli.status import Status

_OURS = "agent_cores"


def main() -> None:
    """Run the command line. If the extra is not installed, print one line, not a traceback."""
    try:
        commands = importlib.import_module("agent_cores.session.cli.commands")
    except ModuleNotFoundError as error:
        package = (error.name or _OURS).partition(".")[0]
        if package == _OURS:
            raise
        install = "pip install 'agent-cores-session[service]'"
        sys.stderr.write(f"agent-sessions: {package} is not installed; run: {install}\n")
        sys.exit(Status.MISSING_PACKAGE)
    commands.run()
