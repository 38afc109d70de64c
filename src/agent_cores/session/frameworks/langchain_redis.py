"""Chats of ``langchain-redis``: the JSON documents of ``RedisChatMessageHistory``.

Documents of one chat are spread over the keys of the server, so they are sorted first, by session
and time, in a file that is gone afterwards. The server must be one, not a cluster.
"""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.adapters.ids import id_of
from agent_cores.session.errors import (
    ConfigurationError,
    MissingDependencyError,
    SessionError,
    StorageUnavailableError,
    StoreFormatError,
)
from agent_cores.session.frameworks.found import FoundMessage, FoundSession, Given, LeftOut
from agent_cores.session.frameworks.natural import (
    Part,
    content_of,
    openai_tool_calls,
    role_of,
    text_part,
    tool_result,
)
from agent_cores.session.frameworks.values import DamagedError, json_of, object_of, time_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SCANNED, _READ = 500, 50
"""Keys of a page, and documents that are read at a time."""
_FIELDS = ("$.session_id", "$.timestamp")


@asynccontextmanager
async def open_reader(given: Given) -> AsyncIterator[LangChainRedisReader]:
    """Open a server by its URL."""
    try:
        from redis.asyncio import Redis  # noqa: PLC0415 - needs an extra
        from redis.exceptions import RedisError  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise MissingDependencyError("redis", "redis") from error
    try:
        client = Redis.from_url(given.source, decode_responses=True, encoding_errors="replace")
    except ValueError as error:
        raise ConfigurationError("the source must be a redis:// URL that is valid") from error
    try:
        with closing(sqlite3.connect("")) as index:  # a temporary file
            reader = LangChainRedisReader(client, index, given.owner)
            await reader.find()
            if not await reader.total():
                raise StoreFormatError("the source has no documents of langchain-redis")
            yield reader
    except SessionError:  # a store's refusal may be an OSError too
        raise
    except (RedisError, OSError) as error:
        raise StorageUnavailableError(f"the source cannot be read: {error}") from error
    finally:
        await client.aclose()


class LangChainRedisReader:
    """Reads the documents of each chat by time."""

    def __init__(self, client: Any, index: sqlite3.Connection, owner: str) -> None:  # noqa: ANN401 - redis-py's
        self._client = client
        self._index = index
        self._owner = owner

    async def find(self) -> None:
        """Find all documents, once."""
        sql = "CREATE TABLE found (chat TEXT, at REAL, key TEXT, PRIMARY KEY (chat, at, key))"
        self._index.execute(sql + " WITHOUT ROWID")
        pages = self._client.scan_iter(count=_SCANNED)
        keys: list[str] = []
        async for key in pages:
            keys.append(key)
            if len(keys) == _SCANNED:
                await self._note(keys)
                keys = []
        await self._note(keys)

    async def total(self) -> int:
        """Return how many chats were found."""
        return int(self._index.execute("SELECT COUNT(DISTINCT chat) FROM found").fetchone()[0])

    async def sessions(self) -> AsyncIterator[FoundSession | LeftOut]:
        """Yield a session for each chat."""
        for (chat,) in self._index.execute("SELECT DISTINCT chat FROM found ORDER BY chat"):
            messages = partial(self._messages, chat)
            yield FoundSession(session_id=id_of(chat), owner_id=self._owner, messages=messages)

    async def _note(self, keys: list[str]) -> None:
        """Note chat and time of each document that is a message."""
        found = await self._documents(keys, *_FIELDS)
        for key, text in zip(keys, found, strict=True):
            try:
                fields = object_of(text)
                [[chat], [at]] = [fields[name] for name in _FIELDS]
                row = (chat, float(at), key)
            except (DamagedError, KeyError, TypeError, ValueError, OverflowError):
                continue  # of something else
            if isinstance(chat, str) and not isinstance(at, str):
                self._index.execute("INSERT OR IGNORE INTO found VALUES (?, ?, ?)", row)

    async def _documents(self, keys: list[str], *fields: str) -> list[Any]:
        """Return documents as JSON; what cannot be read as its error."""
        if not keys:
            return []
        async with self._client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.execute_command("JSON.GET", key, *fields)
            found: list[Any] = await pipeline.execute(raise_on_error=False)
            return found

    async def _messages(self, chat: str) -> AsyncIterator[FoundMessage | LeftOut]:
        sql = """
            SELECT at, key FROM found WHERE chat = ? AND (at, key) > (?, ?)
            ORDER BY at, key LIMIT ?
        """
        after, numbers = (float("-inf"), ""), count(1)
        known: set[str] = set()
        while rows := self._index.execute(sql, [chat, *after, _READ]).fetchall():
            after = rows[-1]
            documents = await self._documents([key for _, key in rows], ".")
            for (at, key), text in zip(rows, documents, strict=True):
                number = next(numbers)
                try:
                    message = _message(number, at, object_of(text))
                except DamagedError as error:
                    yield LeftOut(f"document {key}", str(error))
                    continue
                if message.id in known:  # a copy of a document
                    message = msgspec.structs.replace(message, id=f"imported:{number}")
                known.add(message.id)
                yield message


def _message(number: int, at: float, document: dict[str, Any]) -> FoundMessage:
    data = object_of(document.get("data"))
    extra = data.get("additional_kwargs")
    role = role_of(document.get("type"))
    parts = _parts(data.get("content"))
    parts += [*openai_tool_calls(extra, parts)]
    if role == "tool":
        result = tool_result(data.get("tool_call_id"), content_of(parts))
        parts = [{**result, "is_error": True} if data.get("status") == "error" else result]
    name = document.get("message_id")
    return FoundMessage(
        id=id_of(name) if isinstance(name, str) else f"imported:{number}",
        role=role,
        content=content_of(parts),
        created_at=time_of(at),
        metadata={"original": data} if extra else {},
    )


def _parts(content: object) -> list[Part]:
    """Return the parts of a message: LangChain's are text, or objects with a type."""
    if isinstance(content, str):
        return [text_part(content)]
    found = content if isinstance(content, list) else [content]
    return [
        text_part(part)
        if isinstance(part, str)
        else part
        if isinstance(part, dict)
        else {"type": "value", "value": json_of(part)}
        for part in found
    ]
