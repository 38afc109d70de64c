"""``agent-sessions``: run the commands, or name the extra that installs their packages."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent_cores.session.cli.status import INTERRUPTED, Status

if TYPE_CHECKING:
    from types import ModuleType

    from cyclopts import App

_OURS = "agent_cores"
_NOWHERE = Path(os.devnull)


def main() -> None:
    """Run the command line. If the extra is not installed, print one line, not a traceback."""
    _open_closed_streams()
    arguments = sys.argv[1:]
    try:
        commands, app = _loaded(arguments)
        commands.run(app, arguments)
    except KeyboardInterrupt:  # before a command began, or after it
        sys.exit(INTERRUPTED)


def _loaded(arguments: list[str]) -> tuple[ModuleType, App]:
    try:
        commands = importlib.import_module("agent_cores.session.cli.commands")
        return commands, commands.application_for(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or _OURS).partition(".")[0]
        if package == _OURS:
            raise
        install = "pip install 'agent-cores-session[service]'"
        sys.stderr.write(f"agent-sessions: {package} is not installed; run: {install}\n")
        sys.exit(Status.MISSING_PACKAGE)


def _open_closed_streams() -> None:
    """Give the program the standard streams that its caller closed (``>&-``): it has ``None``.

    Without a standard output it ends: nobody would notice that the output is lost.
    """
    if sys.stdin is None:
        sys.stdin = _NOWHERE.open(encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = _NOWHERE.open("w", encoding="utf-8")
    if sys.stdout is None:
        sys.stderr.write("agent-sessions: the output cannot be written: it is closed\n")
        sys.exit(Status.FAILED)
