"""Real MariaDB servers for the tests: on free ports, with data that is removed with them.

The server is the machine's (Debian's ``mariadb-server``). It does not run as root: if the tests do,
it runs as ``nobody``.
"""

from __future__ import annotations

import atexit
import functools
import secrets
import shutil
import signal
import subprocess
from collections import deque
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import asyncmy

from tests.servers.launching import free_port, own_folder, start, unprivileged, wait_for
from tests.servers.programs import program
from tests.servers.reaper import ended
from tests.servers.reused import ReusedStores

if TYPE_CHECKING:
    from pathlib import Path

_PACKAGE = "mariadb-server"
_KEPT_DATABASES = 50
_SETTINGS = {
    "bind-address": "127.0.0.1",
    "innodb-flush-log-at-trx-commit": "1",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "64M",
    "innodb-use-native-aio": "0",  # many servers on one machine exhaust its requests
    "max-connections": "100",
    "skip-name-resolve": "1",
}


class MariaDBServer:
    """One server, in its own folder. ``start`` and ``stop`` may be called repeatedly.

    ``settings`` are added to its command line, without the leading dashes.
    """

    def __init__(self, **settings: str) -> None:
        self.port = free_port()
        self.folder = own_folder("mariadb-")
        self._databases: deque[str] = deque()
        self._settings = dict(_SETTINGS)
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(**settings)
        self._install()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(at_once=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def socket(self) -> Path:
        """The path of its unix socket."""
        return self.folder / "socket"

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"mariadb://root@127.0.0.1:{self.port}/{database}"

    def url_by_socket(self, database: str) -> str:
        """Return the address of a database by the unix socket."""
        return f"mariadb://root@/{database}?{urlencode({'unix_socket': self.socket})}"

    def configure(self, **settings: str) -> None:
        """Add settings to the command line of the next start."""
        self._settings.update({name.replace("_", "-"): text for name, text in settings.items()})

    def start(self) -> None:
        """Start, and return once it responds."""
        own = {
            "datadir": str(self.folder / "data"),
            "tmpdir": str(self.folder),
            "port": str(self.port),
            "socket": str(self.socket),
            "pid-file": str(self.folder / "pid"),
        }
        arguments = [f"--{name}={value}" for name, value in {**self._settings, **own}.items()]
        mariadbd = program("mariadbd", package=_PACKAGE)
        self._process = start([mariadbd, "--no-defaults", *arguments], self.folder)
        wait_for(self._answers, self._process)

    def stop(self, *, at_once: bool = False) -> None:
        """Stop, rolling back open transactions; ``at_once``: as if the machine had died."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)
            self._process.wait()
            ended(self._process)
            self._process = None

    def sql(self, statement: str, database: str = "mysql") -> str:
        """Run statements with the server's own client and return what it prints, unaligned."""
        done = self._client("--batch", "--skip-column-names", f"--execute={statement}", database)
        if done.returncode:
            message = f"mariadb failed: {done.stderr}"
            raise RuntimeError(message)
        return str(done.stdout).strip()

    def new_database(self, options: str = "", *, lasting: bool = False) -> str:
        """Create a database that nothing else uses, and return its name.

        It drops an old one, unless that is ``lasting``: each takes a megabyte of disk.
        """
        name = f"case_{secrets.token_hex(8)}"
        statements = [f"CREATE DATABASE {name} {options}"]
        if not lasting:
            self._databases.append(name)
        if len(self._databases) > _KEPT_DATABASES:
            statements.append(f"DROP DATABASE IF EXISTS {self._databases.popleft()}")
        self.sql("; ".join(statements))
        return name

    def _install(self) -> None:
        # Two servers that share a folder for temporary files would remove each other's files.
        places = (f"--datadir={self.folder / 'data'}", f"--tmpdir={self.folder}")
        options = ("--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db")
        command = [program("mariadb-install-db", package=_PACKAGE), *options, *places]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd="/", **unprivileged()
        )
        if done.returncode:
            message = f"mariadb-install-db failed: {done.stderr}"
            raise RuntimeError(message)

    def _answers(self) -> bool:
        return self._client("--execute=SELECT 1").returncode == 0

    def _client(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        mariadb = program("mariadb", package=_PACKAGE)
        command = [mariadb, "--no-defaults", f"--socket={self.socket}", "--user=root", *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True)


@functools.cache
def shared_server() -> MariaDBServer:
    """Return the server that the tests share, which runs until they end."""
    server = MariaDBServer()
    atexit.register(server.__exit__)
    return server.__enter__()


def empty_store() -> str:
    """Return the URL of a store in a database that nothing else uses, on the shared server."""
    server = shared_server()
    return server.url(server.new_database())


def reused_store() -> str:
    """Return the URL of an empty store on the shared server that earlier cases may have used."""
    return shared_server().url(_reused().take())


@functools.cache
def _reused() -> ReusedStores:
    server = shared_server()
    where = {"host": "127.0.0.1", "port": server.port, "user": "root", "autocommit": True}
    new = functools.partial(server.new_database, lasting=True)
    return ReusedStores(
        new,
        functools.partial(asyncmy.connect, **where),
        _delete,
        lambda connection: connection.ensure_closed(),
    )


async def _delete(connection: Any, database: str) -> None:  # noqa: ANN401 - asyncmy's own class
    async with connection.cursor() as cursor:
        await cursor.execute(f"SHOW TABLES FROM {database}")
        for (table,) in await cursor.fetchall():
            if not table.endswith("schema"):
                await cursor.execute(f"DELETE FROM {database}.{table}")  # noqa: S608 - written here
