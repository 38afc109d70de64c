"""Pages of sessions, with what a caller wants to be included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec

from agent_cores.session.errors import CorruptRecordError, InvalidInputError
from agent_cores.session.models.session import Page
from agent_cores.session.verbs.base import Verbs
from agent_cores.session.verbs.last_messages import bytes_of_messages, read_last_messages
from agent_cores.session.verbs.paging import find_page, how_many_fit, size_of

if TYPE_CHECKING:
    from agent_cores.session.access.access_control import Caller
    from agent_cores.session.decision import ReadResult
    from agent_cores.session.models.query import Found, Query
    from agent_cores.session.models.session import Session, SessionMetadata

Included = Literal["context", "last_message"]
INCLUDED = ("context", "last_message")
_MOST = 100


class ListingVerbs(Verbs):
    """What all verbs that list sessions share."""

    async def _list(
        self, query: Query, caller: Caller, include: Iterable[Included], deadline: float
    ) -> Page[Session]:
        """Return a page of the sessions that a query finds, as this caller may see them."""
        included = _included(include)
        if included:
            return await self._list_with(query, caller, included, deadline)
        found = await find_page(self._engine, query, deadline)
        listed = (header for header in found.headers if _belongs(header, query, caller))
        sessions = (self._engine.session(header, caller, query.at) for header in listed)
        return _page(sessions, found)

    async def _list_with(
        self, query: Query, caller: Caller, included: frozenset[str], deadline: float
    ) -> Page[Session]:
        """List with contexts or messages, many sessions in one read of the store."""
        context = "context" in included
        read = partial(
            self._engine.read_listed, self._scope, caller, deadline=deadline, context=context
        )
        room, most = self._engine.limits.page_bytes, min(query.limit, _MOST)
        while True:
            part = msgspec.structs.replace(query, limit=most)
            found = await find_page(self._engine, part, deadline, context=context)
            listed = [header for header in found.headers if _belongs(header, query, caller)]
            if "last_message" in included:
                left = room - sum([size_of(header, context=context) for header in listed])
                results, all_fit = await read_last_messages(read, listed, left)
            else:
                results, all_fit = await read(listed), True
            results = [each for each in results if _belongs(each.snapshot.header, query, caller)]
            fitting = how_many_fit([_size(each, context=context) for each in results], room)
            if all_fit and (fitting == len(results) or len(results) == 1):
                return _page(map(self._included_session, results), found)
            most = max(fitting, 1)  # what was read is too large: end the page with what fits

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
    return bytes_of_messages(result) + size_of(result.snapshot.header, context=context)


def _page(sessions: Iterable[Session | None], found: Found) -> Page[Session]:
    following = None if found.next is None else found.next.encode()
    readable = [session for session in sessions if session is not None]
    return Page(readable, has_more=following is not None, next_cursor=following)


def _included(names: object) -> frozenset[str]:
    if isinstance(names, str | bytes | Mapping) or not isinstance(names, Iterable):
        raise InvalidInputError("include", f"must be a list of {', '.join(INCLUDED)}")
    included = list(names)
    for name in included:
        if name not in INCLUDED:
            raise InvalidInputError("include", f"must be some of {', '.join(INCLUDED)}")
    return frozenset(included)
