"""Reading from PostgreSQL: one session at one instant, and pages of listings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.codec import decode_header
from agent_cores.session.models import (
    Cursor,
    Found,
    Query,
    SessionMetadata,
    SessionStatus,
    Snapshot,
    StoredMessage,
    Window,
    matches,
    order_key,
)
from agent_cores.session.models.query import WALK_LIMIT
from agent_cores.session.models.times import from_millis
from agent_cores.session.storage.postgres import queries as sql
from agent_cores.session.storage.postgres.connection import ONE_INSTANT
from agent_cores.session.storage.sql.records import EVERY_SESSION, tag_mark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agent_cores.session.storage.headers import HeaderReader
    from agent_cores.session.storage.postgres.connection import Database, Transaction

_HIGHEST = 2**63 - 1
_ONE_LOOK = 64 * 1024 * 1024
"""The most bytes of messages that one statement reads: the server makes one row of them."""
_BEFORE_ALL = _HIGHEST, ""
"""Before the first place of every listing."""
_SHELVES = {SessionStatus.ACTIVE: [0], SessionStatus.ARCHIVED: [1]}
_SPARE = 20


async def look(
    database: Database,
    namespace: str,
    session_id: str,
    *,
    context: bool,
    window: Window | None,
) -> Snapshot | None:
    """Look at one session at one instant: in one statement, unless the window is very large."""
    name = namespace, session_id
    if window is None or window.max_bytes <= _ONE_LOOK:
        return await _look(database, *name, context=context, window=window)
    large, deadline = window, database.deadline()

    async def look_in_parts() -> Snapshot | None:
        async with database.transaction(ONE_INSTANT, deadline=deadline) as transaction:
            return await _look_in_parts(transaction, *name, context=context, window=large)

    return await database.repeatable(look_in_parts)


async def _look_in_parts(
    transaction: Transaction, namespace: str, session_id: str, *, context: bool, window: Window
) -> Snapshot | None:
    name = namespace, session_id
    window = msgspec.structs.replace(window, max_bytes=_ONE_LOOK)
    snapshot = await _look(transaction, *name, context=context, window=window)
    messages = [] if snapshot is None else snapshot.messages or []
    page = snapshot
    while page is not None and page.has_more and len(messages) < window.limit:
        rest = _after(window, messages)
        page = await _look(transaction, *name, context=False, window=rest)
        more = [] if page is None else page.messages or []
        messages = messages + more if window.forward else more + messages
    if snapshot is None or page is None:
        return None
    return msgspec.structs.replace(snapshot, messages=messages, has_more=page.has_more)


def _after(window: Window, messages: list[StoredMessage]) -> Window:
    """Return the window that goes on where these messages end."""
    limit = window.limit - len(messages)
    if window.forward:
        return msgspec.structs.replace(window, limit=limit, after_seq=messages[-1].seq)
    return msgspec.structs.replace(window, limit=limit, before_seq=messages[0].seq)


async def _look(
    source: Database | Transaction,
    namespace: str,
    session_id: str,
    *,
    context: bool,
    window: Window | None,
) -> Snapshot | None:
    forward = None if window is None else window.forward
    statement = sql.read_session(context=context, forward=forward)
    rows = await source.fetch(statement, namespace, session_id, *_look_arguments(window))
    return _snapshot_of(rows[0], context=context, window=window) if rows else None


def _look_arguments(window: Window | None) -> tuple[int, ...]:
    """Return the bound, the number of candidates and the bytes that a read of messages takes."""
    if window is None:
        return ()
    bound = window.after_seq if window.forward else window.before_seq
    if bound is None:
        bound = _HIGHEST
    return (
        min(bound, _HIGHEST),
        min(window.limit, _HIGHEST - 1) + 1,
        min(window.max_bytes, _HIGHEST),
    )


def _snapshot_of(row: Mapping[str, Any], *, context: bool, window: Window | None) -> Snapshot:
    """Return the snapshot of a row read for that window."""
    header = decode_header(row, row["namespace"], row["session_id"])
    messages, has_more = None, False
    if window is not None:
        candidates = _messages(row)
        candidates.sort(key=lambda message: message.seq, reverse=not window.forward)
        messages, has_more = window.fill(candidates)
    return Snapshot(
        header=header,
        context=_entries(row) if context else None,
        messages=messages,
        has_more=has_more,
    )


def _messages(row: Mapping[str, Any]) -> list[StoredMessage]:
    if row["seqs"] is None:
        return []
    rows = zip(row["seqs"], row["ids"], row["times"], row["bodies"], strict=True)
    return [StoredMessage(seq, id_, from_millis(at), body) for seq, id_, at, body in rows]


def _entries(row: Mapping[str, Any]) -> dict[str, bytes]:
    if row["context_keys"] is None:
        return {}
    return dict(zip(row["context_keys"], row["context_values"], strict=True))


async def find_page(database: Database, query: Query, reader: HeaderReader) -> Found:
    """Return one page of a listing; a walk past what does not match is bounded.

    Cursors are places in the index, so that a listing goes on where its walk was. A session that
    cannot be read is left out, and named.
    """
    headers: list[SessionMetadata] = []
    deadline = database.deadline()
    unreadable: dict[str, None] = {}
    skip, walked = query.skip, 0
    bound = WALK_LIMIT + query.skip + query.limit
    here = page_end = _BEFORE_ALL
    async for place, row in _walk(database, query, deadline):
        if walked == bound:
            return Found(headers, _cursor(here, query, skip), tuple(unreadable))
        walked, here = walked + 1, place
        header = reader.read(row, row["namespace"], row["session_id"])
        if header is None:
            unreadable[row["session_id"]] = None
            continue
        if not matches(header, query):
            continue
        if query.subjects and order_key(header, query) != place:
            continue
        if skip:
            skip -= 1
        elif len(headers) == query.limit:
            return Found(headers, _cursor(page_end, query), tuple(unreadable))
        else:
            headers.append(header)
            page_end = place
    return Found(headers, None, tuple(unreadable))


def _cursor(place: tuple[int, str], query: Query, skip: int = 0) -> Cursor:
    return Cursor(*place, shared=bool(query.subjects), skip=skip)


async def _walk(
    database: Database, query: Query, deadline: float
) -> AsyncIterator[tuple[tuple[int, str], Mapping[str, Any]]]:
    """Yield the rows that may belong to the listing with their places, the highest first."""
    place = _BEFORE_ALL if query.after is None else (query.after.millis, query.after.session_id)
    seen = None
    number = min(query.limit + query.skip + 1, WALK_LIMIT)
    while True:
        statement, arguments = _page(query, place, number)
        rows = await database.fetch(statement, *arguments, deadline=deadline)
        for row in rows:
            place = row["place_at"], row["session_id"]
            name = row["namespace"], row["session_id"]
            if (place, name) != seen:  # else shared with two of the subjects at the same time
                seen = place, name
                yield place, row
        if len(rows) < number:
            return
        number = min(2 * number + _SPARE, WALK_LIMIT)


def _page(query: Query, place: tuple[int, str], number: int) -> tuple[str, tuple[object, ...]]:
    """Return the statement, with its arguments, that reads the entries after a place."""
    mark = tag_mark(query.tags[0]) if query.tags else EVERY_SESSION
    if query.subjects and query.namespace is None:
        return sql.FIND_SHARED_ANYWHERE, (list(query.subjects), *place, number)
    if query.subjects:
        return sql.FIND_SHARED, (query.namespace, list(query.subjects), *place, number)
    if query.owner_id is None or query.namespace is None:
        return sql.FIND_ANY, (mark, query.owner_id, query.namespace, *place, number)
    shelves = [0, 1] if query.status is None else _SHELVES.get(query.status, [0, 1])
    arguments = query.owner_id, query.namespace, shelves, mark, *place, number
    return sql.FIND_OWNED, arguments
