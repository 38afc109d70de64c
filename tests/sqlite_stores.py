"""Helpers of the SQLite store's tests: providers, sessions, and the raw rows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import msgspec

from agent_cores.session.models.times import from_millis
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from agent_cores.session.testing.samples import change_of, creation, new_header, new_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent_cores.session.models import Applied, Change, SessionMetadata

NOON = from_millis(1_800_000_000_000)


@asynccontextmanager
async def opened(
    path: Path,
    **options: Any,  # noqa: ANN401 - arguments of SQLiteProvider
) -> AsyncIterator[SQLiteProvider]:
    """Open a store until the end of the block."""
    provider = SQLiteProvider(path, **options)
    await provider.initialize()
    try:
        yield provider
    finally:
        await provider.shutdown()


async def create(
    provider: SQLiteProvider,
    session_id: str = "talk",
    **fields: Any,  # noqa: ANN401 - fields of the header
) -> SessionMetadata:
    applied = await provider.apply(creation(new_header(session_id, at=NOON, **fields)))
    return applied.header


async def all_of(provider: SQLiteProvider, *changes: Change) -> list[Applied | BaseException]:
    """Apply changes in one batch."""
    return await asyncio.gather(
        *(provider.apply(change) for change in changes), return_exceptions=True
    )


def append(
    header: SessionMetadata,
    *names: str,
    **guards: Any,  # noqa: ANN401 - guards of Change
) -> Change:
    """Return a change that appends a message under each name, decided on that header."""
    at = guards.pop("at", NOON)
    return change_of(
        header,
        at,
        basis=header,
        access_revision=header.access_revision,
        append=tuple(new_message(name, at=at) for name in names),
        **guards,
    )


def rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables, as they are in the file."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        found: dict[str, list[dict[str, Any]]] = {}
        for (table,) in tables:
            columns = [
                str(name)
                for _, name, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall()
            ]
            found[str(table)] = [
                dict(zip(columns, row, strict=True))
                for row in connection.execute(f'SELECT * FROM "{table}"').fetchall()  # noqa: S608
            ]
        return found


def without_attributes(header: SessionMetadata) -> SessionMetadata:
    """Return a header as the manager caches it."""
    return msgspec.structs.replace(header, attributes={}, title=None, tags=())


def python(code: str, *arguments: object, stdin: int | None = None) -> subprocess.Popen[str]:
    """Start a separate Python process."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        stdin=stdin,
    )
