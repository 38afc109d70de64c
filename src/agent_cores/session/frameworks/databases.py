"""``open_database``: a framework's SQL database, to be read and nothing else.

SQLite, PostgreSQL, MySQL and MariaDB, by the same URLs as SQLAlchemy has; ``sqlite`` may be a path.
A page is read at a time, so no lock is held in between.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import asynccontextmanager
from itertools import count, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from agent_cores.session.errors import (
    ConfigurationError,
    MissingDependencyError,
    StorageUnavailableError,
    StoreFormatError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

Row = tuple[Any, ...]
PATIENCE = 5.0
"""Seconds to wait for whoever writes to an SQLite file."""
_WAL = 2
"""What bytes 18 and 19 of an SQLite database in WAL mode are."""
_PRIMARY = 0xFF
"""The bits of SQLite's error codes that say which error it is, without its kind."""
_FIRST, _PAGE_BYTES = 10, 1 << 20
"""Rows of the first page; bytes of a page from which the next one has fewer rows."""
_NO_URL = "the URL of the source is not valid; signs in its password may need percent-encoding"
EVERYWHERE: Mapping[str, object] = {}
_COLUMNS = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = {schema}() ORDER BY table_name
"""


class Needed(NamedTuple):
    """Columns without which a row cannot be read: those of text, and those that order rows."""

    texts: tuple[str, ...] = ()
    order: tuple[str, ...] = ()


NOTHING = Needed()


class Database(Protocol):
    """Reads rows. In SQL a parameter is ``?``, and names are in double quotes."""

    async def rows(self, sql: str, *values: object) -> Sequence[Row]:
        """Return the rows of one page."""

    async def columns(self) -> dict[str, set[str]]:
        """Return the columns of each table."""

    def conditions(self, needed: Needed) -> list[str]:
        """Return the conditions in SQL under which a row has what is needed; none is NULL."""


async def walk(
    database: Database,
    table: str,
    key: Sequence[str],
    columns: Sequence[str] = (),
    *,
    where: Mapping[str, object] = EVERYWHERE,
    needed: Needed = NOTHING,
    size: int = 100,
) -> AsyncIterator[Row]:
    """Yield the rows of a table in the order of a key: the key's columns, then the others.

    ``where`` says what columns are equal to; rows without what is ``needed`` are left out. At most
    ``size`` rows are read at a time, fewer of large ones. Without other columns each key comes
    once. Raises ``StoreFormatError`` at a key that is missing or binary.
    """
    keys, chosen = quoted(*key), quoted(*key, *columns)
    equal = [f"{quoted(column)} = ?" for column in where] + database.conditions(needed)
    distinct = "" if columns else "DISTINCT "
    after: Row = ()
    limit = min(size, _FIRST)
    while True:
        marks = ", ".join("?" for _ in after)
        conditions = " AND ".join([*equal, f"({keys}) > ({marks})"] if after else equal)
        rows = await database.rows(
            f"SELECT {distinct}{chosen} FROM {quoted(table)}"  # noqa: S608 - names of the schema
            f"{conditions and ' WHERE '}{conditions} ORDER BY {keys} LIMIT {limit}",
            *where.values(),
            *after,
        )
        for row in rows:
            if any(value is None or isinstance(value, bytes) for value in row[: len(key)]):
                named = " or ".join(key)
                raise StoreFormatError(f"{table} has a row in which {named} is missing or binary")
            yield row
        if len(rows) < limit:
            return
        after = rows[-1][: len(key)]
        held = sum(len(value) for row in rows for value in row if isinstance(value, str | bytes))
        limit = min(size, 2 * limit) if held < _PAGE_BYTES else max(1, limit // 2)


def quoted(*names: str) -> str:
    """Return names as SQL has them. Those of a schema may be any text."""
    doubled = [name.replace('"', '""') for name in names]
    return ", ".join(f'"{name}"' for name in doubled)


def _marked(sql: str, marks: Iterator[str]) -> str:
    """Return SQL with a driver's marks for ``?``, except in names."""
    return re.sub(r'"[^"]*"|\?', lambda found: next(marks) if found[0] == "?" else found[0], sql)


@asynccontextmanager
async def open_database(source: str) -> AsyncIterator[Database]:
    """Open a database by path or URL. Raises ``StorageUnavailableError``."""
    scheme = source.partition("://")[0].partition("+")[0]
    if is_sqlite(source):
        opened = _open_sqlite(source)
    elif scheme in {"postgresql", "postgres"}:
        opened = _open_postgres(source)
    elif scheme in {"mysql", "mariadb"}:
        opened = _open_mysql(source)
    else:
        raise ConfigurationError(
            f"{scheme}:// is not read; give a file, or sqlite://, postgresql:// or mysql://"
        )
    async with opened as database:
        yield database


def is_sqlite(source: str) -> bool:
    """Whether a source is a file, not a server."""
    return "://" not in source or re.match(r"sqlite(\+\w+)?://", source) is not None


class _SQLite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def conditions(self, needed: Needed) -> list[str]:
        """A column may hold values of any type, whatever it was made for."""
        texts = [f"typeof({quoted(name)}) = 'text'" for name in needed.texts]
        return [
            *texts,
            *[f"typeof({quoted(name)}) NOT IN ('null', 'blob')" for name in needed.order],
        ]

    async def rows(self, sql: str, *values: object) -> Sequence[Row]:
        bound = [_bound(value) for value in values]
        marks = iter("CAST(? AS TEXT)" if isinstance(value, bytes) else "?" for value in bound)
        try:
            return self._connection.execute(_marked(sql, marks), bound).fetchall()
        except (sqlite3.Error, UnicodeError) as error:
            if getattr(error, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_BUSY:
                raise StorageUnavailableError("the source is being written to") from error
            raise StoreFormatError(f"the source cannot be read: {error}") from error

    async def columns(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for (table,) in await self.rows("SELECT name FROM sqlite_schema WHERE type = 'table'"):
            rows = await self.rows("SELECT name FROM pragma_table_info(?)", table)
            found[table] = {name for (name,) in rows}
        return found


@asynccontextmanager
async def _open_sqlite(source: str) -> AsyncIterator[Database]:
    path = sqlite_path(source)
    try:
        url = f"{path.as_uri()}?{_mode(path)}"
        connection = sqlite3.connect(url, uri=True, timeout=PATIENCE)
    except (sqlite3.Error, OSError) as error:
        raise StorageUnavailableError(f"{path} cannot be read: {error}") from error
    # Damaged text is found when it is decoded, row by row.
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        yield _SQLite(connection)
    finally:
        connection.close()


def _bound(value: object) -> Any:  # noqa: ANN401 - what sqlite3 takes
    """Return a value to bind: damaged text as its bytes."""
    if not isinstance(value, str):
        return value
    encoded = value.encode("utf-8", "surrogateescape")
    return encoded if any("\ud800" <= character <= "\udfff" for character in value) else value


def sqlite_path(source: str) -> Path:
    """Return the file of an SQLite URL, ``sqlite:///relative`` or ``sqlite:////absolute``."""
    if "://" in source:
        source = unquote(source.partition("://")[2].partition("?")[0].removeprefix("/"))
    path = Path(source).expanduser().absolute()
    if not path.is_file():
        raise ConfigurationError(f"{path} is not a file")
    return path


def _mode(path: Path) -> str:
    """Return how to open a file so that nothing is written, not even next to it.

    One in WAL mode without a log is closed; opening it ``ro`` would make a log, and leave it there.
    """
    with path.open("rb") as file:
        head = file.read(20)
    is_closed = head[18:20] == bytes([_WAL, _WAL]) and not Path(f"{path}-wal").exists()
    return "immutable=1" if is_closed else "mode=ro"


class _Postgres:
    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - asyncpg's
        self._connection = connection

    def conditions(self, needed: Needed) -> list[str]:
        return _not_null(needed)

    async def rows(self, sql: str, *values: object) -> Sequence[Row]:
        numbered = _marked(sql, map("${}".format, count(1)))
        return [tuple(row) for row in await self._connection.fetch(numbered, *values)]

    async def columns(self) -> dict[str, set[str]]:
        return _by_table(await self.rows(_COLUMNS.format(schema="current_schema")))


@asynccontextmanager
async def _open_postgres(source: str) -> AsyncIterator[Database]:
    try:
        import asyncpg  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise MissingDependencyError("asyncpg", "postgres") from error
    url = re.sub(r"^\w+(\+\w+)?://", "postgresql://", source)
    read_only = {"default_transaction_read_only": "on"}
    try:
        connection = await asyncpg.connect(url, server_settings=read_only)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StorageUnavailableError(f"the source cannot be reached: {error}") from error
    except ValueError as error:
        raise ConfigurationError(_NO_URL) from error
    try:
        yield _Postgres(connection)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StoreFormatError(f"the source cannot be read: {error}") from error
    finally:
        await connection.close()


class _MySQL:
    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - asyncmy's
        self._connection = connection

    def conditions(self, needed: Needed) -> list[str]:
        return _not_null(needed)

    async def rows(self, sql: str, *values: object) -> Sequence[Row]:
        async with self._connection.cursor() as cursor:
            await cursor.execute(_marked(sql.replace("%", "%%"), repeat("%s")), values)
            rows: Sequence[Row] = await cursor.fetchall()
            return rows

    async def columns(self) -> dict[str, set[str]]:
        return _by_table(await self.rows(_COLUMNS.format(schema="database")))


@asynccontextmanager
async def _open_mysql(source: str) -> AsyncIterator[Database]:
    try:
        import asyncmy  # noqa: PLC0415 - needs an extra
        from asyncmy.errors import MySQLError  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise MissingDependencyError("asyncmy", "mysql") from error
    url = urlsplit(source)
    try:
        connection = await asyncmy.connect(
            host=url.hostname or "localhost",
            port=url.port or 3306,
            user=unquote(url.username or ""),
            password=unquote(url.password or ""),
            db=unquote(url.path.lstrip("/")),
            charset="utf8mb4",
            autocommit=True,
            init_command="SET SESSION sql_mode = 'ANSI_QUOTES'",
        )
    except (OSError, MySQLError) as error:
        raise StorageUnavailableError(f"the source cannot be reached: {error}") from error
    except ValueError as error:
        raise ConfigurationError(_NO_URL) from error
    try:
        database = _MySQL(connection)
        await database.rows("SET SESSION TRANSACTION READ ONLY")
        yield database
    except MySQLError as error:
        raise StoreFormatError(f"the source cannot be read: {error}") from error
    finally:
        connection.close()


def _not_null(needed: Needed) -> list[str]:
    return [f"{quoted(name)} IS NOT NULL" for name in (*needed.texts, *needed.order)]


def _by_table(rows: Sequence[Row]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table, column in rows:
        found.setdefault(table, set()).add(column)
    return found
