"""Connections to one SQLite file: how they are opened, run steps, and check whose file it is.

A file that is damaged, or belongs to another program or a newer schema, is detected before anything
is written to it.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw

from agent_cores.session.backoff import Backoff
from agent_cores.session.errors import StorageUnavailableError, StoreFormatError
from agent_cores.session.models.values import encode_json
from agent_cores.session.storage.sql.dialect import Statement
from agent_cores.session.storage.sql.schema import OLDEST_PROGRAM, numbered_files
from agent_cores.session.storage.sqlite.errors import BUSY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent_cores.session.storage.sql.dialect import Rows, Step
    from agent_cores.session.storage.sqlite.queries import Queries

Row = tuple[Any, ...]

APPLICATION_ID = 0x41435331
"""``ACS1`` in the file's header marks it as one of ours."""

_CHECKPOINT_PAGES = 4_000
_LARGEST_WAL_LEFT = 64 * 1024 * 1024
_CACHE_KIB = 16 * 1024
_LONGEST_PAUSE = 0.05


def fetch(connection: apsw.Connection, statement: str, bindings: Sequence[Any] = ()) -> list[Row]:
    """Return all rows of a statement."""
    return connection.execute(statement, bindings).fetchall()


_OF_TAGS = frozenset({Statement.ADD_OWNED, Statement.REMOVE_OWNED})
_LAZY = frozenset({Statement.MESSAGES_AFTER, Statement.MESSAGES_BEFORE, Statement.MESSAGES_CAPPED})


class Steps:
    """Runs steps on one connection, inside a transaction that is open there."""

    def __init__(self, connection: apsw.Connection, queries: Queries) -> None:
        self._connection = connection
        self._queries = queries
        self._many = connection.cursor().executemany

    def run(self, step: Step) -> Rows:
        """Run one step; rows of messages are read from the file lazily."""
        statement, rows = step.statement, step.rows
        if statement is Statement.UPDATE_HEADERS:
            return self._fetch(self._queries.update_headers(step.fields), rows)
        if len(rows) > 1 and statement in self._queries.lookups:
            return self._look_up(self._queries.lookups[statement], rows)
        if statement in self._queries.purge:
            return self._purge(self._queries.purge[statement], rows)
        text = self._queries.texts.get(statement)
        if text is None:
            return ()  # a trigger does it
        if statement in _LAZY:
            return self._connection.execute(text, rows[0])
        if statement in _OF_TAGS:
            rows = [row for row in rows if row[1]]
        elif statement is Statement.FIND_OWNED and rows[0][3]:
            text = self._queries.find_tagged
        return self._fetch(text, rows)

    def _fetch(self, text: str, rows: Sequence[Row]) -> Rows:
        return self._many(text, rows).fetchall()

    def _look_up(self, text: str, rows: Sequence[Row]) -> Rows:
        """Look up many rows by one statement, as each statement releases the GIL."""
        return fetch(self._connection, text, [encode_json(rows).decode()])

    def _purge(self, text: str, rows: Sequence[Row]) -> Rows:
        keys = encode_json([key for key, _ in rows]).decode()
        self._fetch(text, [(keys, rows[0][1])])
        return [(self._connection.changes(),)]


def open_reader(path: Path, timeout: float) -> apsw.Connection:
    """Open a read-only connection."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(int(timeout * 1000))
    _prepare_once(connection)
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def _prepare_once(connection: apsw.Connection) -> None:
    """Keep the plan of a statement: otherwise each new value makes SQLite prepare it anew."""
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def open_writer(path: Path, timeout: float, synchronous: str) -> apsw.Connection:
    """Open the writing connection; create the file if needed, and switch it to WAL."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(int(timeout * 1000))
    _prepare_once(connection)
    _switch_to_wal(connection, path, timeout)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {_LARGEST_WAL_LEFT}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def _switch_to_wal(connection: apsw.Connection, path: Path, timeout: float) -> None:
    """Switch to WAL; SQLite does not wait by itself when several processes switch concurrently."""
    backoff = Backoff(until=time.monotonic() + timeout, longest=_LONGEST_PAUSE)
    mode = None
    while mode is None:
        try:
            [(mode,)] = fetch(connection, "PRAGMA journal_mode = WAL")
        except BUSY:
            if not backoff.block():
                raise
    if mode != "wal":
        raise StorageUnavailableError(
            f"{path} lies on a file system without shared memory, which SQLite's WAL needs"
        )


def stored_version(path: Path, prefix: str, timeout: float) -> int:
    """Return the version of a file's tables, 0 if there are none. Writes nothing.

    Raises ``StoreFormatError`` for a file that is damaged, not ours, or too new for this program.
    """
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with closing(open_reader(path, timeout)) as connection:
        version = _version(connection, path, prefix)
        if version:
            _look_into_tables(connection, prefix)
        return version


def apply_schema(connection: apsw.Connection, path: Path, prefix: str) -> None:
    """Upgrade the tables to this program's schema. Safe for concurrent processes."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection, path, prefix)  # another process may have come first
        newest = newest_version()
        if version < newest:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(
                f'CREATE TABLE IF NOT EXISTS "{prefix}schema"'
                " (version INTEGER NOT NULL, oldest_program INTEGER NOT NULL) STRICT"
            )
            for number, text in numbered_files("sqlite"):
                if number > version:
                    connection.execute(text.replace("{prefix}", prefix))
            connection.execute(f'DELETE FROM "{prefix}schema"')  # noqa: S608 - letters and digits
            connection.execute(
                f'INSERT INTO "{prefix}schema" VALUES (?, ?)',  # noqa: S608 - as above
                (newest, OLDEST_PROGRAM),
            )
    except BaseException:
        if connection.in_transaction:  # some errors end it by themselves
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def newest_version() -> int:
    """Return the version of the schema that this program creates."""
    return numbered_files("sqlite")[-1][0]


def _version(connection: apsw.Connection, path: Path, prefix: str) -> int:
    [(application_id,)] = fetch(connection, "PRAGMA application_id")
    tables = {name for (name,) in fetch(connection, "SELECT name FROM sqlite_schema")}
    if tables and application_id != APPLICATION_ID:
        raise StoreFormatError(f"{path} belongs to another program; give another path")
    if f"{prefix}schema" not in tables:
        return 0
    rows = fetch(
        connection,
        f'SELECT version, oldest_program FROM "{prefix}schema"',  # noqa: S608 - letters and digits
    )
    if len(rows) != 1:
        raise StoreFormatError(f"{path} is damaged: it does not say which schema it has")
    version, oldest_program = rows[0]
    if oldest_program > newest_version():
        raise StoreFormatError(
            f"{path} has schema {version}, which needs a program that knows schema"
            f" {oldest_program}; this one knows {newest_version()}: install a newer release"
        )
    return int(version)


def _look_into_tables(connection: apsw.Connection, prefix: str) -> None:
    """Read the start of every table: cheap at any size, and it reveals most damage."""
    for table in ("sessions", "messages", "context", "tags", "shares", "deleted", "counters"):
        fetch(
            connection,
            f'SELECT 1 FROM "{prefix}{table}" NOT INDEXED LIMIT 1',  # noqa: S608 - letters and digits
        )


def free_bytes(path: Path) -> float:
    """Return how many bytes this user may still write on the file's disk; infinity if unknown."""
    if not hasattr(os, "statvfs"):
        return math.inf
    try:
        disk = os.statvfs(path)
    except OSError as error:
        raise StorageUnavailableError(f"{path} is no longer there: {error.strerror}") from error
    blocks = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    return blocks * disk.f_frsize if disk.f_blocks else math.inf  # zero: not the size of a disk
