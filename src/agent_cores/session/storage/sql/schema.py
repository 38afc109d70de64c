"""The tables: numbered files that create them, their versions, and which programs may use them.

``<dialect>/schema/NNN_name.sql`` are applied in order. The ``schema`` table holds ``version``, the
number of the last file applied, and ``oldest_program``, the oldest schema that a program must know
to use the store, so that adjacent releases run side by side.
"""

from __future__ import annotations

import logging
import re
from importlib.resources import files
from typing import TYPE_CHECKING

from agent_cores.session.errors import StoreFormatError
from agent_cores.session.storage.sql.dialect import Statement, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.storage.sql.database import Connection, Database
    from agent_cores.session.storage.sql.names import Names

logger: logging.Logger = logging.getLogger("agent_cores.session")

OLDEST_PROGRAM = 1
"""The oldest schema whose programs can still work with the schema of this one."""

_NAME = re.compile(r"(\d{3})_\w+\.sql")
_OURS = {
    "schema": frozenset({"version", "oldest_program"}),
    "sessions": frozenset({"session_key", "incarnation", "access_revision", "due_at"}),
}
"""Columns that identify a table of a store, which may have others."""


def numbered_files(dialect: str) -> list[tuple[int, str]]:
    """Return the number and the text of each schema file of a dialect, in order."""
    folder = files("agent_cores.session.storage") / dialect / "schema"
    found = [(_NAME.fullmatch(file.name), file) for file in folder.iterdir()]
    return sorted((int(m[1]), file.read_text(encoding="utf-8")) for m, file in found if m)


def newest_version(dialect: str) -> int:
    """Return the version of the schema that this program creates."""
    return numbered_files(dialect)[-1][0]


async def check_schema(
    database: Database, dialect: str, wanted: Sequence[Names], deadline: float
) -> None:
    """Raise ``StoreFormatError`` unless the tables exist and this program may use them."""
    newest = newest_version(dialect)
    async with database.transaction(deadline=deadline) as connection:
        version = await _version(connection, dialect, await _find(database, connection, wanted))
        if version < newest:
            raise StoreFormatError(
                f"the tables are at schema {version}, this program needs {newest}; "
                "run: agent-sessions migrate"
            )
        await connection.run(Step(Statement.WHOLE))


async def apply_schema(
    database: Database, dialect: str, wanted: Sequence[Names], deadline: float
) -> None:
    """Bring the tables up to this program's schema. Processes may do so concurrently.

    A table that is missing though the schema is up to date was lost with what it held, so it is not
    made again: that raises ``StoreFormatError``.
    """
    newest = newest_version(dialect)
    async with database.transaction(deadline=deadline) as connection:
        names = await _find(database, connection, wanted)
        if await _version(connection, dialect, names) >= newest:
            await connection.run(Step(Statement.WHOLE))
            return
    async with database.schema_lock(deadline) as connection:
        version = await _version(connection, dialect, await _find(database, connection, wanted))
        if version >= newest:
            return
        await database.prepare_schema(connection)
        for number, text in numbered_files(dialect):
            if number > version:
                await connection.script(text)
        await connection.run(Step(Statement.SET_VERSION, [(newest, OLDEST_PROGRAM)]))


async def _find(database: Database, connection: Connection, wanted: Sequence[Names]) -> Names:
    """Use the first of these names under which we have a store, else the first name.

    So a store that predates the default prefix stays in use, and other programs' tables of the same
    names are left alone.
    """
    names = wanted[0]
    if len(wanted) > 1:
        found = [each for each in wanted if await _is_ours(connection, each)]
        names = (found or [names])[0]
        if len(found) > 1:
            logger.warning(
                "there are stores under the table prefixes %s; the first is used, "
                "unless SESSION_TABLE_PREFIX or table_prefix in the URL names another",
                ", ".join(repr(each.prefix) for each in found),
            )
    database.use(names)
    return names


async def _is_ours(connection: Connection, names: Names) -> bool:
    """Whether the tables of these names have the columns that only ours have."""
    for table, columns in _OURS.items():
        if not columns.issubset(await _columns(connection, names, table)):
            return False
    return True


async def _columns(connection: Connection, names: Names, table: str) -> set[str]:
    place = names.schema, f"{names.prefix}{table}"
    return {name for (name,) in await connection.run(Step(Statement.COLUMNS, [place]))}


async def _version(connection: Connection, dialect: str, names: Names) -> int:
    """Return the version of the tables, 0 if there are none; raise if we are too old for them."""
    if not await _columns(connection, names, "schema"):
        return 0
    newest = newest_version(dialect)
    for version, oldest_program in await connection.run(Step(Statement.GET_VERSION)):
        if oldest_program > newest:
            raise StoreFormatError(
                f"the tables are at schema {version} and need a program that knows schema "
                f"{oldest_program}; this one knows {newest}: upgrade agent-cores-session"
            )
        return int(version)
    return 0
