"""``ListingPage``: fills one page of a listing from the candidates that a store walks.

A store walks its index, newest first, and offers the page every session that it meets. The page
judges each by its header, skips the offset, stops at the limit or at the bound of the walk, and
makes the cursor. The walk itself belongs to the store: memory merges sorted sets, SQL reads chunks
with keyset queries, Redis reads members first and headers after. The page does no I/O, so a thread
and a coroutine can both fill it::

    page = ListingPage(query)
    for place, header in walk(query):
        if not page.offer(place, header):
            break
    return page.found()

Redis needs three things more. Its entries may be stale, so it checks an entry before it offers the
session and passes ``exact=False``. It reads in chunks, and ``missing`` says how many candidates the
page can still use. It bounds a walk by round trips, so it passes ``walk_limit=None`` and returns
``cut_after(place)``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from agent_cores.session.models.query import WALK_LIMIT, Cursor, Found, matches, order_key

if TYPE_CHECKING:
    from agent_cores.session.models.query import Query
    from agent_cores.session.models.session import SessionMetadata

Place = tuple[int, str]
"""Time in milliseconds and session id: the position of an entry in a listing, the highest first."""

_LARGEST_SKIP = 2**63 - 1


class ListingPage:
    """One page of a listing while it fills.

    ``exact``: a candidate whose place is not the one its header gives is passed over, since the
    walk meets the session at that place too. ``walk_limit`` bounds how many candidates may be
    passed over, besides those that the offset and the page need.
    """

    def __init__(
        self, query: Query, *, exact: bool = True, walk_limit: int | None = WALK_LIMIT
    ) -> None:
        self._query = query
        self._exact = exact
        self._floor = query.floor
        self._skip = query.skip
        self._walk_left = (
            sys.maxsize if walk_limit is None else walk_limit + query.skip + query.limit
        )
        self._met: set[tuple[str, str]] = set()
        self._walked_to: Place | None = None
        self._page_end: Place | None = None
        self._next: Cursor | None = None
        self._headers: list[SessionMetadata] = []
        self._unreadable: dict[str, None] = {}

    @property
    def is_full(self) -> bool:
        """Whether the page holds as many sessions as the query's limit."""
        return len(self._headers) == self._query.limit

    @property
    def is_skipping(self) -> bool:
        """Whether the offset has not been used up yet."""
        return self._skip > 0

    @property
    def matched(self) -> int:
        """How many sessions of the listing were offered so far, those of the offset included."""
        return self._query.skip - self._skip + len(self._headers)

    @property
    def missing(self) -> int:
        """How many more matching candidates the page can use.

        One more than it has room for: only that one tells whether another page follows.
        """
        return self._skip + self._query.limit - len(self._headers) + 1

    def offer(self, place: Place, header: SessionMetadata | None) -> bool:
        """Judge the next candidate; return ``False`` if the page ends before it.

        ``None`` stands for a header that cannot be read: its id is reported beside the page.
        """
        if self._floor is not None and place[0] < self._floor:
            return False
        if not self._walk_left:
            self._next = self._cursor(self._walked_to, self._skip)
            return False
        self._walk_left -= 1
        self._walked_to = place
        if header is None:
            self._unreadable[place[1]] = None
        elif self._belongs(place, header):
            return self._take(place, header)
        return True

    def _belongs(self, place: Place, header: SessionMetadata) -> bool:
        if self._exact and order_key(header, self._query) != place:
            return False
        return matches(header, self._query)

    def _take(self, place: Place, header: SessionMetadata) -> bool:
        name = header.namespace, header.session_id
        if name in self._met:  # it has several entries, for instance one for each of its grants
            return True
        if self._skip:
            self._skip -= 1
        elif self.is_full:
            self._next = self._cursor(self._page_end)
            return False
        else:
            self._headers.append(header)
            self._page_end = place
        self._met.add(name)
        return True

    def found(self) -> Found:
        """Return the page, after the walk has ended or ``offer`` has returned ``False``."""
        return Found(self._headers, self._next, tuple(self._unreadable))

    def cut_after(self, place: Place) -> Found:
        """Return the page as it is; the next one goes on after that place of the walk."""
        self._next = self._cursor(place, self._skip)
        return self.found()

    def _cursor(self, place: Place | None, skip: int = 0) -> Cursor | None:
        if place is None:  # a page of no sessions: there is no place to go on from
            return None
        shared = bool(self._query.subjects)
        skip = min(skip, _LARGEST_SKIP)
        return Cursor(*place, shared=shared, skip=skip, created=self._query.by_creation)
