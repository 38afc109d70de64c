"""``Defaults``: the five methods of a store, made of the seven.

``StorageProvider`` uses these where a provider does not override the five. A read loads the session
whole and a change saves it whole, under a lock of this process; a listing, a count or a sweep asks
for every session.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import msgspec

from agent_cores.session.deadline import start_task
from agent_cores.session.models.change import apply_change
from agent_cores.session.models.query import Ended, matches, order_key
from agent_cores.session.storage.every_session import EverySession, Lister
from agent_cores.session.storage.listing import ListingPage
from agent_cores.session.storage.storage_ids import split_storage_id, storage_id
from agent_cores.session.storage.whole_sessions import session_after, snapshot_of, state_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from datetime import datetime

    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.models.query import Found, Query
    from agent_cores.session.models.session import Session, SessionMetadata
    from agent_cores.session.models.snapshot import Snapshot, Window

_LONGEST_STOP = 10.0
"""Seconds that a shutdown waits for changes and saves in flight."""


class WholeSessionStore(Lister, Protocol):
    """The four of the seven methods that the defaults use."""

    async def save_session(self, session: Session) -> None:
        """Insert or replace a whole session."""

    async def load_session(self, session_id: str) -> Session | None:
        """Return the whole session."""

    async def delete_session(self, session_id: str) -> bool:
        """Remove a session."""


class Defaults:
    """``read``, ``apply``, ``find``, ``due`` and ``count`` of one store.

    ``StorageProvider`` documents them.
    """

    def __init__(self, store: WholeSessionStore) -> None:
        self._store = store
        self._every_session = EverySession(store)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._saves: dict[str, asyncio.Task[Any]] = {}

    async def read(
        self, namespace: str, session_id: str, *, context: bool, window: Window | None
    ) -> Snapshot | None:
        """Load the session whole and return the parts that were asked for."""
        session = await self._store.load_session(storage_id(namespace, session_id))
        if session is None:
            return None
        return snapshot_of(_with_own_id(session), context=context, window=window)

    async def apply(self, change: Change) -> Applied:
        """Load the session, run ``apply_change``, and save or delete the session.

        A caller who is cancelled before the save begins takes the change back; after that, the
        save goes on without its caller, and the session is locked until it is over.
        """
        stored_id = storage_id(change.namespace, change.session_id)
        async with self._locked(stored_id):
            loaded = await self._store.load_session(stored_id)
            session = None if loaded is None else _with_own_id(loaded)
            change = change.as_of(change.applied_at())
            applied = apply_change(state_of(session, change), change)
            if applied.deleted:
                await self._finish(stored_id, self._store.delete_session(stored_id))
            elif applied.writes:
                after = session_after(session, applied)
                header = msgspec.structs.replace(after.metadata, session_id=stored_id)
                after = msgspec.structs.replace(after, metadata=header)
                await self._finish(stored_id, self._store.save_session(after))
            return applied

    async def find(self, query: Query) -> Found:
        """Return one page of all sessions that match, sorted."""
        headers = await self._headers(query.owner_id)
        placed = [
            (order_key(header, query), header) for header in headers if matches(header, query)
        ]
        placed.sort(key=lambda entry: entry[0], reverse=True)
        after = None if query.after is None else (query.after.millis, query.after.session_id)
        page = ListingPage(query)
        for place, header in placed:
            if after is not None and place >= after:
                continue
            if not page.offer(place, header):
                break
        return page.found()

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Load, under its lock, every session that came due; lease it or put it off."""
        taken: list[Ended] = []
        for header in await self._headers():
            if len(taken) == limit:
                break
            if not _came_due(header, at):
                continue
            stored_id = storage_id(header.namespace, header.session_id)
            async with self._locked(stored_id):
                session = await self._store.load_session(stored_id)
                if session is None or not _came_due(session.metadata, at):
                    continue
                leased = _put_off(session, at, lease_seconds)
                await self._finish(stored_id, self._store.save_session(leased))
                if session.metadata.is_expired(at):
                    taken.append(Ended.of(_with_own_id(session).metadata))
        return taken

    async def count(self, namespace: str | None, at: datetime) -> tuple[int, int]:
        """Return how many sessions are stored, and how many of them came due."""
        headers = [
            header
            for header in await self._headers()
            if namespace is None or header.namespace == namespace
        ]
        return len(headers), sum(_came_due(header, at) for header in headers)

    async def namespaces(self) -> list[str]:
        """Return the namespaces of all sessions, sorted."""
        return sorted({header.namespace for header in await self._headers()})

    async def _headers(self, owner_id: str | None = None) -> list[SessionMetadata]:
        sessions = await self._every_session.of(owner_id)
        return [_with_own_id(session).metadata for session in sessions]

    async def stop(self) -> None:
        """Finish the changes that were accepted; cancel saves that take longer than 10 seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_STOP):
                for stored_id in {*self._locks, *self._saves}:
                    async with self._locked(stored_id):  # after all that wait for it
                        pass
        for save in self._saves.values():
            save.cancel()

    @asynccontextmanager
    async def _locked(self, stored_id: str) -> AsyncIterator[None]:
        """Keep others away from a session; wait for a save whose caller was cancelled."""
        lock = self._locks.get(stored_id)
        if lock is None:
            lock = self._locks[stored_id] = asyncio.Lock()
        async with lock:
            if stored_id in self._saves:
                await asyncio.wait([self._saves[stored_id]])
            yield

    async def _finish(self, stored_id: str, save: Coroutine[Any, Any, object]) -> None:
        """Run a save of a locked session to its end, even if its caller is cancelled.

        What is cancelled half way may go on in a thread or at a server, and would then overwrite
        what others save in between.
        """
        task = self._saves[stored_id] = start_task(save)
        task.add_done_callback(partial(self._forget, stored_id))
        await asyncio.shield(task)

    def _forget(self, stored_id: str, save: asyncio.Task[Any]) -> None:
        """Forget a save, and retrieve its error in place of a cancelled caller."""
        del self._saves[stored_id]
        if not save.cancelled():
            save.exception()


def _with_own_id(session: Session) -> Session:
    """Return the session under the id that its callers know."""
    _, session_id = split_storage_id(session.id)
    if session_id == session.id:
        return session
    header = msgspec.structs.replace(session.metadata, session_id=session_id)
    return msgspec.structs.replace(session, metadata=header)


def _came_due(header: SessionMetadata, at: datetime) -> bool:
    """Whether the session is past its due time, so that a sweep must judge it."""
    due_at = header.due_at or header.expires_at
    return due_at is not None and due_at <= at


def _put_off(session: Session, at: datetime, lease_seconds: float) -> Session:
    """Return a session that came due with its next due time.

    An expired one is leased: due again in ``lease_seconds``. Another is due when it expires.
    """
    due_at = session.metadata.expires_at
    if session.metadata.is_expired(at):
        due_at = at + timedelta(seconds=lease_seconds)
    header = msgspec.structs.replace(session.metadata, due_at=due_at)
    return msgspec.structs.replace(session, metadata=header)
