"""``SessionWriter``: found sessions into a store. A session is written whole, or not at all.

The incarnation of an imported session is a digest of all that was found, so an import that is run
again knows what it has written, whatever became of it since.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agent_cores.session.codec import encode_body, encode_value
from agent_cores.session.errors import ConflictError, InvalidInputError
from agent_cores.session.frameworks.found import FoundMessage, FoundSession, LeftOut
from agent_cores.session.models.limits import DEFAULT_LIMITS, MIB
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.raw_json import checked_content
from agent_cores.session.models.session import Hold, SessionMetadata
from agent_cores.session.models.times import utc_now, whole_millis
from agent_cores.session.models.values import encode_json, sorted_json, to_json
from agent_cores.session.moving.placing import Placed, place
from agent_cores.session.moving.tally import Tally
from agent_cores.session.moving.walking import (
    PART_BYTES,
    PART_MESSAGES,
    ChangedWhileReadError,
    Part,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from datetime import datetime
    from hashlib import _Hash as Sum

    from agent_cores.session.storage.base import StorageProvider

_TOGETHER = 50
_TOGETHER_BYTES = 8 * MIB
"""Short sessions that are written at a time, and their bytes."""
_MOST_BYTES = DEFAULT_LIMITS.append_bytes
_DEPTH = DEFAULT_LIMITS.json_depth
_NAMED = 100


class Reasons(msgspec.Struct):
    """What was left out: how much, and of the first hundred where and why."""

    count: int = 0
    names: list[str] = []

    def note(self, left_out: LeftOut) -> None:
        """Add something."""
        self.count += 1
        if len(self.names) < _NAMED:
            name = f"{left_out.where}: {left_out.why}"
            self.names.append(name.encode(errors="backslashreplace").decode())


class ImportTally(Tally):
    """The result of an import; ``left_out`` is what could not be read or stored, and why."""

    left_out: Reasons = msgspec.field(default_factory=Reasons)

    @property
    def is_complete(self) -> bool:
        """Whether everything was imported."""
        return super().is_complete and not self.left_out.count


class _Measured(NamedTuple):
    """A session: its first part, the digest of all its messages, whether it may replace one."""

    found: FoundSession
    part: Part
    digest: bytes
    replace: bool


class SessionWriter:
    """Writes sessions into one namespace, those of one part together, long ones alone."""

    def __init__(self, store: StorageProvider, namespace: str, *, replace: bool) -> None:
        self.tally: ImportTally = ImportTally()
        self._store = store
        self._namespace = namespace
        self._replace = replace
        self._met: set[int] = set()
        self._now = utc_now()
        self._waiting: list[_Measured] = []
        self._size = 0

    async def write(self, found: FoundSession | LeftOut) -> None:
        """Write a session, at the latest with the next ``flush``."""
        if isinstance(found, LeftOut):
            self.tally.left_out.note(found)
            return
        try:
            measured = await self._measured(found)
        except InvalidInputError as error:
            self.tally.left_out.note(LeftOut(f"session {found.session_id}", str(error)))
            return
        if measured is None:
            return
        if self._replace and not measured.replace:
            await self.flush()  # the first of that id
        part = measured.part
        self._waiting.append(measured)
        self._size += part.size
        if not part.is_last or len(self._waiting) >= _TOGETHER or self._size >= _TOGETHER_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write the sessions that wait."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        # All end, whatever becomes of one.
        ended = await asyncio.gather(*map(self._place, waiting), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def _place(self, measured: _Measured) -> None:
        header = measured.part.header
        name = header.namespace, header.session_id
        stored = await self._store.read(*name)
        if stored is not None and _is_written(stored.header, header):
            self.tally.present += 1
            return
        try:
            placed = await place(
                self._store, measured.part, self._later(measured), replace=measured.replace
            )
        except ChangedWhileReadError:
            self.tally.changing.add(*name)
            return
        except (ConflictError, InvalidInputError) as error:
            # The source has a message id twice, say, or a longer id than the store takes.
            self.tally.left_out.note(LeftOut(f"session {header.session_id}", str(error)))
            return
        if placed is Placed.DIFFERENT:
            self.tally.different.add(*name)
            return
        self.tally.sessions += 1
        self.tally.messages += header.message_count

    async def _measured(self, found: FoundSession) -> _Measured | None:
        """Read a session to its end, and return its first part, with the header of all of it.

        ``None`` for one of which nothing can be read.
        """
        known_damage = self.tally.left_out.count
        digest = hashlib.sha256()
        first: list[StoredMessage] = []
        size = count = 0
        latest = found.last_active_at
        async for message in self._messages(found, digest, self.tally.left_out):
            count = message.seq
            latest = max(latest or message.created_at, message.created_at)
            if len(first) == count - 1 and len(first) < PART_MESSAGES and size < PART_BYTES:
                first.append(message)
                size += len(message.body)
        if not count and self.tally.left_out.count > known_damage:
            return None
        messages_digest = digest.digest()
        context = {
            key: encode_value(to_json(value, "context", depth=_DEPTH, at_most=_MOST_BYTES))
            for key, value in found.context.items()
        }
        to_json(found.attributes, "metadata", depth=_DEPTH, at_most=_MOST_BYTES)
        given = [found.session_id, found.owner_id, found.created_at, found.title, found.tags]
        held = {key: value.decode() for key, value in sorted(context.items())}
        digest.update(sorted_json([*given, found.attributes, held]))
        created_at = found.created_at or (first[0].created_at if first else self._now)
        header = SessionMetadata(
            namespace=self._namespace,
            session_id=found.session_id,
            incarnation=int.from_bytes(digest.digest()[:8]) >> 1 or 1,
            owner_id=found.owner_id,
            created_at=self._time(created_at),
            updated_at=self._time(created_at),
            last_active_at=self._time(max(latest or created_at, created_at)),
            title=found.title,
            tags=found.tags,
            attributes=found.attributes,
            last_seq=count,
            message_count=count,
        )
        part = Part(
            header=header, context=context, messages=tuple(first), is_last=len(first) == count
        )
        return _Measured(found, part, messages_digest, self._may_replace(found.session_id))

    def _may_replace(self, session_id: str) -> bool:
        """Whether a stored session gives way; not to the second of an id that the source has."""
        if not self._replace or hash(session_id) in self._met:
            return False
        self._met.add(hash(session_id))
        return True

    async def _later(self, measured: _Measured) -> AsyncIterator[Part]:
        """Yield the other parts of a long session, which is read again."""
        header, done = measured.part.header, len(measured.part.messages)
        messages: list[StoredMessage] = []
        size = 0
        digest = hashlib.sha256()
        async with aclosing(self._messages(measured.found, digest, None)) as found:
            async for message in found:
                if done < message.seq <= header.last_seq:
                    messages.append(message)
                    size += len(message.body)
                if len(messages) == PART_MESSAGES or size >= PART_BYTES:
                    yield _part(header, messages)
                    messages, size = [], 0
                if message.seq == header.last_seq:
                    break
        if digest.digest() != measured.digest:
            raise ChangedWhileReadError("the source was changed while it was read")
        yield _part(header, messages)

    async def _messages(
        self, found: FoundSession, digest: Sum, left_out: Reasons | None
    ) -> AsyncGenerator[StoredMessage]:
        """Yield the messages as they are stored, and note those that cannot be."""
        seq, at = 0, found.created_at or self._now
        async for message in found.messages():
            try:
                if isinstance(message, LeftOut):
                    raise InvalidInputError(message.where, message.why)  # noqa: TRY301
                body = _body(message, found.owner_id)
            except InvalidInputError as error:
                if left_out is not None:
                    where = f"session {found.session_id}"
                    if isinstance(message, FoundMessage):
                        where = f"{where}, message {message.id}"
                    left_out.note(LeftOut(where, str(error)))
                continue
            seq, at = seq + 1, message.created_at or at
            digest.update(encode_json([message.id, message.created_at, len(body)]) + body)
            yield StoredMessage(seq, message.id, self._time(at), body)

    def _time(self, at: datetime) -> datetime:
        """Return a time as it is stored; none is in the future."""
        return min(whole_millis(at), self._now)


def _part(header: SessionMetadata, messages: list[StoredMessage]) -> Part:
    is_last = not messages or messages[-1].seq == header.last_seq
    return Part(header=header, messages=tuple(messages), is_first=False, is_last=is_last)


def _is_written(stored: SessionMetadata, header: SessionMetadata) -> bool:
    """Whether this very session was imported before, and perhaps continued since."""
    return stored.incarnation == header.incarnation and stored.hold is not Hold.OPENING


def _body(message: FoundMessage, owner_id: str) -> bytes:
    """Return a message as it is stored; ``InvalidInputError`` if it cannot be."""
    given = message.content
    if isinstance(given, msgspec.Raw):
        content = checked_content(given, "content", depth=_DEPTH, at_most=_MOST_BYTES)
    elif given is None or isinstance(given, str | list | dict):
        content = to_json(given, "content", depth=_DEPTH, at_most=_MOST_BYTES)
    else:
        raise InvalidInputError("content", "must be text, a list, an object or null")
    metadata = to_json(message.metadata, "metadata", depth=_DEPTH, at_most=_MOST_BYTES)
    return encode_body(message.role, content, message.author_id or owner_id, metadata)
