"""``EverySession``: every session of a store, by ``list_sessions`` alone.

One call asks for more sessions than there are, so that the answer is of one instant. A store that
caps its answers is read in pages. Pages shift while sessions are written: a created or active
session moves to the front and pushes the others back; a deleted one pulls those behind it forward.
So each page overlaps the previous one, a page that does not connect to it makes the reader go back,
and more passes read from the front what was active since the previous pass. A session that comes
twice counts once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from agent_cores.session.errors import UnsupportedError

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.models.session import Session, SessionStatus

_FIRST_LIMIT = 100
_PAGE_LIMIT = 1_000
_OVERLAP = 10
"""How many sessions of a page the next one repeats, at most; no more than half of the page."""
_MOST_PASSES = 10
_SPARE_CALLS, _SPARE_SESSIONS = 50, 1_000
"""Pages and sessions that a pass may cost besides those that it needs, since sessions move."""


class Lister(Protocol):
    """A store that lists sessions."""

    async def list_sessions(
        self,
        owner_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: list[str] | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> list[Session]:
        """Return sessions, newest activity first."""


class EverySession:
    """Every session of one store. Remembers how many there were, and whether answers are capped."""

    def __init__(self, store: Lister) -> None:
        self._store = store
        self._last_count = 0
        self._is_capped = False

    async def of(self, owner_id: str | None = None) -> list[Session]:
        """Return every stored session, or every one of an owner, each once.

        Raises ``UnsupportedError`` if ``list_sessions`` contradicts itself.
        """
        found = None if self._is_capped else await self._at_once(owner_id)
        if found is None:
            self._is_capped = True
            found = await _Pages(self._store, owner_id).read()
        self._last_count = len(found)
        return found

    async def _at_once(self, owner_id: str | None) -> list[Session] | None:
        """Return every session from one call; ``None`` if the store caps its answers."""
        limit = _FIRST_LIMIT + 2 * self._last_count
        while len(found := await self._list(owner_id, limit)) >= limit:
            limit = 2 * len(found)
        if await self._list(owner_id, 1, len(found)):  # capped, or one was created since
            count = len(found)
            found = await self._list(owner_id, limit + _FIRST_LIMIT)
            if len(found) <= count:
                return None
        return found

    async def _list(self, owner_id: str | None, limit: int, offset: int = 0) -> list[Session]:
        return await self._store.list_sessions(owner_id=owner_id, limit=limit, offset=offset)


class _Pages:
    """Every session, page by page, while sessions are created, move and are deleted."""

    def __init__(self, store: Lister, owner_id: str | None) -> None:
        self._store = store
        self._owner_id = owner_id
        self._met: dict[str, Session] = {}

    async def read(self) -> list[Session]:
        """Return every session that is stored from the first call to the last, each once.

        Some that were created or deleted in between may be among them. What is active again and
        again while it is being listed may be missed once all passes have been made.
        """
        since: datetime | None = None
        for _ in range(_MOST_PASSES):
            known = len(self._met)
            this_pass = _Pass(self._store, self._owner_id, self._met)
            await this_pass.read(since)
            since = this_pass.newest
            if since is None or this_pass.calls == 1 or len(self._met) == known:
                break
        return list(self._met.values())


class _Pass:
    """One pass from the front: to the end, or to what was last active before the previous pass."""

    def __init__(self, store: Lister, owner_id: str | None, met: dict[str, Session]) -> None:
        self._store = store
        self._owner_id = owner_id
        self._met = met
        self._listed = 0
        self.calls = 0
        self.newest: datetime | None = None  # activity when the pass began

    async def read(self, since: datetime | None) -> None:
        """Add to ``met`` what was active at ``since`` or later; ``None`` means every session."""
        end = overlap = 0
        ids: set[str] = set()  # met by this pass
        while True:
            start = end - overlap
            page = await self._page(start)
            is_gap = overlap > 0 and (not page or page[0].id not in ids)
            ids.update(session.id for session in page)
            if is_gap:
                end = start
                overlap = min(overlap, end)
            elif len(page) > overlap:
                if since is not None and page[-1].metadata.last_active_at < since:
                    return
                end = start + len(page)
                overlap = min(_OVERLAP, len(page) // 2)
            elif overlap:
                overlap = 0  # the end, unless this answer was capped shorter than others
            else:
                return

    async def _page(self, offset: int) -> list[Session]:
        page = await self._store.list_sessions(
            owner_id=self._owner_id, limit=_PAGE_LIMIT, offset=offset
        )
        self.calls += 1
        self._listed += len(page)
        self._met.update((session.id, session) for session in page)
        if self.newest is None and page:
            self.newest = page[0].metadata.last_active_at
        met = len(self._met)
        if self.calls > 2 * met + _SPARE_CALLS or self._listed > 4 * met + _SPARE_SESSIONS:
            raise UnsupportedError(
                f"{type(self._store).__name__}.list_sessions contradicts itself: it has more"
                f" sessions at offset {offset}, but only {met} different ones in all"
            )
        return page
