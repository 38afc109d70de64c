"""``agent-sessions demo``: one conversation from creation to expiry, in a temporary folder."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

from agent_cores.session.cli.opening import Json  # noqa: TC001 - cyclopts reads it
from agent_cores.session.cli.output import say_json
from agent_cores.session.cli.status import Status

_DEMO = "agent_cores.session.examples.demo"
"""Examples are above everything, so nothing imports them: this is their name."""


def demo(*, as_json: Json = False) -> None:
    """Show one conversation from creation to expiry, on SQLite in a temporary folder.

    It prints each step, and fails if the result is not as described.

    Parameters
    ----------
    as_json
        Print one line of JSON.
    """
    if not as_json:
        import_module(_DEMO).main()
        return
    command = [sys.executable, "-P", "-X", "utf8", "-m", _DEMO]
    ended = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)  # noqa: S603
    say_json({"worked": not ended.returncode, "lines": ended.stdout.splitlines()})
    if ended.returncode:
        sys.exit(Status.FAILED)
