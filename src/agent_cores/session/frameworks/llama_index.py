"""Chats of LlamaIndex: ``SQLAlchemyChatStore``, which ``Memory`` uses, and ``SimpleChatStore``.

A table with the columns of a chat store is one, whatever its name. Messages that the memory has
archived are imported, too, and say so in their metadata. A ``SimpleChatStore`` is one JSON file,
which is in memory as a whole, as it is in LlamaIndex.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from agent_cores.session.adapters.ids import id_of
from agent_cores.session.errors import StoreFormatError
from agent_cores.session.frameworks.databases import (
    Database,
    Needed,
    count_distinct,
    is_sqlite,
    open_database,
    sqlite_path,
    walk,
)
from agent_cores.session.frameworks.found import FoundMessage, FoundSession, Given, LeftOut
from agent_cores.session.frameworks.keys import rows_without
from agent_cores.session.frameworks.natural import (
    Part,
    content_of,
    openai_tool_calls,
    role_of,
    text_part,
    tool_result,
    tool_use,
)
from agent_cores.session.frameworks.values import DamagedError, object_of, time_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent_cores.session.frameworks.found import Reader

_COLUMNS = {"id", "key", "timestamp", "role", "status", "data"}
_ORDER = ("timestamp", "id")
_NEEDED = Needed(("key",), _ORDER)
_NANOSECONDS = 1_000_000_000
_MAGIC = b"SQLite format 3\x00"


@asynccontextmanager
async def open_reader(given: Given) -> AsyncIterator[Reader]:
    """Open a database, or the JSON file of a ``SimpleChatStore``."""
    if is_sqlite(given.source):
        path = sqlite_path(given.source)
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
        if head not in {_MAGIC, b""}:
            yield FileReader(path.read_bytes(), given.owner)
            return
    async with open_database(given.source) as database:
        columns = await database.columns()
        tables = sorted(name for name, held in columns.items() if held >= _COLUMNS)
        if not tables:
            raise StoreFormatError("the source has no table of LlamaIndex's chats")
        yield TableReader(database, tables, given.owner)


class TableReader:
    """Reads the chats of tables, messages by time."""

    def __init__(self, database: Database, tables: list[str], owner: str) -> None:
        self._database = database
        self._tables = tables
        self._owner = owner

    async def total(self) -> int:
        """Return how many chats there are."""
        return await count_distinct(self._database, self._tables, "key")

    async def sessions(self) -> AsyncIterator[FoundSession | LeftOut]:
        """Yield a session for each chat."""
        for table in self._tables:
            async for left_out in rows_without(self._database, table, _NEEDED):
                yield left_out
            chats = walk(self._database, table, ["key"], needed=_NEEDED, size=200)
            async for (key,) in chats:
                messages = partial(self._messages, table, key)
                yield FoundSession(session_id=id_of(key), owner_id=self._owner, messages=messages)

    async def _messages(self, table: str, key: str) -> AsyncIterator[FoundMessage | LeftOut]:
        columns = ["status", "data"]
        where = {"key": key}
        rows = walk(self._database, table, _ORDER, columns, where=where, needed=_NEEDED)
        async for at, number, status, data in rows:
            seconds = at / _NANOSECONDS if isinstance(at, int) else None
            yield _message(number, data, time_of(seconds), status)


class FileReader:
    """Reads the chats of a ``SimpleChatStore``, which has no times."""

    def __init__(self, data: bytes, owner: str) -> None:
        try:
            self._chats = object_of(object_of(data).get("store"))
        except DamagedError as error:
            raise StoreFormatError("the source is neither a database nor a chat store") from error
        self._owner = owner

    async def total(self) -> int:
        """Return how many chats there are."""
        return len(self._chats)

    async def sessions(self) -> AsyncIterator[FoundSession | LeftOut]:
        """Yield a session for each chat."""
        for key, chat in self._chats.items():
            if not isinstance(chat, list):
                yield LeftOut(f"chat {key}", "is not a list of messages")
                continue
            messages = partial(_all, chat)
            yield FoundSession(session_id=id_of(key), owner_id=self._owner, messages=messages)


async def _all(chat: list[Any]) -> AsyncIterator[FoundMessage | LeftOut]:
    for number, data in enumerate(chat):
        yield _message(number, data, None, "active")


def _message(number: object, data: object, at: Any, status: str) -> FoundMessage | LeftOut:  # noqa: ANN401 - a time, or none
    try:
        said = object_of(data)
    except DamagedError as error:
        return LeftOut(f"message {number}", str(error))
    blocks, extra = said.get("blocks"), said.get("additional_kwargs") or {}
    if not isinstance(blocks, list):  # before 0.12
        blocks = [{"block_type": "text", "text": said.get("content")}]
    parts = [*map(_part, blocks)]
    parts += [*openai_tool_calls(extra, parts)]
    if role_of(said.get("role")) == "tool" and isinstance(extra, dict):
        parts = [tool_result(extra.get("tool_call_id"), content_of(parts))]
    metadata = {"original": said} if extra else {}
    return FoundMessage(
        id=id_of(f"imported:{number}"),
        role=role_of(said.get("role")),
        content=content_of(parts),
        created_at=at,
        metadata=metadata if status == "active" else {**metadata, "status": status},
    )


def _part(block: object) -> Part:
    if not isinstance(block, dict):
        return {"type": "value", "value": block}
    kind, text = block.get("block_type"), block.get("text")
    if kind == "text" and isinstance(text, str):
        return text_part(text)
    if kind == "tool_call":
        calling = (block.get(each) for each in ("tool_call_id", "tool_name", "tool_kwargs"))
        return tool_use(*calling)
    rest = {key: value for key, value in block.items() if key != "block_type"}
    return {**rest, "type": str(kind)}
