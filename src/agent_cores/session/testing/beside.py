"""``Beside``: applies the same changes to a provider and the oracle, and compares them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import SessionError
from agent_cores.session.models import Applied, Query, Window, order_key
from agent_cores.session.testing.oracle import EVERYTHING, Oracle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent_cores.session.models import Change, Ended, SessionMetadata
    from agent_cores.session.storage.base import StorageProvider

_MOST_PAGES = 1_000


class Beside:
    """Applies each change to both, and fails if they differ.

    Only ``listed_at`` may differ, after an append that was decided on a stale header. The store
    keeps the later of its own value and the one in the change.
    """

    def __init__(self, provider: StorageProvider) -> None:
        self.provider = provider
        self.oracle: Oracle = Oracle()

    async def apply(self, change: Change) -> Applied:
        """Apply a change to both; return what both return, or raise what both raise."""
        stale = self._is_stale(change)
        expected: Applied | SessionError
        try:
            expected = self.oracle.apply(change)
        except SessionError as error:
            expected = error
        given: Applied | SessionError
        try:
            given = await self.provider.apply(change)
        except SessionError as error:
            given = error
        return await self._compared(change, given, expected, stale=stale)

    async def apply_together(self, changes: Sequence[Change]) -> list[Applied | SessionError]:
        """Apply changes of different sessions at the same time; return what both return."""
        outcomes: list[Applied | SessionError] = []
        given = await asyncio.gather(*map(self.provider.apply, changes), return_exceptions=True)
        for change, answer in zip(changes, given, strict=True):
            if not isinstance(answer, Applied | SessionError):
                raise answer
            try:
                expected: Applied | SessionError = self.oracle.apply(change)
            except SessionError as error:
                expected = error
            with suppress(SessionError):
                await self._compared(change, answer, expected, stale=False)
            outcomes.append(expected)
        return outcomes

    async def _compared(
        self,
        change: Change,
        given: Applied | SessionError,
        expected: Applied | SessionError,
        *,
        stale: bool,
    ) -> Applied:
        """Compare two outcomes and what is stored; return or raise what was expected."""
        if stale:
            await self._follow_listed_at(change)
        if isinstance(expected, SessionError) or isinstance(given, SessionError):
            assert type(given) is type(expected), f"the provider: {given!r}; meant: {expected!r}"
        else:
            _compare_answers(given, expected, stale=stale)
        await self.compare(change.namespace, change.session_id)
        if isinstance(expected, SessionError):
            raise expected
        return expected

    async def compare(self, namespace: str, session_id: str) -> None:
        """Compare one whole session."""
        await self.compare_window(namespace, session_id, EVERYTHING)

    async def compare_window(self, namespace: str, session_id: str, window: Window) -> None:
        """Compare header, context and a window of messages, and the header by itself."""
        expected = self.oracle.read(namespace, session_id, context=True, window=window)
        given = await self.provider.read(namespace, session_id, context=True, window=window)
        assert given == expected
        alone = await self.provider.read(namespace, session_id)
        assert alone == self.oracle.read(namespace, session_id, context=False, window=None)

    async def compare_listing(self, query: Query) -> None:
        """Walk a listing page by page and compare it with the whole."""
        given = await walk(self.provider, query)
        expected = self.oracle.listed(query)
        assert given == expected

    async def due(self, at: datetime, lease_seconds: float) -> list[Ended]:
        """Lease the expired sessions of both in parts, and compare them in any order."""
        before = {name: kept.header for name, kept in self.oracle.sessions.items()}
        expected = self.oracle.due(at, lease_seconds)
        given: list[Ended] = []
        while taken := await self.provider.due(at, 2, lease_seconds):
            given += taken
        # The same store may hold sessions of other tests, which are ignored.
        given = [ended for ended in given if (ended.namespace, ended.session_id) in before]
        assert sorted(map(_name, given)) == sorted(map(_name, expected))
        for name, header in before.items():
            await self._follow_due_at(name, header)
            await self.compare(*name)
        return expected

    def _is_stale(self, change: Change) -> bool:
        if change.basis is None:
            return False
        return change.basis != self.oracle.header(change.namespace, change.session_id)

    async def _follow_listed_at(self, change: Change) -> None:
        snapshot = await self.provider.read(change.namespace, change.session_id)
        ours = self.oracle.header(change.namespace, change.session_id)
        if snapshot is None or ours is None:
            return
        listed_at = snapshot.header.listed_at
        assert listed_at in {ours.listed_at, ours.last_active_at}
        self.oracle.set_header(msgspec.structs.replace(ours, listed_at=listed_at))

    async def _follow_due_at(self, name: tuple[str, str], before: SessionMetadata) -> None:
        """A store that scans for expired sessions need not postpone live ones."""
        snapshot = await self.provider.read(*name)
        ours = self.oracle.header(*name)
        if snapshot is None or ours is None or ours.due_at != ours.expires_at:
            return
        assert snapshot.header.due_at in {before.due_at, ours.due_at}
        self.oracle.set_header(msgspec.structs.replace(ours, due_at=snapshot.header.due_at))


async def walk(provider: StorageProvider, query: Query) -> list[SessionMetadata]:
    """Return a whole listing, page by page, and check the rules of every page."""
    headers: list[SessionMetadata] = []
    for _ in range(_MOST_PAGES):
        found = await provider.find(query)
        assert len(found.headers) <= query.limit
        headers += found.headers
        if found.next is None:
            break
        query = msgspec.structs.replace(query, after=found.next, offset=0)
    else:
        message = "the listing does not end"
        raise AssertionError(message)
    places = [order_key(header, query) for header in headers]
    assert places == sorted(places, reverse=True)
    assert len(places) == len(set(places))
    return headers


def _name(ended: Ended) -> tuple[str, str, int]:
    return ended.namespace, ended.session_id, ended.incarnation


def _compare_answers(given: Applied, expected: Applied, *, stale: bool) -> None:
    assert given.messages == expected.messages
    assert given.replayed == expected.replayed
    assert given.deleted == expected.deleted
    assert given.removed == expected.removed
    assert given.updated == expected.updated
    replaced = [a.replaced and a.replaced.incarnation for a in (given, expected)]
    assert replaced[0] == replaced[1]
    if not stale:
        assert given.header == expected.header
        return
    for name in ("incarnation", "revision", "last_seq", "access_revision", "expires_at"):
        assert getattr(given.header, name) == getattr(expected.header, name), name
