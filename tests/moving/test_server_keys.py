"""Rows of a framework's database server whose keys have another type are named and left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncmy
import asyncpg
import pytest

from agent_cores.session.frameworks.importing import import_from
from agent_cores.session.storage.memory.provider import MemoryProvider
from tests.moving.sessions import everything
from tests.moving.test_damaged_rows import KEYS, SOURCES, Tables, Values
from tests.servers import mariadb, postgres

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.frameworks.writing import ImportTally

POSTGRES: dict[type, str] = {str: "text", int: "bigint", float: "float8", bytes: "bytea"}
MARIADB: dict[type, str] = {str: "varchar(100)", int: "bigint", float: "double", bytes: "longblob"}
KEYS_OF_SERVERS = {
    **KEYS,
    "langgraph as in PostgreSQL": {
        "checkpoints": KEYS["langgraph"]["checkpoints"],
        "checkpoint_writes": KEYS["langgraph"]["writes"],
        "checkpoint_blobs": ("thread_id", "checkpoint_ns", "channel", "version"),
    },
}
WITHOUT: dict[str, set[str]] = {
    "events": set(),
    "sessions": {"adk:app:ann:good"},
    "app_states": {"adk-app:app"},
    "user_states": {"adk-user:app:ann"},
    "checkpoint_writes": set(),
    "checkpoint_blobs": set(),
}
"""The sessions that are missing without the row of a table; all others, where it is not named."""


def statements(
    tables: Tables, types: Mapping[type, str], other: Mapping[tuple[str, str], str]
) -> list[tuple[str, Values]]:
    """Return what makes the tables with a good row each; some columns are of another type."""
    made: list[tuple[str, Values]] = []
    for table, row in tables.rows.items():
        columns = [
            f'"{name}" {other.get((table, name)) or types[str if value is None else type(value)]}'
            for name, value in row.items()
        ]
        made += [(f'CREATE TABLE "{table}" ({", ".join(columns)})', {})]
        made += [(f'INSERT INTO "{table}" VALUES', row)]
    return made


async def in_postgres(tables: Tables, other: dict[tuple[str, str], tuple[str, object]]) -> str:
    """Make the tables in a schema of their own, and return its URL."""
    server = postgres.shared_server()
    url = postgres.empty_store(server.url())
    schema = url.partition("database_schema=")[2]
    connection = await asyncpg.connect(server.url(), server_settings={"search_path": schema})
    await connection.execute(f"CREATE SCHEMA {schema}")
    types = {where: kind for where, (kind, _) in other.items()}
    for sql, row in statements(tables, POSTGRES, types):
        values = list(given(sql, row, other).values())
        marks = ", ".join(f"${number}" for number, _ in enumerate(values, 1))
        await connection.execute(f"{sql} ({marks})" if row else sql, *values)
    await connection.close()
    return f"{server.url()}?search_path={schema}"


async def in_mariadb(tables: Tables, other: dict[tuple[str, str], tuple[str, object]]) -> str:
    """Make the tables in a database of their own, and return its URL."""
    url = mariadb.empty_store()
    parts = urlsplit(url)
    connection = await asyncmy.connect(
        host=parts.hostname,
        port=parts.port,
        user=parts.username,
        db=parts.path.lstrip("/"),
        autocommit=True,
        init_command="SET SESSION sql_mode = 'ANSI_QUOTES'",
    )
    types = {where: kind for where, (kind, _) in other.items()}
    async with connection.cursor() as cursor:
        for sql, row in statements(tables, MARIADB, types):
            values = list(given(sql, row, other).values())
            marks = ", ".join("%s" for _ in values)
            await cursor.execute(f"{sql} ({marks})" if row else sql, values)
    await connection.ensure_closed()
    return url


def given(sql: str, row: Values, other: dict[tuple[str, str], tuple[str, object]]) -> Values:
    """Return a row with the values of the columns that are of another type."""
    table = sql.split('"')[1]
    return row | {name: value for (of, name), (_, value) in other.items() if of == table and row}


MADE: dict[str, Any] = {
    "postgres": (in_postgres, "bytea", SOURCES.keys() - {"langgraph"}),
    "mariadb": (in_mariadb, "varbinary(9)", {"google-adk"}),
}
CASES = [(server, name) for server, (*_, names) in MADE.items() for name in sorted(names)]


async def brought(tables: Tables, source: str) -> tuple[ImportTally, set[str]]:
    store = MemoryProvider()
    tally = await import_from(tables.framework, source, store, user="ann")
    return tally, {session_id for _, session_id in await everything(store)}


@pytest.mark.parametrize(("server", "name"), CASES)
async def test_rows_with_a_binary_key_are_named_and_the_others_imported(
    server: str, name: str
) -> None:
    tables, (make, binary, _) = SOURCES[name], MADE[server]
    for table, columns in KEYS_OF_SERVERS[name].items():
        for column in columns:
            source = await make(tables, {(table, column): (binary, b"\xff")})
            tally, stored = await brought(tables, source)
            ends = [each for each in tally.left_out.names if each.endswith(f"{column} is binary")]
            assert [each.startswith(f"a row of {table}") for each in ends] == [True], (
                table,
                column,
            )
            assert stored == tables.sessions - WITHOUT.get(table, tables.sessions), (table, column)


async def test_a_key_of_another_type_is_named_and_the_tables_beside_it_are_imported() -> None:
    good = SOURCES["openai-agents"]
    rows = {**good.rows, "others": good.rows["items"]}
    both = Tables("openai-agents", rows, good.sessions)
    for kind, value, problem in (
        ("uuid", UUID(int=7), "no text"),
        ("bigint", 7, "a number"),
        ("bytea", b"good", "binary"),
    ):
        source = await in_postgres(both, {("others", "session_id"): (kind, value)})
        tally, stored = await brought(both, source)
        assert stored == {"good"}
        assert tally.left_out.names == [
            f"a row of others with created_at , id 1: session_id is {problem}"
        ]
