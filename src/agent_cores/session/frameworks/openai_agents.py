"""Sessions of OpenAI's Agents SDK: ``SQLiteSession``, ``SQLAlchemySession`` and their relatives.

A table with ``session_id`` and ``message_data`` holds items, whatever its name. Sessions are as
``OpenAIAgentsSession`` stores them. Of an ``AdvancedSQLiteSession`` with branches, the items of all
branches are in one table; which belong to a branch, and usage, are not imported.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from agent_cores.session.adapters.ids import id_of
from agent_cores.session.adapters.layouts.openai_agents import role_of
from agent_cores.session.errors import StoreFormatError
from agent_cores.session.frameworks.databases import (
    Database,
    Needed,
    count_distinct,
    is_sqlite,
    open_database,
    walk,
)
from agent_cores.session.frameworks.found import FoundMessage, FoundSession, Given, LeftOut
from agent_cores.session.frameworks.keys import rows_without
from agent_cores.session.frameworks.values import DamagedError, object_of, time_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_COLUMNS = {"id", "session_id", "message_data", "created_at"}
_SESSIONS = 200


@asynccontextmanager
async def open_reader(given: Given) -> AsyncIterator[OpenAIAgentsReader]:
    """Open a store."""
    async with open_database(given.source) as database:
        columns = await database.columns()
        tables = sorted(name for name, held in columns.items() if held >= _COLUMNS)
        if not tables:
            raise StoreFormatError("the source has no table of the Agents SDK's items")
        order = ["id"] if is_sqlite(given.source) else ["created_at", "id"]
        yield OpenAIAgentsReader(database, tables, given.owner, order)


class OpenAIAgentsReader:
    """Reads the items of each session in the order that the SDK has."""

    def __init__(self, database: Database, tables: list[str], owner: str, order: list[str]) -> None:
        self._database = database
        self._tables = tables
        self._owner = owner
        self._order = order
        self._needed = Needed(("session_id",), tuple(order))

    async def total(self) -> int:
        """Return how many sessions have items."""
        return await count_distinct(self._database, self._tables, "session_id")

    async def sessions(self) -> AsyncIterator[FoundSession | LeftOut]:
        """Yield the sessions that have items."""
        for table in self._tables:
            async for left_out in rows_without(self._database, table, self._needed):
                yield left_out
            key, needed = ["session_id"], self._needed
            async for (name,) in walk(self._database, table, key, needed=needed, size=_SESSIONS):
                yield FoundSession(
                    session_id=id_of(name),
                    owner_id=self._owner,
                    messages=partial(self._messages, table, name),
                )

    async def _messages(self, table: str, name: str) -> AsyncIterator[FoundMessage | LeftOut]:
        columns = "id", "message_data", "created_at"
        where, needed = {"session_id": name}, self._needed
        rows = walk(self._database, table, self._order, columns, where=where, needed=needed)
        async for row in rows:
            number, data, created_at = row[-len(columns) :]
            try:
                item = object_of(data)
            except DamagedError as error:
                yield LeftOut(f"item {number}", str(error))
                continue
            yield FoundMessage(
                id=id_of(f"imported:{number}"),
                role=role_of(item),
                content=item,
                created_at=time_of(created_at),
            )
