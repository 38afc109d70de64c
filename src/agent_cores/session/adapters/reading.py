"""Reading more messages, or listing more sessions, than fit on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from datetime import datetime

    from agent_cores.session.adapters.owner import Acting
    from agent_cores.session.models.message import Message
    from agent_cores.session.models.session import Page, Session
    from agent_cores.session.verbs.listing import Included

_PAGE = 1_000
_MOVED = 10


async def messages_after(
    acting: Acting, session_id: str, seq: int = 0
) -> AsyncIterator[list[Message]]:
    """Yield the pages of messages after a seq, ascending. A missing session raises."""
    verbs, user_id = acting
    while True:
        page = await verbs.get_session_messages(session_id, user_id, _PAGE, after_seq=seq)
        if page:
            yield list(page)
        if not page.has_more:
            return
        seq = page[-1].seq


async def latest_messages(
    acting: Acting, session_id: str, limit: int, *, before_seq: int | None = None
) -> list[Message]:
    """Return the latest ``limit`` messages, ascending. A missing session raises.

    With ``before_seq``, the latest of those with a lower seq.
    """
    verbs, user_id = acting
    pages: list[list[Message]] = []
    before = before_seq
    while limit > 0:
        page = await verbs.get_session_messages(
            session_id, user_id, min(limit, _PAGE), before_seq=before
        )
        pages.append(list(page))
        limit -= len(page)
        if not page.has_more or not page:
            break
        before = page[0].seq
    return [message for page in reversed(pages) for message in page]


async def sessions_tagged(
    acting: Acting, tag: str, *, page_size: int = 100, include: Iterable[Included] = ()
) -> AsyncIterator[Session]:
    """Yield each of the user's sessions with a tag once, latest activity first.

    They are headers, with what ``include`` names. Copies of a session have its tags, and its other
    metadata too. A session that becomes active during the walk moves to the top: those that moved
    before their page was read come last.
    """
    seen: dict[str, datetime] = {}
    pages = 0
    async for page in _pages(acting, tag, page_size, include):
        pages += 1
        for session in page:
            seen[session.id] = session.metadata.last_active_at
            yield session
    if pages == 1:
        return
    async for page in _pages(acting, tag, _MOVED, include):
        for session in page:
            if session.id not in seen:
                yield session
        # A single one proves nothing: it may have moved after it was listed, before it was read.
        known = [seen.get(session.id) == session.metadata.last_active_at for session in page]
        if known and all(known):
            return


async def _pages(
    acting: Acting, tag: str, page_size: int, include: Iterable[Included]
) -> AsyncIterator[Page[Session]]:
    """Yield the pages of the list; they may be short."""
    verbs, user_id = acting
    cursor: str | None = None
    while True:
        page = await verbs.list_user_sessions(
            user_id, tags=[tag], limit=page_size, include=include, cursor=cursor
        )
        yield page
        cursor = page.next_cursor
        if cursor is None:
            return
