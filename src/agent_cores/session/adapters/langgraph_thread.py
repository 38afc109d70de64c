"""A thread of LangGraph in two sessions: its checkpoints in one, what they refer to in the other.

The first holds a message for each checkpoint and nothing else, so it can be listed. The second
holds the values of channels, one message for each version; the pending writes of tasks; and for
each checkpoint a few short messages that name its writes. All are found by their ids. What a
checkpoint refers to is written before the checkpoint, what names a write after it.
"""

from __future__ import annotations

import base64
import zlib
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_cores.session.adapters.ids import id_of_parts
from agent_cores.session.errors import ConflictError, SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Sequence,
    )

    from agent_cores.session.adapters.owner import Acting
    from agent_cores.session.models.message import Message

Typed = tuple[str, bytes]
"""What LangGraph's serializer returns: a type and bytes."""
TAG = "langgraph"
_UNORDERED = "unordered"
_PIECE = 900_000
"""Characters of base64 in one message: content may hold 1 MiB."""
_PART_BYTES = 6 * 1024 * 1024
_PAGE = 1_000
_TAIL = 10
_MOST_KNOWN = 10_000
_SHARDS = 8
"""Messages that name the writes of a checkpoint; each can name about 1,000."""


class Write(NamedTuple):
    """A pending write of a task."""

    task_id: str
    task_path: str
    place: int
    channel: str
    value: Typed


class Record(NamedTuple):
    """A stored checkpoint, without what it refers to."""

    namespace: str
    checkpoint_id: str
    parent_id: str | None
    checkpoint: Typed
    metadata: Typed
    seq: int


class Known:
    """What a saver knows of threads: those that it has opened, and their latest checkpoints."""

    def __init__(self) -> None:
        self.opened: set[str] = set()
        self._last: dict[str, int] = {}
        self._greatest: dict[tuple[str, str], str] = {}

    def is_next(self, log: str, record: Record, seq: int) -> bool:
        """Note a checkpoint that was stored; return whether all before it have smaller ids.

        That is known only if nobody else has written to the thread since.
        """
        if len(self._greatest) > _MOST_KNOWN:
            self._last.clear()
            self._greatest.clear()
        greatest = self._greatest.get((log, record.namespace))
        alone = self._last.get(log, 0) == seq - 1
        self._last[log] = max(self._last.get(log, 0), seq)
        name = log, record.namespace
        self._greatest[name] = max(greatest or "", record.checkpoint_id)
        if greatest is None:
            return alone and record.parent_id is None
        return alone and greatest < record.checkpoint_id

    def forget(self, log: str, data: str) -> None:
        """Forget a thread that is gone."""
        self.opened.difference_update((log, data))
        self._last.pop(log, None)


class Thread:
    """One thread of one user."""

    def __init__(
        self, acting: Acting, thread_id: str, *, ttl_hours: float | None, known: Known
    ) -> None:
        self._acting = acting
        self._thread_id = thread_id
        self._ttl_hours = ttl_hours
        self._known = known
        self._log = id_of_parts(TAG, acting.user_id, thread_id)
        self._data = id_of_parts(f"{TAG}-data", acting.user_id, thread_id)

    async def put(self, record: Record, values: Sequence[tuple[str, str, Typed]]) -> None:
        """Store a checkpoint, after the values of channels: channel, version and value of each."""
        namespace = record.namespace
        messages: list[dict[str, Any]] = []
        for channel, version, value in values:
            value_id = _value_id(namespace, channel, version)
            messages += _messages("value", value_id, value, {"of": value_id})
        log_id = _checkpoint_id(namespace, record.checkpoint_id)
        about: dict[str, Any] = {"of": log_id, "ns": namespace, "id": record.checkpoint_id}
        about["parent"] = record.parent_id
        head, *more = _messages("checkpoint", log_id, record.checkpoint, about)
        meta, *rest = _messages("metadata", id_of_parts("m", log_id), record.metadata, about)
        head["content"]["metadata"] = meta["content"]
        await self._opened_for(self._put, record, [*messages, *more, *rest], head)

    async def put_writes(
        self, namespace: str, checkpoint_id: str, writes: Sequence[Write], *, replace: bool
    ) -> None:
        """Store writes of a task; those that are stored stay unless ``replace`` is given."""
        if not writes:
            return
        messages: list[dict[str, Any]] = []
        names: dict[str, Any] = {}
        of = {"of": _checkpoint_id(namespace, checkpoint_id)}
        for write in writes:
            write_id = _write_id(namespace, checkpoint_id, write)
            names[write_id] = 1
            about = {
                **of,
                "task": write.task_id,
                "path": write.task_path,
                "index": write.place,
                "channel": write.channel,
            }
            messages += _messages("write", write_id, write.value, about)
        index_id = _index_id(namespace, checkpoint_id, writes[0].task_id)
        index = {"id": index_id, "role": "writes", "content": of, "metadata": names}
        await self._opened_for(self._put_writes, index, messages, replace)

    async def record(self, namespace: str, checkpoint_id: str) -> Record | None:
        """Return a checkpoint by its id."""
        log_id = _checkpoint_id(namespace, checkpoint_id)
        found = await self._fetch(self._log, [log_id])
        return _record(found[log_id]) if log_id in found else None

    async def latest(self, namespace: str) -> Record | None:
        """Return the checkpoint with the greatest id in a namespace."""
        async with aclosing(self.records(namespace, few=True)) as records:
            async for record in records:
                return record
        return None

    async def records(
        self, namespace: str | None = None, *, few: bool = False
    ) -> AsyncGenerator[Record]:
        """Yield the checkpoints of a namespace, or of all, the greatest id first.

        They are read from the latest on. If any came with a smaller id than the one before it, all
        are read first.
        """
        verbs, user_id = self._acting
        try:
            session = await verbs.get_session(self._log, user_id, message_limit=_TAIL)
        except SessionNotFoundError:
            return
        if session.metadata.owner_id != user_id:
            return
        page: Sequence[Message] = session.messages or ()
        held: list[Record] = []
        hold = _UNORDERED in (session.context or {})
        while page:
            records = sorted(map(_record, page), key=lambda each: each.checkpoint_id, reverse=True)
            for record in records:
                if namespace in {None, record.namespace}:
                    if not hold:
                        yield record
                    held.append(record)
            limit = _TAIL * 10 if few else _PAGE
            page = await verbs.get_session_messages(
                self._log, user_id, limit, before_seq=page[0].seq
            )
        if hold:
            for record in sorted(held, key=lambda each: each.checkpoint_id, reverse=True):
                yield record

    async def typed(self, record: Record) -> tuple[Typed, Typed]:
        """Return a checkpoint and its metadata whole, if parts of them are stored elsewhere."""
        checkpoint, metadata = await self._pieces([record.checkpoint, record.metadata])
        return checkpoint, metadata

    async def values(
        self, record: Record, versions: Iterable[tuple[str, str]]
    ) -> tuple[dict[str, Typed], list[Write]]:
        """Return the values of channels, and the pending writes of a checkpoint."""
        wanted = {_value_id(record.namespace, *version): version[0] for version in versions}
        shards = [
            _shard_id(record.namespace, record.checkpoint_id, shard) for shard in range(_SHARDS)
        ]
        found = await self._fetch(self._data, [*wanted, *shards])
        names = [name for shard in shards if shard in found for name in found[shard].metadata]
        stored = await self._fetch(self._data, names)
        contents: list[Any] = [found[name].content for name in wanted if name in found]
        writes: list[Any] = [stored[name].content for name in names if name in stored]
        whole = await self._pieces([*contents, *writes])
        values = {
            wanted[name]: whole[place]
            for place, name in enumerate(name for name in wanted if name in found)
        }
        pending = [
            Write(each["task"], each["path"], each["index"], each["channel"], value)
            for each, value in zip(writes, whole[len(contents) :], strict=True)
        ]
        return values, pending

    async def delete(self) -> None:
        """Delete the thread."""
        verbs, user_id = self._acting
        self._known.forget(self._log, self._data)
        for session_id in (self._log, self._data):
            try:
                await verbs.delete_session(session_id, user_id)
            except SessionNotFoundError:
                continue

    async def remove(self, records: Sequence[Record], keep: Iterable[str]) -> None:
        """Remove checkpoints, and everything that no checkpoint of those left refers to.

        ``keep`` are the ids of values that are still referred to.
        """
        gone = {_checkpoint_id(record.namespace, record.checkpoint_id) for record in records}
        await self._delete(self._log, gone)
        kept = set(keep)
        unused: list[str] = []
        async for message in self._all(self._data):
            content: Any = message.content
            used = content["of"] in kept if message.role == "value" else content["of"] not in gone
            if not used:
                unused.append(message.id)
        await self._delete(self._data, unused)

    async def copy_to(self, target: Thread) -> None:
        """Copy the whole thread into another."""
        await target._open()
        pairs = ((self._data, target._data), (self._log, target._log))
        for source, to in pairs:
            batch: list[dict[str, Any]] = []
            async for message in self._all(source):
                batch.append(
                    {
                        "id": message.id,
                        "role": message.role,
                        "content": message.content,
                        "metadata": message.metadata,
                    }
                )
                if len(batch) == _PAGE or _size(batch) > _PART_BYTES:
                    await target._replace(to, batch)
                    batch = []
            await target._replace(to, batch)

    def value_ids(self, namespace: str, versions: Iterable[tuple[str, str]]) -> set[str]:
        """Return the ids of the values of channels in their versions."""
        return {_value_id(namespace, *version) for version in versions}

    async def _opened_for(self, write: Callable[..., Awaitable[None]], *args: object) -> None:
        """Write, after opening the sessions; once more if they have ended since."""
        await self._open()
        try:
            await write(*args)
        except SessionNotFoundError:
            self._known.forget(self._log, self._data)
            await self._open()
            await write(*args)

    async def _put(
        self, record: Record, data: Sequence[dict[str, Any]], head: dict[str, Any]
    ) -> None:
        verbs, user_id = self._acting
        if data:
            await self._insert(data)
        elif self._ttl_hours is not None:  # what the checkpoint refers to must last as long
            await verbs.renew_session(self._data, user_id)
        try:
            [stored] = await verbs.add_messages(self._log, user_id, [head])
        except ConflictError:  # it is stored with other content
            await self._replace(self._log, [head])
            return
        known = self._known.is_next(self._log, record, stored.seq)
        if not known and not await self._is_greatest(record, stored.seq):
            await verbs.update_session(self._log, user_id, {_UNORDERED: True})

    async def _is_greatest(self, record: Record, seq: int) -> bool:
        """Return whether the id of a checkpoint is greater than those of the last before it."""
        if (record.parent_id or "") > record.checkpoint_id:
            return False
        verbs, user_id = self._acting
        page = await verbs.get_session_messages(self._log, user_id, _TAIL * 10, before_seq=seq)
        before = [
            each.checkpoint_id for each in map(_record, page) if each.namespace == record.namespace
        ]
        return max(before, default="") < record.checkpoint_id

    async def _put_writes(
        self,
        index: dict[str, Any],
        messages: Sequence[dict[str, Any]],
        replace: bool,  # noqa: FBT001 - as above
    ) -> None:
        verbs, user_id = self._acting
        if _size(messages) <= _PART_BYTES and len(messages) < _PAGE:
            try:
                await verbs.add_messages(self._data, user_id, [index, *messages])
            except ConflictError:  # some of them, or the index, are stored
                pass
            else:
                return
        await (self._replace(self._data, messages) if replace else self._insert(messages))
        await self._name(index)

    async def _open(self) -> None:
        """Create the sessions if they are missing; those of somebody else are refused."""
        verbs, user_id = self._acting
        for session_id, tags in ((self._log, [TAG]), (self._data, [])):
            if session_id not in self._known.opened:
                metadata = {"tags": tags, "langgraph_thread": self._thread_id}
                await verbs.open_session(
                    session_id, user_id, metadata=metadata, ttl_hours=self._ttl_hours
                )
                self._known.opened.add(session_id)

    async def _insert(self, messages: Sequence[dict[str, Any]]) -> None:
        """Add messages whose ids are not stored yet."""
        verbs, user_id = self._acting
        for part in _parts(messages):
            missing = part
            while missing:
                try:
                    await verbs.add_messages(self._data, user_id, missing)
                except ConflictError:
                    found = await self._fetch(self._data, [each["id"] for each in part])
                    missing = [each for each in part if each["id"] not in found]
                    continue
                break

    async def _replace(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        """Add messages, or update those whose ids are stored."""
        verbs, user_id = self._acting
        for part in _parts(messages):
            missing = part
            while missing:
                try:
                    await verbs.add_messages(session_id, user_id, missing)
                except ConflictError:
                    found = await self._fetch(session_id, [each["id"] for each in part])
                    for each in part:
                        if each["id"] in found:
                            await verbs.update_message(
                                session_id, user_id, found[each["id"]].seq, content=each["content"]
                            )
                    missing = [each for each in part if each["id"] not in found]
                    continue
                break

    async def _name(self, index: dict[str, Any]) -> None:
        """Add the names of writes to those that are stored."""
        verbs, user_id = self._acting
        while True:
            found = await self._fetch(self._data, [index["id"]])
            if index["id"] in found:
                await verbs.update_message(
                    self._data,
                    user_id,
                    found[index["id"]].seq,
                    metadata_updates=index["metadata"],
                )
                return
            try:
                await verbs.add_messages(self._data, user_id, [index])
            except ConflictError:
                continue
            return

    async def _fetch(self, session_id: str, ids: Sequence[str]) -> dict[str, Message]:
        """Return the user's messages with these ids, in as many pages as they take."""
        verbs, user_id = self._acting
        found: dict[str, Message] = {}
        for first in range(0, len(ids), _PAGE):
            wanted = list(ids[first : first + _PAGE])
            while wanted:
                try:
                    page = await verbs.get_messages(session_id, user_id, ids=wanted)
                except SessionNotFoundError:
                    return found
                found.update((each.id, each) for each in page if each.author_id == user_id)
                if not page.has_more:
                    break
                read = {each.id for each in page}
                wanted = [each for each in wanted if each not in read]
        return found

    async def _all(self, session_id: str) -> AsyncIterator[Message]:
        verbs, user_id = self._acting
        seq = 0
        while True:
            try:
                page = await verbs.get_session_messages(session_id, user_id, _PAGE, after_seq=seq)
            except SessionNotFoundError:
                return
            for message in page:
                yield message
            if not page.has_more:
                return
            seq = page[-1].seq

    async def _delete(self, session_id: str, ids: Iterable[str]) -> None:
        verbs, user_id = self._acting
        names = list(ids)
        for first in range(0, len(names), _PAGE):
            try:
                await verbs.delete_messages(session_id, user_id, ids=names[first : first + _PAGE])
            except SessionNotFoundError:
                return

    async def _pieces(self, contents: Sequence[Any]) -> list[Typed]:
        """Return values, those in several pieces put together."""
        wanted = [name for content in contents for name in content.get("more", ())]
        found = await self._fetch(self._data, wanted)
        values: list[Typed] = []
        for content in contents:
            more: list[Any] = [found[name].content for name in content.get("more", ())]
            text = "".join([content["data"], *(piece["data"] for piece in more)])
            values.append((content["type"], base64.b64decode(text)))
        return values


def _messages(
    role: str, message_id: str, value: Typed, about: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the message that holds a value, and those with further pieces of it."""
    text = base64.b64encode(value[1]).decode()
    pieces = [text[i : i + _PIECE] for i in range(0, len(text), _PIECE)] or [""]
    more = [id_of_parts("+", message_id, str(number)) for number in range(1, len(pieces))]
    content = {**about, "type": value[0], "data": pieces[0]}
    if more:
        content["more"] = more
    head = {"id": message_id, "role": role, "content": content}
    rest = [
        {"id": name, "role": role, "content": {**about, "data": piece}}
        for name, piece in zip(more, pieces[1:], strict=True)
    ]
    return [head, *rest]


def _record(message: Message) -> Record:
    content: Any = message.content
    return Record(
        content["ns"], content["id"], content["parent"], content, content["metadata"], message.seq
    )


def _checkpoint_id(namespace: str, checkpoint_id: str) -> str:
    return id_of_parts("c", namespace, checkpoint_id)


def _value_id(namespace: str, channel: str, version: str) -> str:
    return id_of_parts("v", namespace, channel, version)


def _write_id(namespace: str, checkpoint_id: str, write: Write) -> str:
    return id_of_parts("w", namespace, checkpoint_id, write.task_id, str(write.place))


def _index_id(namespace: str, checkpoint_id: str, task_id: str) -> str:
    shard = zlib.crc32(task_id.encode("utf-8", "surrogatepass")) % _SHARDS
    return _shard_id(namespace, checkpoint_id, shard)


def _shard_id(namespace: str, checkpoint_id: str, shard: int) -> str:
    return id_of_parts("i", namespace, checkpoint_id, str(shard))


def _parts(messages: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    parts: list[list[dict[str, Any]]] = []
    size = 0
    for message in messages:
        length = _size([message])
        if not parts or len(parts[-1]) == _PAGE or size + length > _PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(message)
        size += length
    return parts


def _size(messages: Iterable[dict[str, Any]]) -> int:
    """Return about how many bytes messages take."""
    total = 0
    for message in messages:
        content: Any = message["content"]
        total += 200 + len(content.get("data", ""))
        if "metadata" in content:
            total += len(content["metadata"]["data"])
    return total
