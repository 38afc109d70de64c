"""``NativeProvider``: for stores that read and write parts of a session.

Write ``read``, ``apply``, ``find``, ``due`` and ``count``; the seven methods are made of those
here.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.errors import (
    SessionExpiredError,
    SessionMovedError,
    SessionNotFoundError,
    StaleHeaderError,
)
from agent_cores.session.models.change import Applied, Change
from agent_cores.session.models.limits import Limits
from agent_cores.session.models.query import Ended, Found, Query
from agent_cores.session.models.session import Session, SessionMetadata, SessionStatus
from agent_cores.session.models.snapshot import Snapshot, Window
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage import whole_sessions
from agent_cores.session.storage.base import (
    Counts,
    StorageProvider,
    split_storage_id,
    storage_id,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_EVERYTHING = Window(limit=sys.maxsize, after_seq=0, max_bytes=sys.maxsize)
_UNBOUNDED = Limits(
    metadata_bytes=sys.maxsize, context_bytes=sys.maxsize, grants=sys.maxsize, tags=sys.maxsize
)
_SWEEP_BATCH = 100
_SWEEP_LEASE = 30.0


class NativeProvider(StorageProvider):
    """A store that overrides the five; its seven, for direct use, follow."""

    @abstractmethod
    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        """Look at one session, at one instant; expired ones too. ``None``: there is none."""

    @abstractmethod
    async def apply(self, change: Change) -> Applied:
        """Carry out one change, all or nothing, as ``apply_change`` says; raise what it raises."""

    @abstractmethod
    async def find(self, query: Query) -> Found:
        """Return one page of a listing."""

    @abstractmethod
    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Take up to ``limit`` ended sessions, of any namespace, for ``lease_seconds``."""

    @abstractmethod
    async def count(self, namespace: str | None, at: datetime) -> Counts:
        """Count the sessions of a namespace, or of all."""

    async def save_session(self, session: Session) -> None:
        """Insert or replace a whole session, in one change."""
        header = session.metadata
        namespace, session_id = _names(header)
        await self.apply(
            Change(
                namespace=namespace,
                session_id=session_id,
                at=header.last_active_at,
                limits=_UNBOUNDED,
                create=msgspec.structs.replace(header, namespace=namespace, session_id=session_id),
                overwrite=True,
                append=tuple(whole_sessions.messages_of(session)),
                context_set=whole_sessions.context_of(session),
            )
        )

    async def load_session(self, session_id: str) -> Session | None:
        """Return the whole session, an expired one too, or ``None``."""
        names = split_storage_id(session_id)
        snapshot = await self.read(*names, context=True, window=_EVERYTHING)
        return None if snapshot is None else _named(whole_sessions.session_of(snapshot))

    async def delete_session(self, session_id: str) -> bool:
        """Remove a session, whatever state it is in; ``False`` if there was none."""
        namespace, bare_id = split_storage_id(session_id)
        while True:
            snapshot = await self.read(namespace, bare_id)
            if snapshot is None:
                return False
            try:
                await self.apply(removal(snapshot.header, utc_now()))
            except (StaleHeaderError, SessionExpiredError, SessionMovedError):
                continue  # it changed or ended meanwhile: look again
            except SessionNotFoundError:
                return False
            return True

    async def list_sessions(
        self,
        owner_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: list[str] | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> list[Session]:
        """Return headers as sessions, newest activity first, of every namespace."""
        found = await self.find(
            Query(
                namespace=None,
                at=utc_now(),
                owner_id=owner_id,
                status=None if status is None else SessionStatus(status),
                tags=tuple(tags or ()),
                limit=limit,
                offset=offset,
            )
        )
        return [_named(Session(metadata=header)) for header in found.headers]

    async def update_metadata(self, session_id: str, metadata_updates: Mapping[str, Any]) -> bool:
        """Set metadata keys, remove those set to ``None``; ``False`` if there is no session."""
        namespace, bare_id = split_storage_id(session_id)
        change = Change(
            namespace=namespace, session_id=bare_id, at=utc_now(), metadata=metadata_updates
        )
        try:
            await self.apply(change)
        except SessionNotFoundError:
            return False
        return True

    async def clean_expired_sessions(self) -> int:
        """Remove every expired session; return how many. Runs no hooks: the manager does."""
        removed = 0
        while ended := await self.due(utc_now(), _SWEEP_BATCH, _SWEEP_LEASE):
            for session in ended:
                try:
                    await self.apply(session.removal(utc_now()))
                except (StaleHeaderError, SessionNotFoundError, SessionMovedError):
                    continue  # renewed, re-created or removed by another
                removed += 1
        return removed

    async def get_statistics(self) -> dict[str, Any]:
        """Return ``sessions`` and ``due`` of the whole store."""
        counts = await self.count(None, utc_now())
        return msgspec.structs.asdict(counts)


def removal(header: SessionMetadata, at: datetime) -> Change:
    """Return the change that removes exactly this session, in the state the header shows."""
    return Change(
        namespace=header.namespace,
        session_id=header.session_id,
        at=at,
        incarnation=header.incarnation,
        expected_hold=header.hold,
        must_be_expired=header.is_expired(at),
        delete=True,
    )


def _names(header: SessionMetadata) -> tuple[str, str]:
    """Return namespace and bare id of a header given to one of the seven methods."""
    namespace, session_id = split_storage_id(header.session_id)
    return (namespace, session_id) if "/" in header.session_id else (header.namespace, session_id)


def _named(session: Session) -> Session:
    """Return the session under the id by which the seven methods know it."""
    header = session.metadata
    stored_id = storage_id(header.namespace, header.session_id)
    return msgspec.structs.replace(
        session, metadata=msgspec.structs.replace(header, session_id=stored_id)
    )
