"""Every session of a store, each read in parts of bounded size.

Sessions are met in the order of their creation, which nothing changes, so that each one that is
stored throughout is met once, however much is written in the meantime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import msgspec

from agent_cores.session.errors import ConflictError
from agent_cores.session.models.limits import KIB
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.query import Query
from agent_cores.session.models.representation import hides
from agent_cores.session.models.session import Hold, SessionMetadata
from agent_cores.session.models.snapshot import Snapshot, Window
from agent_cores.session.models.times import utc_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from agent_cores.session.errors import CorruptRecordError
    from agent_cores.session.storage.base import StorageProvider

PART_MESSAGES = 1_000
PART_BYTES = 256 * KIB
"""Bytes of message bodies from which a session continues in another part."""
_PAGE = 200


class ChangedWhileReadError(ConflictError):
    """A long session was changed, other than by appends, or deleted while it was read."""


@hides("context", "messages")
class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Some of a session's messages, by rising seq, and in the first part its context.

    All parts of a session are of the same instant, and have the same header.
    """

    header: SessionMetadata
    context: dict[str, bytes] = {}
    messages: tuple[StoredMessage, ...] = ()
    is_first: bool = True
    is_last: bool = True

    @property
    def last_seq(self) -> int:
        """The seq of its last message, 0 if it has none."""
        return self.messages[-1].seq if self.messages else 0

    @property
    def size(self) -> int:
        """How many bytes its bodies and context values have."""
        bodies = sum([len(message.body) for message in self.messages])
        return bodies + sum(map(len, self.context.values()))


class Share(NamedTuple):
    """One of several shares of all sessions, counted from 1, so that processes can divide them."""

    number: int
    of: int

    def has(self, namespace: str, session_id: str) -> bool:
        """Whether a session belongs to this share: each belongs to one."""
        return crc32(f"{namespace}/{session_id}".encode()) % self.of == self.number - 1


EVERYTHING = Share(1, 1)


class Walk:
    """A walk over the sessions of a store, or of one namespace or one share of it.

    ``unreadable`` has namespace and id of each session whose header cannot be read.
    """

    def __init__(
        self, store: StorageProvider, *, namespace: str | None = None, share: Share = EVERYTHING
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._share = share
        self.unreadable: list[tuple[str, str]] = []

    async def pages(self) -> AsyncIterator[list[SessionMetadata]]:
        """Yield the headers of all sessions, expired and unfinished ones too, in pages."""
        every = self._namespace is None
        for namespace in await self._store.namespaces() if every else [self._namespace]:
            query = Query(namespace=namespace, at=utc_now(), by_creation=True, limit=_PAGE)
            while True:
                found = await self._store.find(query)
                names = [(str(namespace), session_id) for session_id in found.unreadable]
                self.unreadable += [name for name in names if self._share.has(*name)]
                page = [
                    header
                    for header in found.headers
                    if self._share.has(header.namespace, header.session_id)
                ]
                if page:
                    yield page
                if found.next is None:
                    break
                query = msgspec.structs.replace(query, after=found.next)


def is_living(header: SessionMetadata) -> bool:
    """Whether a session is neither expired nor still being built: what moves."""
    return header.hold is not Hold.OPENING and not header.is_expired(utc_now())


async def first_parts(
    store: StorageProvider, headers: Iterable[SessionMetadata]
) -> list[Part | CorruptRecordError | None]:
    """Return the first part of each session, ``None`` for one that is not stored."""
    names = [(header.namespace, header.session_id) for header in headers]
    window = Window(limit=PART_MESSAGES, after_seq=0, max_bytes=PART_BYTES)
    found = await store.read_several(names, context=True, window=window)
    return [_first(each) if isinstance(each, Snapshot) else each for each in found]


def _first(snapshot: Snapshot) -> Part:
    return Part(
        header=snapshot.header,
        context=snapshot.context or {},
        messages=tuple(snapshot.messages or ()),
        is_last=not snapshot.has_more,
    )


async def later_parts(store: StorageProvider, part: Part) -> AsyncIterator[Part]:
    """Yield the parts that follow a part; raise ``ChangedWhileReadError``.

    What a session holds up to a seq follows from its incarnation and its revision. Messages that
    were appended since the first part was read are left out.
    """
    header = part.header
    while not part.is_last:
        after = part.last_seq
        window = Window(limit=PART_MESSAGES, after_seq=after, max_bytes=PART_BYTES)
        snapshot = await store.read(header.namespace, header.session_id, window=window)
        if snapshot is None or _state(snapshot.header) != _state(header):
            raise ChangedWhileReadError("the session was changed while it was read; try again")
        found = snapshot.messages or ()
        messages = tuple(message for message in found if message.seq <= header.last_seq)
        more = snapshot.has_more and len(messages) == len(found)
        part = Part(header=header, messages=messages, is_first=False, is_last=not more)
        yield part


async def parts_of(store: StorageProvider, first: Part) -> AsyncIterator[Part]:
    """Yield the first part and those that follow it; raise ``ChangedWhileReadError``."""
    yield first
    async for part in later_parts(store, first):
        yield part


def _state(header: SessionMetadata) -> tuple[int, int]:
    return header.incarnation, header.revision
