"""The tables in PostgreSQL: their names, and how numbered files make them.

The schema table holds ``version``, the number of the last file applied, and ``oldest_program``, the
oldest schema that a program must know to use the store, so that adjacent releases run side by side.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent_cores.session.errors import StoreFormatError
from agent_cores.session.storage.sql.schema import numbered_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.storage.postgres.connection import Database, Transaction
    from agent_cores.session.storage.sql.names import Names

logger = logging.getLogger("agent_cores.session")

OLDEST_PROGRAM = 1
"""The oldest schema whose programs can still work with the schema of this one."""

_DIALECT = "postgres"
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_SCHEMA_KNOWN = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS known"
_TABLE_KNOWN = """
SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = $2) AS known
"""  # not to_regclass, which may answer from before the wait for the lock
_COLUMNS = """
SELECT a.attname::text
FROM pg_class t
JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid
WHERE n.nspname = $1 AND t.relname = $2 AND t.relkind IN ('r', 'p')
  AND a.attnum > 0 AND NOT a.attisdropped
"""
_OURS = {
    "schema": frozenset({"version", "oldest_program"}),
    "sessions": frozenset({"session_key", "incarnation", "access_revision", "due_at"}),
}
"""Columns by which a store is known, whatever else its tables hold."""
_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS {schema}."{prefix}schema" (
    version integer NOT NULL,
    oldest_program integer NOT NULL
)
"""
_GET_VERSION = 'SELECT version, oldest_program FROM {schema}."{prefix}schema"'
_SET_VERSION = 'INSERT INTO {schema}."{prefix}schema" VALUES ($1, $2)'


async def check_schema(database: Database, wanted: Sequence[Names], deadline: float) -> None:
    """Raise ``StoreFormatError`` unless the tables are there and this program may use them."""
    newest = numbered_files(_DIALECT)[-1][0]
    async with database.transaction(deadline=deadline) as transaction:
        names = await _find_store(database, transaction, wanted)
        version = await _version(transaction, names)
    if version < newest:
        raise StoreFormatError(
            f"the tables are at schema {version}, this program needs {newest}; "
            "run: agent-sessions migrate"
        )


async def apply_schema(database: Database, wanted: Sequence[Names], deadline: float) -> None:
    """Bring the tables up to this program's schema. Any number of processes may do so at once."""
    files = numbered_files(_DIALECT)
    newest = files[-1][0]
    async with database.transaction(deadline=deadline) as transaction:
        names = await _find_store(database, transaction, wanted)
        if await _version(transaction, names) >= newest:
            return
    async with database.transaction(deadline=deadline) as transaction:
        await transaction.execute(_LOCK, f"agent-cores-session {names.schema}")
        names = await _find_store(database, transaction, wanted)
        version = await _version(transaction, names)
        if version >= newest:
            return
        if not (await transaction.fetch(_SCHEMA_KNOWN, names.schema))[0]["known"]:
            await transaction.execute("CREATE SCHEMA {schema}")
        await transaction.execute(_CREATE_TABLE)
        for number, text in files:
            if number > version:
                await transaction.execute(text)
        await transaction.execute('DELETE FROM {schema}."{prefix}schema"')
        await transaction.execute(_SET_VERSION, newest, OLDEST_PROGRAM)


async def _find_store(
    database: Database, transaction: Transaction, wanted: Sequence[Names]
) -> Names:
    """Take the first of these names under which a store of ours is there, else the first.

    So a store from before there was a default prefix goes on being used, and tables of others
    under its names are left alone.
    """
    names = wanted[0]
    if len(wanted) > 1:
        found = [each for each in wanted if await _is_ours(transaction, each)]
        names = (found or [names])[0]
        if len(found) > 1:
            logger.warning(
                "there are stores under the table prefixes %s; the first is used, "
                "unless SESSION_TABLE_PREFIX or table_prefix in the URL names another",
                ", ".join(repr(each.prefix) for each in found),
            )
    database.use(names)
    return names


async def _is_ours(transaction: Transaction, names: Names) -> bool:
    """Whether the tables under these names have the columns that only ours have."""
    for table, columns in _OURS.items():
        found = await transaction.fetch(_COLUMNS, names.schema, f"{names.prefix}{table}")
        if not columns.issubset(row["attname"] for row in found):
            return False
    return True


async def _version(transaction: Transaction, names: Names) -> int:
    """Return the version of the tables, 0 where there are none; refuse to be too old for them."""
    table = names.schema, f"{names.prefix}schema"
    if not (await transaction.fetch(_TABLE_KNOWN, *table))[0]["known"]:
        return 0
    newest = numbered_files(_DIALECT)[-1][0]
    for row in await transaction.fetch(_GET_VERSION):
        if row["oldest_program"] > newest:
            raise StoreFormatError(
                f"the tables are at schema {row['version']} and need a program that knows schema "
                f"{row['oldest_program']}; this one knows {newest}: upgrade agent-cores-session"
            )
        return int(row["version"])
    return 0
