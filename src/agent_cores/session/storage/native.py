"""``NativeProvider``: the seven methods, made of the five.

Extend it for a store that can read and write parts of a session: implement ``read``, ``apply``,
``find``, ``due`` and ``count`` as ``StorageProvider`` describes them. The manager uses only these;
the seven are for code that calls a provider directly.
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
from agent_cores.session.storage.base import Counts, StorageProvider
from agent_cores.session.storage.storage_ids import split_storage_id, storage_id
from agent_cores.session.storage.whole_sessions import context_of, messages_of, session_of

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
    """A store that implements the five; the seven are made of them."""

    @abstractmethod
    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        """Return one session as of one instant, also an expired one; ``None`` if there is none."""

    @abstractmethod
    async def apply(self, change: Change) -> Applied:
        """Carry out one change, all of it or nothing, with the result of ``apply_change``."""

    @abstractmethod
    async def find(self, query: Query) -> Found:
        """Return one page of a listing."""

    @abstractmethod
    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Lease up to ``limit`` expired sessions, of any namespace, for a sweep."""

    @abstractmethod
    async def count(self, namespace: str | None, at: datetime) -> Counts:
        """Count the sessions of a namespace; ``None`` means all namespaces."""

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
                append=tuple(messages_of(session)),
                context_set=context_of(session),
            )
        )

    async def load_session(self, session_id: str) -> Session | None:
        """Return the whole session, also an expired one; ``None`` if there is none."""
        names = split_storage_id(session_id)
        snapshot = await self.read(*names, context=True, window=_EVERYTHING)
        return None if snapshot is None else _named(session_of(snapshot))

    async def delete_session(self, session_id: str) -> bool:
        """Remove a session, whatever state it is in; ``False`` if there was none."""
        namespace, own_id = split_storage_id(session_id)
        while True:
            snapshot = await self.read(namespace, own_id)
            if snapshot is None:
                return False
            try:
                await self.apply(removal(snapshot.header, utc_now()))
            except (StaleHeaderError, SessionExpiredError, SessionMovedError):
                continue  # it changed or expired since: read it again
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
        """Return the headers of sessions in every namespace, newest activity first.

        ``context`` and ``messages`` of each are ``None``.
        """
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
        namespace, own_id = split_storage_id(session_id)
        change = Change(
            namespace=namespace, session_id=own_id, at=utc_now(), metadata=metadata_updates
        )
        try:
            await self.apply(change)
        except SessionNotFoundError:
            return False
        return True

    async def clean_expired_sessions(self) -> int:
        """Remove every expired session; return how many. No hooks run: those are the manager's."""
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
    """Return the change that removes this session, if it is still in the state of its header."""
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
    """Return namespace and session id of a header that was passed to ``save_session``."""
    namespace, session_id = split_storage_id(header.session_id)
    return (namespace, session_id) if "/" in header.session_id else (header.namespace, session_id)


def _named(session: Session) -> Session:
    """Return the session under the id that the seven methods use."""
    header = session.metadata
    stored_id = storage_id(header.namespace, header.session_id)
    return msgspec.structs.replace(
        session, metadata=msgspec.structs.replace(header, session_id=stored_id)
    )
