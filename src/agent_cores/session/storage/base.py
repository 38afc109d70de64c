"""``StorageProvider``: what a store must do. Seven methods are enough; the rest is made of them.

A provider that writes only the seven works with the whole manager, correct within one process; a
write costs in proportion to the session, a listing or a sweep in proportion to the store. A
provider for a real store overrides ``read``, ``apply``, ``find``, ``due`` and ``count`` as well:
see :class:`~agent_cores.session.storage.native.NativeProvider`.

A provider knows no roles and decides nothing about access. It raises the errors of
:mod:`agent_cores.session.errors` and lets none of its driver's through.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import quote, unquote
from weakref import WeakValueDictionary

import msgspec

from agent_cores.session.errors import UnsupportedError
from agent_cores.session.models.change import Applied, Change, apply_change
from agent_cores.session.models.query import Ended, Found, Query, cursor_at, matches, order_key
from agent_cores.session.models.session import DEFAULT_NAMESPACE, Session, SessionStatus
from agent_cores.session.storage import whole_sessions
from agent_cores.session.storage.reference_count import counted_initialize, counted_shutdown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from agent_cores.session.models.snapshot import Snapshot, Window
    from agent_cores.session.settings import SessionSettings

_FIRST_LIMIT = 100
_NOBODYS = "_check"
"""A namespace that nobody can name."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can do beyond the seven methods.

    ``shared``: several processes may use it at once. ``durable``: it survives its process.
    ``flat``: no request costs more as sessions, users or the store grow.
    """

    shared: bool = False
    durable: bool = False
    flat: bool = False


class Counts(msgspec.Struct, frozen=True):
    """How many sessions are stored, unswept included, and how many of them are past due."""

    sessions: int
    due: int


def storage_id(namespace: str, session_id: str) -> str:
    """Return the id under which the seven methods know a session; the id itself by default."""
    if namespace == DEFAULT_NAMESPACE:
        return session_id
    return f"{namespace}/{quote(session_id, safe='')}"


def split_storage_id(stored_id: str) -> tuple[str, str]:
    """Return the namespace and session id behind what ``storage_id`` made."""
    namespace, slash, quoted = stored_id.partition("/")
    return (namespace, unquote(quoted)) if slash else (DEFAULT_NAMESPACE, stored_id)


class StorageProvider(ABC):
    """A store of sessions. Write these seven methods; the rest follows from them."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    _locks: WeakValueDictionary[str, asyncio.Lock] | None = None
    _sessions_listed = 0  # the last time that all were asked for

    def __init_subclass__(cls, **arguments: Any) -> None:  # noqa: ANN401 - the base class's own
        """Count the callers of ``initialize`` and ``shutdown``, see ``ReferenceCount``."""
        super().__init_subclass__(**arguments)
        if "initialize" in vars(cls):
            cls.initialize = counted_initialize(cls.initialize)  # type: ignore[method-assign]
        if "shutdown" in vars(cls):
            cls.shutdown = counted_shutdown(cls.shutdown)  # type: ignore[method-assign]

    @abstractmethod
    async def save_session(self, session: Session) -> None:
        """Insert or replace a whole session.

        Refuses one with parts left out (``InvalidInputError``).
        """

    @abstractmethod
    async def load_session(self, session_id: str) -> Session | None:
        """Return the whole session, an expired one too, or ``None``."""

    @abstractmethod
    async def delete_session(self, session_id: str) -> bool:
        """Remove a session with all that belongs to it; ``False`` if there was none."""

    @abstractmethod
    async def list_sessions(
        self,
        owner_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: list[str] | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> list[Session]:
        """Return sessions, newest activity first, that have all the tags.

        ``status=None`` returns every stored one, expired ones too. Fewer than ``limit`` means that
        there are no more, however large it is. All of an answer is of one instant.
        """

    @abstractmethod
    async def update_metadata(self, session_id: str, metadata_updates: Mapping[str, Any]) -> bool:
        """Set metadata keys, remove those set to ``None``; ``False`` if there is no session."""

    @abstractmethod
    async def clean_expired_sessions(self) -> int:
        """Remove every expired session; return how many."""

    @abstractmethod
    async def get_statistics(self) -> dict[str, Any]:
        """Return ``sessions``, all that are stored, and ``due``, those past their due time."""

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:  # noqa: ANN401 - each provider's own
        """Make a provider from a URL. A provider without a URL scheme has none."""
        detail = f"{cls.__name__} takes no URL"
        raise UnsupportedError(detail)

    @classmethod
    def options_from(cls, settings: SessionSettings) -> dict[str, Any]:
        """Return the constructor options that the settings give this provider; none by default."""
        return {}

    def describe(self) -> str:
        """Return what this store is and where, for a log line; never a password."""
        return type(self).__name__

    @counted_initialize
    async def initialize(self) -> None:
        """Connect, prepare the schema.

        What a provider does here it does for the first caller; others are only counted.
        """

    @counted_shutdown
    async def shutdown(self) -> None:
        """Finish what was accepted, then close what this provider opened, and only that.

        What a provider does here it does once as many have called this as ``initialize``.
        """

    async def store_time(self) -> datetime | None:
        """Return the store's own clock, or ``None`` if it has none but the caller's."""
        return None

    async def check(self) -> None:
        """Return if the store can be read and written now; raise a ``SessionError`` if not.

        Asked by a service every few seconds. By default it reads; a store that may fill up, or turn
        read-only, writes something that nobody sees.
        """
        await self.read(_NOBODYS, "check")

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        """Look at one session, at one instant; expired ones too. ``None``: there is none."""
        session = await self.load_session(storage_id(namespace, session_id))
        if session is None:
            return None
        return whole_sessions.snapshot(_decoded(session), context=context, window=window)

    async def apply(self, change: Change) -> Applied:
        """Carry out one change, all or nothing, as ``apply_change`` says; raise what it raises."""
        stored_id = storage_id(change.namespace, change.session_id)
        async with self._lock(stored_id):
            session = await self.load_session(stored_id)
            decoded = None if session is None else _decoded(session)
            change = change.as_of(change.applied_at())
            applied = apply_change(whole_sessions.state(decoded, change), change)
            if applied.deleted:
                await self.delete_session(stored_id)
            elif applied.writes:
                after = whole_sessions.after(decoded, applied)
                header = msgspec.structs.replace(after.metadata, session_id=stored_id)
                await self.save_session(msgspec.structs.replace(after, metadata=header))
            return applied

    async def find(self, query: Query) -> Found:
        """Return one page of a listing."""
        everything = [_decoded(s).metadata for s in await self._everything(query.owner_id)]
        chosen = [header for header in everything if matches(header, query)]
        chosen.sort(key=lambda header: order_key(header, query), reverse=True)
        if query.after is not None:
            place = (query.after.millis, query.after.session_id)
            chosen = [header for header in chosen if order_key(header, query) < place]
        page = chosen[query.skip : query.skip + query.limit]
        more = len(chosen) > query.skip + query.limit
        return Found(page, cursor_at(page[-1], query) if page and more else None)

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Take up to ``limit`` sessions that have ended, in any namespace, for ``lease_seconds``.

        Others that ask meanwhile do not get them. One that came due but lives on is put off.
        """
        taken: list[Ended] = []
        everything = [_decoded(session).metadata for session in await self._everything()]
        came_due = [header for header in everything if whole_sessions.came_due(header, at)]
        for header in came_due:
            if len(taken) == limit:
                break
            stored_id = storage_id(header.namespace, header.session_id)
            async with self._lock(stored_id):
                session = await self.load_session(stored_id)
                if session is None or not whole_sessions.came_due(session.metadata, at):
                    continue
                await self.save_session(whole_sessions.put_off(session, at, lease_seconds))
                if session.metadata.is_expired(at):
                    taken.append(Ended.of(_decoded(session).metadata))
        return taken

    async def repair_lists(self, namespace: str, user_id: str) -> None:
        """Make ``find`` meet every session that a user owns or is granted, before an erasure.

        For stores whose lists may lose an entry while the session stays; others do nothing.
        """

    async def count(self, namespace: str | None, at: datetime) -> Counts:
        """Count the sessions of a namespace, or of all."""
        headers = [
            session.metadata
            for session in await self._everything()
            if namespace is None or session.metadata.namespace == namespace
        ]
        return Counts(len(headers), sum(whole_sessions.came_due(header, at) for header in headers))

    async def _everything(self, owner_id: str | None = None) -> list[Session]:
        """Return every stored session, each once, as they were at one instant.

        By one call that asks for more than there are. Pages would have to fit together while
        sessions move between them, are created and deleted, and need never come to an end.
        """
        limit = _FIRST_LIMIT + 2 * self._sessions_listed
        while len(found := await self.list_sessions(owner_id=owner_id, limit=limit)) >= limit:
            limit = 2 * len(found)
        if await self.list_sessions(owner_id=owner_id, limit=1, offset=len(found)):
            count = len(found)  # one more was created since, or it gives no more than so many
            found = await self.list_sessions(owner_id=owner_id, limit=limit + _FIRST_LIMIT)
            if len(found) == count:
                detail = f"{type(self).__name__}.list_sessions gives {count} of {limit} sessions"
                raise UnsupportedError(f"{detail} that it was asked for, though it has more")
        self._sessions_listed = len(found)
        return found

    def _lock(self, stored_id: str) -> asyncio.Lock:
        locks = self._locks
        if locks is None:  # made here, since a subclass need not call our __init__
            locks = self._locks = WeakValueDictionary()
        lock = locks.get(stored_id)
        if lock is None:
            lock = locks[stored_id] = asyncio.Lock()
        return lock


def _decoded(session: Session) -> Session:
    """Return the session with the id that its callers know."""
    _, session_id = split_storage_id(session.id)
    if session_id == session.id:
        return session
    header = msgspec.structs.replace(session.metadata, session_id=session_id)
    return msgspec.structs.replace(session, metadata=header)
