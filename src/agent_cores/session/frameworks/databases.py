"""``open_database``: a framework's SQL database, to be read and nothing else.

SQLite, PostgreSQL, MySQL and MariaDB, by the same URLs as SQLAlchemy has; ``sqlite`` may be a path.
A page is read at a time, so no lock is held in between.
"""

from __future__ import annotations

import re
import sqlite3
from abc import ABC, abstractmethod
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
    from collections.abc import AsyncIterator, Container, Iterator, Mapping, Sequence

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
NEVER = "1 = 0"
"""The condition of a column whose values cannot be read."""
_BINARY = {"bytea", "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "bit"}
_COLUMNS = """
    SELECT table_name, column_name, data_type FROM information_schema.columns
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

    def conditions(self, table: str, needed: Needed) -> list[str]:
        """Return the conditions in SQL under which a row has what is needed; none is NULL.

        ``NEVER`` is one of them if no value of a column's type can be what is needed.
        """


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
    has_needed = database.conditions(table, needed)
    if NEVER in has_needed:  # and a text for such a column would be refused
        return
    keys, chosen = quoted(*key), quoted(*key, *columns)
    equal = [f"{quoted(column)} = ?" for column in where] + has_needed
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


async def count_distinct(database: Database, tables: Sequence[str], column: str) -> int:
    """Return how many values a column has, counted in each table and added up."""
    count = 0
    for table in tables:
        sql = f"SELECT COUNT(DISTINCT {quoted(column)}) FROM {quoted(table)}"  # noqa: S608 - names
        [(found,)] = await database.rows(sql)
        count += found
    return count


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

    def conditions(self, table: str, needed: Needed) -> list[str]:
        """A column may hold values of any type, whatever it was made for."""
        del table
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


class _Server(ABC):
    """A database server. The type of a column says what its rows can hold."""

    _schema: str
    _texts: Container[str]
    """The types of columns that the driver reads as text."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - the driver's own
        self._connection = connection
        self._types: dict[str, dict[str, str]] = {}

    @abstractmethod
    async def rows(self, sql: str, *values: object) -> Sequence[Row]: ...

    async def load(self) -> None:
        """Read what tables there are."""
        for table, column, kind in await self.rows(_COLUMNS.format(schema=self._schema)):
            self._types.setdefault(table, {})[column] = kind

    async def columns(self) -> dict[str, set[str]]:
        return {table: set(types) for table, types in self._types.items()}

    def conditions(self, table: str, needed: Needed) -> list[str]:
        types = self._types[table]
        is_text = all(types[name] in self._texts for name in needed.texts)
        if not is_text or any(types[name] in _BINARY for name in needed.order):
            return [NEVER]
        return [f"{quoted(name)} IS NOT NULL" for name in (*needed.texts, *needed.order)]


class _Postgres(_Server):
    _schema = "current_schema"
    _texts = ("text", "character varying", "character", "name", "USER-DEFINED")

    async def rows(self, sql: str, *values: object) -> Sequence[Row]:
        numbered = _marked(sql, map("${}".format, count(1)))
        return [tuple(row) for row in await self._connection.fetch(numbered, *values)]


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
        database = _Postgres(connection)
        await database.load()
        yield database
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StoreFormatError(f"the source cannot be read: {error}") from error
    finally:
        await connection.close()


class _MySQL(_Server):
    _schema = "database"
    _texts = ("varchar", "char", "text", "tinytext", "mediumtext", "longtext", "enum", "uuid")

    async def rows(self, sql: str, *values: object) -> Sequence[Row]:
        async with self._connection.cursor() as cursor:
            await cursor.execute(_marked(sql.replace("%", "%%"), repeat("%s")), values)
            rows: Sequence[Row] = await cursor.fetchall()
            return rows


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
        await database.load()
        yield database
    except MySQLError as error:
        raise StoreFormatError(f"the source cannot be read: {error}") from error
    finally:
        connection.close()
