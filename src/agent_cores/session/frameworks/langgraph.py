"""Threads of LangGraph: ``langgraph-checkpoint-sqlite`` and ``langgraph-checkpoint-postgres``.

Checkpoints, values of channels and pending writes are as ``SessionSaver`` stores them: two sessions
for each thread. Of a thread the ids of checkpoints and values are in memory, one checkpoint at a
time, and its writes. Long-term memory (``store``) is not imported.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from agent_cores.session.adapters.ids import id_of_parts
from agent_cores.session.adapters.layouts.langgraph import (
    EMPTY,
    TAG,
    Record,
    Write,
    checkpoint_id,
    checkpoint_messages,
    slot_id,
    value_id,
    value_messages,
    writes_messages,
)
from agent_cores.session.errors import StoreFormatError
from agent_cores.session.frameworks.databases import (
    NEVER,
    Database,
    Needed,
    open_database,
    walk,
)
from agent_cores.session.frameworks.found import FoundMessage, FoundSession, Given, LeftOut
from agent_cores.session.frameworks.keys import rows_without
from agent_cores.session.frameworks.langgraph_values import (
    Checkpoint,
    checkpoint_of,
    checkpoint_of_json,
    typed_of_json,
)
from agent_cores.session.frameworks.values import DamagedError, object_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from agent_cores.session.adapters.pieces import Draft, Typed

_KEY = ("thread_id", "checkpoint_ns", "checkpoint_id")
_NEEDED = Needed(_KEY)
_WRITE = Needed((*_KEY, "task_id"), ("idx",))
_BLOB = Needed((*_KEY[:2], "channel", "version"))
_MARK = "imported"
_TOGETHER = 200
Key = tuple[str, str, str]
Values = dict[str, "Typed | DamagedError"]
"""Values by channel; in place of one that cannot be read, why."""


class Stored(NamedTuple):
    """A checkpoint as it is stored, and its metadata."""

    parent_id: str | None
    checkpoint: Checkpoint
    metadata: Typed


class Tables(Protocol):
    """How one of LangGraph's savers lays out its tables."""

    def unusable(self) -> AsyncIterator[LeftOut]:
        """Yield what belongs to no checkpoint, because a key is not readable."""

    async def stored(self, key: Key) -> Stored:
        """Return a checkpoint; raise ``DamagedError`` if it cannot be read."""

    async def values(self, key: Key, versions: Sequence[tuple[str, str]]) -> Values:
        """Return the values of these channels that are stored beside the checkpoint."""

    async def writes(self, key: Key) -> list[Write]:
        """Return the pending writes of a checkpoint."""


@asynccontextmanager
async def open_reader(given: Given) -> AsyncIterator[LangGraphReader]:
    """Open a store."""
    async with open_database(given.source) as database:
        columns = await database.columns()
        if not columns.get("checkpoints", set()) >= {*_KEY, "checkpoint", "metadata"}:
            raise StoreFormatError("the source has no table of LangGraph's checkpoints")
        tables: Tables
        if "checkpoint_blobs" in columns:
            tables = PostgresTables(database, columns.get("checkpoint_writes", set()))
        else:
            tables = SQLiteTables(database, columns.get("writes", set()))
        yield LangGraphReader(database, tables, given.owner)


class LangGraphReader:
    """Reads threads: of each first the data, then the log, in the order of checkpoint ids."""

    def __init__(self, database: Database, tables: Tables, owner: str) -> None:
        self._database = database
        self._tables = tables
        self._owner = owner

    async def total(self) -> int:
        """Return how many sessions the threads will be."""
        [(threads,)] = await self._database.rows(
            "SELECT COUNT(DISTINCT thread_id) FROM checkpoints"
        )
        return 2 * int(threads)

    async def sessions(self) -> AsyncIterator[FoundSession | LeftOut]:
        """Yield two sessions for each thread."""
        async for left_out in rows_without(self._database, "checkpoints", _NEEDED):
            yield left_out
        async for left_out in self._tables.unusable():
            yield left_out
        threads = walk(self._database, "checkpoints", ["thread_id"], needed=_NEEDED)
        async for (thread_id,) in threads:
            sessions = ((f"{TAG}-data", (), self._data), (TAG, (TAG,), self._log))
            for kind, tags, messages in sessions:
                yield FoundSession(
                    session_id=id_of_parts(kind, self._owner, thread_id),
                    owner_id=self._owner,
                    messages=partial(messages, thread_id),
                    tags=tags,
                    attributes={"langgraph_thread": thread_id},
                )

    async def _log(self, thread_id: str) -> AsyncIterator[FoundMessage | LeftOut]:
        """Yield a message for each checkpoint, and what cannot be read."""
        for key in await self._keys(thread_id):
            try:
                stored = await self._tables.stored(key)
            except DamagedError as error:
                yield LeftOut(f"checkpoint {key[2]}", str(error))
                continue
            head, *_ = _checkpoint(key, stored)
            yield _found(head, stored.checkpoint.at)

    async def _data(self, thread_id: str) -> AsyncIterator[FoundMessage | LeftOut]:
        """Yield what the checkpoints refer to: each value once."""
        known: set[bytes] = set()
        for key in await self._keys(thread_id):
            try:
                stored = await self._tables.stored(key)
            except DamagedError:  # the log says so
                continue
            namespace, checkpoint = key[1], stored.checkpoint
            new = []
            for version in checkpoint.versions.items():
                digest = blake2b(value_id(namespace, *version).encode(), digest_size=16).digest()
                if digest not in known:
                    known.add(digest)
                    new.append(version)
            values = dict(checkpoint.values)
            for channel, value in (await self._tables.values(key, new)).items():
                if isinstance(value, DamagedError):
                    yield LeftOut(f"value of {channel} of checkpoint {key[2]}", str(value))
                else:
                    values[channel] = value
            try:
                writes = await self._tables.writes(key)
            except DamagedError as error:
                yield LeftOut(f"writes of checkpoint {key[2]}", str(error))
                writes = []
            found = [(*version, values.get(version[0], (EMPTY, b""))) for version in new]
            drafts = [*value_messages(namespace, found), *_writes(key, writes)]
            for draft in (*_checkpoint(key, stored)[1:], *_repeatable(drafts, "v", *key[1:])):
                yield _found(draft, checkpoint.at)

    async def _keys(self, thread_id: str) -> list[Key]:
        """Return the keys of a thread's checkpoints, those of all namespaces by id."""
        where = {"thread_id": thread_id}
        rows = walk(
            self._database, "checkpoints", _KEY[1:], where=where, needed=_NEEDED, size=_TOGETHER
        )
        keys = [(thread_id, namespace, name) async for namespace, name in rows]
        return sorted(keys, key=lambda key: (key[2], key[1]))


class SQLiteTables:
    """All values of a checkpoint are in it; so an old value is in many checkpoints."""

    def __init__(self, database: Database, columns: set[str]) -> None:
        self._database = database
        self._columns = columns

    def unusable(self) -> AsyncIterator[LeftOut]:
        """Yield the writes that belong to no checkpoint, because a key is not readable."""
        return _unusable(self._database, "writes", self._columns)

    async def stored(self, key: Key) -> Stored:
        """Return a checkpoint; raise ``DamagedError`` if it cannot be read."""
        columns = ["parent_checkpoint_id", "type", "checkpoint", "metadata"]
        parent_id, kind, data, metadata = await _row(self._database, key, columns)
        if not isinstance(data, bytes):
            raise DamagedError("is not stored as bytes")
        checkpoint = checkpoint_of(kind, data)
        metadata = typed_of_json(object_of(metadata or "{}"))
        return Stored(_text_or_none(parent_id), checkpoint, metadata)

    async def values(self, key: Key, versions: Sequence[tuple[str, str]]) -> Values:
        """Return nothing: values are not stored beside the checkpoint."""
        del key, versions
        return {}

    async def writes(self, key: Key) -> list[Write]:
        """Return the pending writes of a checkpoint."""
        return await _read_writes(self._database, key, "writes", "value", self._columns)


class PostgresTables:
    """Simple values are in the checkpoint, others beside it, once for each version."""

    def __init__(self, database: Database, columns: set[str]) -> None:
        self._database = database
        self._columns = columns

    async def unusable(self) -> AsyncIterator[LeftOut]:
        """Yield the writes and values that belong to nothing, because a key is not readable."""
        async for left_out in _unusable(self._database, "checkpoint_writes", self._columns):
            yield left_out
        async for left_out in rows_without(self._database, "checkpoint_blobs", _BLOB):
            yield left_out

    async def stored(self, key: Key) -> Stored:
        """Return a checkpoint; raise ``DamagedError`` if it cannot be read."""
        columns = ["parent_checkpoint_id", "checkpoint", "metadata"]
        parent_id, checkpoint, metadata = await _row(self._database, key, columns)
        metadata = typed_of_json(object_of(metadata))
        return Stored(_text_or_none(parent_id), checkpoint_of_json(checkpoint), metadata)

    async def values(self, key: Key, versions: Sequence[tuple[str, str]]) -> Values:
        """Return the values of these channels that are stored beside the checkpoint."""
        if not versions or NEVER in self._database.conditions("checkpoint_blobs", _BLOB):
            return {}
        named = " OR ".join(["(channel = ? AND version = ?)"] * len(versions))
        rows = await self._database.rows(
            "SELECT channel, type, blob FROM checkpoint_blobs"  # noqa: S608 - no value in it
            f" WHERE thread_id = ? AND checkpoint_ns = ? AND ({named})",
            *key[:2],
            *(name for version in versions for name in version),
        )
        found: Values = {}
        for channel, kind, blob in rows:
            if not _is_text(kind) or not isinstance(blob, bytes | None):
                found[channel] = DamagedError("cannot be read")
            elif kind != EMPTY:
                found[channel] = kind, blob or b""
        return found

    async def writes(self, key: Key) -> list[Write]:
        """Return the pending writes of a checkpoint."""
        return await _read_writes(self._database, key, "checkpoint_writes", "blob", self._columns)


async def _row(database: Database, key: Key, columns: list[str]) -> tuple[Any, ...]:
    where = dict(zip(_KEY, key, strict=True))
    async for row in walk(database, "checkpoints", ["checkpoint_id"], columns, where=where, size=1):
        return row[1:]
    raise DamagedError("was deleted while the source was read")


def _text_or_none(parent_id: object) -> str | None:
    if not isinstance(parent_id, str | None):
        raise DamagedError("has a parent that is not named by text")
    return parent_id


async def _unusable(database: Database, table: str, columns: set[str]) -> AsyncIterator[LeftOut]:
    if columns:
        async for left_out in rows_without(database, table, _WRITE):
            yield left_out


async def _read_writes(
    database: Database, key: Key, table: str, value: str, columns: set[str]
) -> list[Write]:
    if not columns:
        return []
    path = ["task_path"] if "task_path" in columns else []
    where = dict(zip(_KEY, key, strict=True))
    chosen = ["channel", "type", value, *path]
    by = ["task_id", "idx"]
    rows = walk(database, table, by, chosen, where=where, needed=_WRITE, size=20)
    found: list[Write] = []
    async for task_id, place, channel, kind, data, *path in rows:
        task_path = (path[0] if path else None) or ""
        texts = all(map(_is_text, (task_id, task_path, channel, kind)))
        if not texts or type(place) is not int or not isinstance(data, bytes | None):
            raise DamagedError("cannot be read")
        found.append(Write(task_id, task_path, place, channel, (kind, data or b"")))
    return found


def _is_text(value: object) -> bool:
    """Whether a value is text that can be encoded; SQLite keeps any bytes as text."""
    return isinstance(value, str) and not any("\ud800" <= each <= "\udfff" for each in value)


def _checkpoint(key: Key, stored: Stored) -> list[Draft]:
    """Return the message of a checkpoint, and those with further pieces of it."""
    checkpoint, metadata = stored.checkpoint.typed, stored.metadata
    record = Record(key[1], key[2], stored.parent_id or None, checkpoint, metadata, 0)
    return _repeatable(checkpoint_messages(record, {}), "c", *key[1:])


def _writes(key: Key, writes: list[Write]) -> list[Draft]:
    """Return the messages of all writes of a checkpoint: they are in its first slot."""
    if not writes:
        return []
    of = checkpoint_id(*key[1:])
    *pieces, head = writes_messages(of, writes, replace=False)
    return [*pieces, {**head, "id": slot_id(of, 0)}]


def _repeatable(drafts: list[Draft], *names: str) -> list[Draft]:
    """Return messages with names in place of what was drawn, so that they are equal each time."""
    drawn = [draft["id"] for draft in drafts if draft["role"] == "piece"]
    ids = {each: id_of_parts("+", _MARK, *names, str(n)) for n, each in enumerate(drawn)}

    def renamed(content: dict[str, Any]) -> dict[str, Any]:
        found = dict(content)
        if "metadata" in found:
            found["metadata"] = renamed(found["metadata"])
        if "more" in found:
            found["more"] = [ids[each] for each in found["more"]]
        return found

    return [
        {
            **draft,
            "id": ids.get(draft["id"], draft["id"]),
            "content": renamed(draft["content"]),
            "metadata": {"by": _MARK} if "metadata" in draft else {},
        }
        for draft in drafts
    ]


def _found(draft: Draft, at: datetime | None) -> FoundMessage:
    return FoundMessage(
        id=draft["id"],
        role=draft["role"],
        content=draft["content"],
        metadata=draft["metadata"],
        created_at=at,
    )
