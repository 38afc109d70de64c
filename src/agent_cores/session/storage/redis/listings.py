"""``Listings``: pages of sessions, in two round trips: index entries, then headers.

Each entry is checked against the header, and skipped if it is stale or its session does not match.
After a cursor, the listing then returns a short page rather than make a third round trip. A page
without a cursor is filled, because its caller may continue by offset. The next page continues at
the position of an entry in its list, not at the time in the header.
"""

from __future__ import annotations

from heapq import nlargest
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models.query import (
    WALK_LIMIT,
    Found,
    Query,
    cursor_at,
    matches,
    order_key,
)
from agent_cores.session.models.session import SessionStatus, grants_to
from agent_cores.session.storage.listing import ListingPage, Place
from agent_cores.session.storage.redis.commands import PAGE
from agent_cores.session.storage.redis.connection import GROUP
from agent_cores.session.storage.redis.keys import split_member
from agent_cores.session.storage.redis.repair import Entry, Repairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.redis.due import DueQueue
    from agent_cores.session.storage.redis.headers import Headers
    from agent_cores.session.storage.redis.keys import Keys
    from agent_cores.session.storage.redis.wire import Wire

_CHUNK = 500
_IDLE_ROUNDS = 20
"""A page without a cursor is filled until this many consecutive round trips find no match."""
_ENTRIES_TOGETHER = 4_096
"""Entries of all lists that are checked at a time, which blocks the event loop."""
_AT_LEAST = 12
"""A few more entries than a small page needs: some may be skipped."""


class Source(msgspec.Struct, frozen=True):
    """Lists in one slot; the wanted sessions are those that are in every list."""

    keys: tuple[bytes, ...]
    subject: str | None = None


class Listings:
    """Lists sessions."""

    def __init__(
        self, keys: Keys, wire: Wire, due: DueQueue, headers: Headers, repairs: Repairs
    ) -> None:
        self._keys = keys
        self._wire = wire
        self._due = due
        self._headers = headers
        self._repairs = repairs

    async def find(self, query: Query) -> Found:
        """Return one page."""
        namespace = query.namespace
        if namespace is None or not (query.by_creation or query.owner_id or query.subjects):
            return await self._find_anywhere(query)
        if query.by_creation:
            await self._repairs.add_created(namespace)
        return await self._find_listed(query, namespace)

    async def _find_listed(self, query: Query, namespace: str) -> Found:
        page = ListingPage(query, exact=False, walk_limit=None)
        sources = list(self._sources(query, namespace))
        after = None if query.after is None else (query.after.millis, query.after.session_id)
        idle, walked, at_least = 0, 0, _fewest_checked(query)
        while True:
            matched = page.matched
            wanted = min(max(page.missing, at_least), GROUP)
            at_least *= 4
            entries, after = await self._next_entries(sources, after, wanted)
            names = list(dict.fromkeys(entry.session_id for entry in entries))
            headers = dict(zip(names, await self._headers.read(namespace, names), strict=True))
            checked = [(entry, headers[entry.session_id]) for entry in entries]
            self._repairs.check(namespace, checked, query.at)
            for entry, header in checked:
                if _is_stale(entry, header, query):
                    continue
                readable = None if isinstance(header, CorruptRecordError) else header
                if not page.offer(entry.position, readable):
                    return page.found()
            if after is None:
                return page.found()
            idle = 0 if page.matched > matched else idle + 1
            walked += len(entries)
            by_cursor = query.after is not None and not page.is_skipping
            far = query.passes_over and walked >= WALK_LIMIT
            if page.is_full or by_cursor or far or idle >= _IDLE_ROUNDS:
                return page.cut_after(after)

    async def _next_entries(
        self, sources: Sequence[Source], after: Place | None, wanted: int
    ) -> tuple[list[Entry], Place | None]:
        """Return entries after a position, and the position to continue at; ``None`` at the end.

        If there are several lists, there may be more entries than requested.
        """
        bound = "+inf" if after is None else after[0]
        each = min(wanted, max(_AT_LEAST, _ENTRIES_TOGETHER // len(sources)))
        answers = await self._wire.call_all(
            PAGE.on(source.keys, bound, each, WALK_LIMIT) for source in sources
        )
        entries: list[Entry] = []
        floor: Place | None = None
        for source, (found, broke_off) in zip(sources, answers, strict=True):
            entries += _entries(source, found)
            if broke_off is not None:
                position = int(broke_off[1]), split_member(broke_off[0])[0]
                floor = position if floor is None else max(floor, position)
        ahead = [
            entry
            for entry in entries
            if (after is None or entry.position < after)
            and (floor is None or entry.position >= floor)
        ]
        ahead.sort(key=lambda entry: entry.position, reverse=True)
        several_lead_to_one = any([source.subject is not None for source in sources])  # noqa: C419 - a list is faster
        most = max(GROUP, 2 * wanted) if several_lead_to_one else wanted
        if len(ahead) > most:
            last = _count_for(ahead, most)
            if last < len(ahead):
                del ahead[last:]
                floor = ahead[-1].position
        return ahead, floor

    def _sources(self, query: Query, namespace: str) -> Iterable[Source]:
        """Yield the lists that together have every session of the listing."""
        for subject in query.subjects:
            yield Source((self._keys.shared_with(namespace, subject),), subject)
        if query.subjects or not (query.by_creation or query.owner_id):
            return
        both = query.status in {None, SessionStatus.EXPIRED}
        shelves = (False, True) if both else (query.status is SessionStatus.ARCHIVED,)
        for archived in shelves:
            tags = query.tags or (None,)
            if query.owner_id is None:
                lists = (
                    self._keys.created_shards(namespace, archived=archived, tag=tag) for tag in tags
                )
                yield from map(Source, zip(*lists, strict=True))
                continue
            yield Source(
                tuple(
                    self._keys.owned(namespace, query.owner_id, archived=archived, tag=tag)
                    for tag in tags
                )
            )

    async def _find_anywhere(self, query: Query) -> Found:
        """List without an owner: read every session of the namespace, or of the store."""
        page: list[SessionMetadata] = []
        unreadable: list[str] = []
        wanted = query.skip + query.limit + 1
        after = None if query.after is None else (query.after.millis, query.after.session_id)
        async for namespace, members in self._due.members(query.namespace):
            for first in range(0, len(members), _CHUNK):
                chunk = members[first : first + _CHUNK]
                for header in await self._known(namespace, chunk, query.at):
                    if isinstance(header, CorruptRecordError):
                        unreadable.append(header.session_id)
                        continue
                    before_bound = after is None or order_key(header, query) < after
                    if before_bound and matches(header, query):
                        page.append(header)
                page = nlargest(wanted, page, key=lambda header: order_key(header, query))
        more = len(page) == wanted
        page = page[query.skip : query.skip + query.limit]
        following = cursor_at(page[-1], query) if page and more else None
        return Found(page, following, tuple(unreadable))

    async def _known(
        self, namespace: str, members: Sequence[bytes], at: datetime
    ) -> list[SessionMetadata | CorruptRecordError]:
        """Return the headers of members; have members without one checked again."""
        names = [split_member(member) for member in members]
        headers = await self._headers.read(namespace, [session_id for session_id, _ in names])
        known: list[SessionMetadata | CorruptRecordError] = []
        gone: list[bytes] = []
        for member, (_, incarnation), header in zip(members, names, headers, strict=True):
            if isinstance(header, CorruptRecordError):
                known.append(header)
                continue
            if header is not None and header.incarnation == incarnation:
                known.append(header)
            else:
                gone.append(member)
        self._repairs.recheck(namespace, gone, at)
        return known


def _is_stale(
    entry: Entry, header: SessionMetadata | CorruptRecordError | None, query: Query
) -> bool:
    """Whether an entry leads to no session, to another incarnation, or is not the latest grant."""
    if header is None:
        return True
    if isinstance(header, CorruptRecordError):
        return False
    if header.incarnation != entry.incarnation:
        return True
    return entry.subject is not None and not _is_latest_grant(header, entry.subject, query)


def _fewest_checked(query: Query) -> int:
    """Return the minimum number of entries to check, however small the page."""
    tells_apart = query.subjects and (query.status is SessionStatus.ARCHIVED or query.tags)
    if tells_apart or query.passes_over or query.status is SessionStatus.EXPIRED:
        return WALK_LIMIT  # the lists hold these among others
    return _AT_LEAST


def _is_latest_grant(header: SessionMetadata, subject: str, query: Query) -> bool:
    """Whether this is the latest live grant of the session to one of the query's subjects."""
    grant = header.grants.get(subject)
    if grant is None or not grant.is_live(query.at):
        return False
    return all(
        other.granted_at <= grant.granted_at
        for other in grants_to(header.grants, query.subjects)
        if other.is_live(query.at)
    )


def _count_for(entries: Sequence[Entry], sessions: int) -> int:
    """Return how many entries belong to the first ``sessions`` sessions; each may have several."""
    seen: set[str] = set()
    for count, entry in enumerate(entries):
        if len(seen) == sessions and entry.session_id not in seen:
            return count
        seen.add(entry.session_id)
    return len(entries)


def _entries(source: Source, found: Sequence[bytes]) -> Iterable[Entry]:
    for member, score in zip(found[::2], found[1::2], strict=True):
        session_id, incarnation = split_member(member)
        yield Entry(int(score), session_id, incarnation, member, source.keys[0], source.subject)
