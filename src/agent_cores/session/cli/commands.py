"""The commands of ``agent-sessions``, and how their errors are shown."""

from __future__ import annotations

import sys
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from agent_cores.session import __version__
from agent_cores.session.cli.completion import add_completion
from agent_cores.session.cli.output import fail, leave_quietly
from agent_cores.session.cli.status import Status, status_of
from agent_cores.session.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HELP = "Sessions for AI agents, over HTTP. Settings come from the environment, .env and TOML."
_COMMANDS = {
    "serve": "serve:serve",
    "demo": "demo:demo",
    "keys": "keys:keys",
    "migrate": "migrate:migrate",
    "list": "sessions:list_sessions",
    "import": "moving:import_sessions_of",
    "export": "moving:export",
    "copy": "copying:copy",
    "backup": "backup:backup",
    "show": "sessions:show",
    "send": "sessions:send",
    "share": "sessions:share",
    "stats": "upkeep:stats",
    "clean": "upkeep:clean",
    "erase": "upkeep:erase",
    "doctor": "doctor:doctor",
    "bench": "bench:bench",
    "plan": "plan:plan",
    "log-id": "users:log_id",
}
"""The module and the function, or the group of commands, of each command."""


def application_for(arguments: Sequence[str]) -> App:
    """Return the application with the command that is called: importing all of them takes longer.

    If none is named, as for ``--help``, or an unknown one, it has all commands.
    """
    return application([name for name in arguments[:1] if name in _COMMANDS] or _COMMANDS)


def application(names: Iterable[str] = _COMMANDS) -> App:
    """Return the application with all commands, or with these."""
    app = App(
        name="agent-sessions",
        help=_HELP,
        version=__version__,
    )
    for name in names:
        module, _, attribute = _COMMANDS[name].partition(":")
        app.command(getattr(import_module(f"{__package__}.{module}"), attribute), name=name)
    add_completion(app)
    return app


def run(app: App, arguments: Sequence[str]) -> None:
    """Run a command; an error is one line, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(arguments, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        fail(str(error), Status.WRONG_USE)
    except BrokenPipeError:
        leave_quietly()
    except OSError as error:
        fail(_told(error), status_of(error))
    except (SessionError, UnicodeError) as error:
        fail(str(error), status_of(error))


def _told(error: OSError) -> str:
    """Return what the system refused, and for which file, without the number of the error."""
    if error.strerror is None or isinstance(error, SessionError):
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
