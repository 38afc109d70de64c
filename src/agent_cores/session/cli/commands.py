"""The commands of ``agent-sessions``, and how their errors are shown."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from agent_cores.session import __version__
from agent_cores.session.cli.backup import backup
from agent_cores.session.cli.bench import bench
from agent_cores.session.cli.completion import add_completion
from agent_cores.session.cli.copying import copy
from agent_cores.session.cli.demo import demo
from agent_cores.session.cli.doctor import doctor
from agent_cores.session.cli.keys import keys
from agent_cores.session.cli.migrate import migrate
from agent_cores.session.cli.moving import export, import_sessions_of
from agent_cores.session.cli.output import fail, leave_quietly
from agent_cores.session.cli.plan import plan
from agent_cores.session.cli.serve import serve
from agent_cores.session.cli.sessions import list_sessions, send, share, show
from agent_cores.session.cli.status import Status, status_of
from agent_cores.session.cli.upkeep import clean, erase, stats
from agent_cores.session.cli.users import log_id
from agent_cores.session.errors import SessionError

app: App = App(
    name="agent-sessions",
    help="Sessions for AI agents, over HTTP. Settings come from the environment, .env and TOML.",
    version=__version__,
)
app.command(serve)
app.command(demo)
app.command(keys)
app.command(migrate)
app.command(list_sessions, name="list")
app.command(import_sessions_of, name="import")
app.command(export)
app.command(copy)
app.command(backup)
for _command in (show, send, share, stats, clean, erase, doctor, bench, plan, log_id):
    app.command(_command)
add_completion(app)


def run() -> None:
    """Run the command line; an error is one line, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(sys.argv[1:], print_error=False, exit_on_error=False)
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
