"""``agent-sessions backup``: a copy of an SQLite store; for other stores, their own command."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent_cores.session.cli.opening import Json, Line, Where, manager_for, recorded
from agent_cores.session.cli.output import amount, say, say_json
from agent_cores.session.files import local_path

if TYPE_CHECKING:
    from pathlib import Path

    from agent_cores.session.storage.base import BackedUp


def backup(path: str, *, storage: str | None = None, as_json: Json = False) -> None:
    """Copy an SQLite store to a new file, while it is in use, and check the copy.

    For other stores it names the command that does it.

    Parameters
    ----------
    path
        The file, which must not exist.
    storage
        The storage URL, instead of the configured one.
    as_json
        Print one line of JSON.
    """
    where = Where(storage=storage)
    with recorded(where, Line("back_up")):
        done = asyncio.run(_backup(local_path(path, "the backup"), where))
    if as_json:
        say_json(done)
    else:
        say(f"{amount(done.sessions, done.messages)}: {done.bytes} bytes, checked.")


async def _backup(path: Path, where: Where) -> BackedUp:
    """Back up without opening the store: what it writes at its start is not part of it."""
    return await manager_for(where).runtime.storage.back_up(path)
