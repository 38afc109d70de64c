"""The servers that some contenders need: each contender's process gets its own.

They are those of the tests: Valkey and PostgreSQL from their wheels, MariaDB from Debian, on a free
port of 127.0.0.1, in a folder that is removed with them. A contender, in either environment, finds
the address in `ADDRESS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.entries import Server
from benchmarks.store import ADDRESS


@contextmanager
def running(server: Server | None) -> Iterator[dict[str, str]]:
    """Start a server, and stop it at the end; yield additions to the contender's environment."""
    if server is None:
        yield {}
    elif server == "valkey":
        from tests.servers.redis import RedisServer

        with RedisServer() as valkey:
            yield {ADDRESS: valkey.url}
    elif server == "mariadb":
        from tests.servers.mariadb import MariaDBServer

        with MariaDBServer() as mariadb:
            yield {ADDRESS: mariadb.url("").rstrip("/")}
    else:
        from tests.servers.postgres import PostgresServer

        with PostgresServer() as postgres:
            yield {ADDRESS: postgres.url()}
