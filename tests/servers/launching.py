"""How the tests start servers that refuse to run as root: as ``nobody``, each in its own folder."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.servers.reaper import remove_at_the_end, watch

if TYPE_CHECKING:
    from collections.abc import Callable

_START_SECONDS = 30
_SHORT = 24
"""Characters that the path of a temporary folder may have: a socket's path has at most 107."""


def unprivileged() -> dict[str, Any]:
    """Return the arguments of ``subprocess`` that drop root privileges."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def own_folder(prefix: str) -> Path:
    """Make a folder that belongs to the user that the servers run as."""
    place = tempfile.gettempdir()
    if len(place) > _SHORT:
        place = "/tmp"  # noqa: S108 - mkdtemp makes a folder of its own there
    folder = remove_at_the_end(Path(tempfile.mkdtemp(prefix=prefix, dir=place)))
    give(folder)
    return folder


def give(path: Path) -> None:
    """Give a file to the user that the servers run as."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a server; its output is written to ``log`` in its folder."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **unprivileged())
    return watch(process)


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Return once the server is ready; raise if it exits first or takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            message = f"{process.args!r} did not start"
            raise RuntimeError(message)
        time.sleep(0.02)


def accepts(port: int) -> bool:
    """Whether something accepts connections at this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
