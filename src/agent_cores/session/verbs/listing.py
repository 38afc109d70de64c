"""Pages of sessions, with what a caller wants to be included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from agent_cores.session.errors import CorruptRecordError, InvalidInputError
from agent_cores.session.models.session import Page
from agent_cores.session.models.snapshot import Window
from agent_cores.session.verbs.base import Verbs
from agent_cores.session.verbs.paging import find_page, how_many_fit, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent_cores.session.access.access_control import Caller
    from agent_cores.session.decision import ReadResult
    from agent_cores.session.models.query import Found, Query
    from agent_cores.session.models.session import Session, SessionMetadata

Included = Literal["context", "last_message"]
INCLUDED = ("context", "last_message")
_MOST = 100
_FIRST = 10
_STEP = 45
"""How many last messages are read together: nothing says how large they are before."""
_SMALL = 4_096


class ListingVerbs(Verbs):
    """What all verbs that list sessions share."""

    async def _list(
        self, query: Query, caller: Caller, include: Iterable[Included]
    ) -> Page[Session]:
        """Return a page of the sessions that a query finds, as this caller may see them."""
        included = _included(include)
        if included:
            return await self._list_with(query, caller, included)
        found = await find_page(self._engine, query)
        listed = (header for header in found.headers if _belongs(header, query, caller))
        sessions = (self._engine.session(header, caller, query.at) for header in listed)
        return _page([session for session in sessions if session is not None], found)

    async def _list_with(
        self, query: Query, caller: Caller, included: frozenset[str]
    ) -> Page[Session]:
        """List with contexts or messages, many sessions in one read of the store."""
        context = "context" in included
        window = Window(limit=1) if "last_message" in included else None
        room, left = self._engine.limits.page_bytes, min(query.limit, _MOST)
        step = _MOST if window is None else _FIRST
        sessions: list[Session] = []
        while True:
            wanted = min(step, left)
            part = msgspec.structs.replace(query, limit=wanted)
            found = await find_page(self._engine, part, most=room, context=context)
            listed = [header for header in found.headers if _belongs(header, query, caller)]
            results = await self._engine.read_listed(
                self._scope, listed, caller, context=context, window=window
            )
            results = [each for each in results if _belongs(each.snapshot.header, query, caller)]
            sizes = [_size(result, context=context) for result in results]
            fitting = how_many_fit(sizes, room)
            if fitting < len(sizes) and len(sizes) > 1:
                left = max(fitting, 1)  # what was read is too large: end the page with what fits
                continue
            room -= sum(sizes)
            left -= len(found.headers)
            read = map(self._included_session, results)
            sessions += [session for session in read if session is not None]
            short = len(found.headers) < wanted
            if found.next is None or short or room <= 0 or left <= 0:
                return _page(sessions, found)
            if self._engine.limits.page_bytes - room < _SMALL * len(sessions):
                step = _STEP
            query = msgspec.structs.replace(query, after=found.next, offset=0)

    def _included_session(self, read: ReadResult) -> Session | None:
        """Return what was read as the caller gets it; ``None`` if it cannot be decoded."""
        try:
            return self._session_of(read)
        except CorruptRecordError as error:
            self._engine.leave_out(error)
            return None


def _belongs(header: SessionMetadata, query: Query, caller: Caller) -> bool:
    """Whether a session is in the list by its owner, who may have changed since it was found.

    A list of what others share never shows the caller's own sessions.
    """
    if query.subjects:
        return header.owner_id != caller.user_id
    return query.owner_id in {None, header.owner_id}


def _size(result: ReadResult, *, context: bool) -> int:
    bodies = sum([len(message.body) for message in result.snapshot.messages or ()])
    return bodies + size_of(result.snapshot.header, context=context)


def _page(sessions: list[Session], found: Found) -> Page[Session]:
    following = None if found.next is None else found.next.encode()
    return Page(sessions, has_more=following is not None, next_cursor=following)


def _included(names: object) -> frozenset[str]:
    if isinstance(names, str) or not isinstance(names, tuple | list | set | frozenset):
        raise InvalidInputError("include", f"must be a list of {', '.join(INCLUDED)}")
    for name in names:
        if name not in INCLUDED:
            raise InvalidInputError("include", f"must be some of {', '.join(INCLUDED)}")
    return frozenset(names)
