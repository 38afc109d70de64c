"""Reading: one session at one instant, pages of listings, due sessions. Plans without I/O."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.codec import HEADER_FIELDS
from agent_cores.session.errors import CorruptRecordError, UnsupportedError
from agent_cores.session.models import (
    Ended,
    Found,
    Query,
    SessionMetadata,
    SessionStatus,
    Snapshot,
    StoredMessage,
    Window,
)
from agent_cores.session.models.query import WALK_LIMIT
from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.base import Counts
from agent_cores.session.storage.listing import ListingPage, Place
from agent_cores.session.storage.sql.dialect import Statement, Step
from agent_cores.session.storage.sql.rows import (
    EVERY_SESSION,
    decode_header,
    message_of,
    read_header,
    tag_mark,
)
from agent_cores.session.storage.sql.selecting import LARGEST, read_named

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from agent_cores.session.storage.headers import HeaderReader
    from agent_cores.session.storage.sql.dialect import Plan, Row
    from agent_cores.session.storage.sql.rows import SessionName

ReadSession = Snapshot | CorruptRecordError | None
"""What reading one of several sessions gives: an error takes the place of a damaged one."""
Entry = tuple[Place, Any]
"""A place in a listing, and the row of the header there."""

PART = 64 * 1024 * 1024
"""The most bytes of messages that one statement reads: a server may make one row of them."""
_BEFORE_ALL: Place = LARGEST, ""
_ARCHIVED = {SessionStatus.ACTIVE: (0,), SessionStatus.ARCHIVED: (1,)}
_SPARE = 20
_SESSION_ID = 2 + HEADER_FIELDS.index("session_id")


def read_plan(
    namespace: str, session_id: str, *, context: bool, window: Window | None
) -> Plan[Snapshot | None]:
    """Read one session, in a transaction whose statements see one instant."""
    row = next(iter((yield Step(Statement.HEADER, [(namespace, session_id)]))), None)
    if row is None:
        return None
    messages, has_more, entries = None, False, None
    if window is not None:
        messages, has_more = yield from _read_messages(row[0], window)
    if context:
        entries = dict((yield Step(Statement.CONTEXT_ALL, [(row[0],)])))
    return Snapshot(
        header=decode_header(row), context=entries, messages=messages, has_more=has_more
    )


def read_several_plan(
    names: Iterable[SessionName], *, context: bool, window: Window | None
) -> Plan[list[ReadSession]]:
    """Read sessions one after the other."""
    found: list[ReadSession] = []
    for name in names:
        try:
            found.append((yield from read_plan(*name, context=context, window=window)))
        except CorruptRecordError as error:
            found.append(error)
    return found


def _read_messages(session_key: int, window: Window) -> Plan[tuple[list[StoredMessage], bool]]:
    """Read a window, in parts if it is very large."""
    if window.named is not None:
        return (yield from read_named(session_key, window.named, window, PART))
    messages: list[StoredMessage] = []
    has_more = True
    room = window.max_bytes
    while has_more and len(messages) < window.limit and (room > 0 or not messages):
        part = _part(window, messages, min(room, PART))
        statement, bounds = message_bounds(part)
        rows = yield Step(statement, [(session_key, *bounds)])
        more, has_more = part.fill(map(message_of, rows))
        messages = messages + more if window.forward else more + messages
        if part.max_bytes == room or not more:  # the page ends where this part ended
            break
        room -= sum([len(message.body) for message in more])
    return messages, has_more


def _part(window: Window, messages: list[StoredMessage], max_bytes: int) -> Window:
    """Return the window that continues after these messages."""
    part = msgspec.structs.replace(window, limit=window.limit - len(messages), max_bytes=max_bytes)
    if not messages:
        return part
    if window.forward:
        return msgspec.structs.replace(part, after_seq=messages[-1].seq)
    return msgspec.structs.replace(part, before_seq=messages[0].seq)


def message_bounds(window: Window) -> tuple[Statement, tuple[int, int, int]]:
    """Return the statement for a window, and its seq, its number of messages and its bytes.

    It asks for one message more than the limit, to find out whether more follow; a capped one not.
    """
    statement = Statement.MESSAGES_AFTER if window.forward else Statement.MESSAGES_BEFORE
    if window.capped and not window.forward:
        statement = Statement.MESSAGES_CAPPED
    bound = window.after_seq if window.forward else window.before_seq
    if bound is None:
        bound = LARGEST
    limit = min(window.limit, LARGEST - 1) + (not window.capped)
    return statement, (min(bound, LARGEST), limit, min(window.max_bytes, LARGEST))


def find_plan(query: Query, reader: HeaderReader) -> Plan[Found]:
    """Return one page of a listing; the walk past entries that do not match is bounded.

    Cursors are places in the index, so that the next page begins where this walk ended. A session
    that cannot be read is left out; the page names it in ``unreadable``.
    """
    page = ListingPage(query)
    headers = _Headers(reader)
    place = _BEFORE_ALL if query.after is None else (query.after.millis, query.after.session_id)
    number = min(query.limit + query.skip + 1, WALK_LIMIT)
    while True:
        if query.by_creation:
            entries = yield from _created_below(place, number, query)
        elif query.subjects:
            entries = yield from _shared_below(place, number, query, headers)
        else:
            entries = yield from _owned_below(place, number, query)
        for place, row in entries:  # the next step begins at the last place
            if row is not None and not page.offer(place, headers.read(row)):
                return page.found()
        if len(entries) < number:
            return page.found()
        number = min(2 * number + _SPARE, WALK_LIMIT)


def _owned_below(place: Place, number: int, query: Query) -> Plan[list[Entry]]:
    """Return the highest entries below a place, with the rows of their headers."""
    mark = tag_mark(query.tags[0]) if query.tags else EVERY_SESSION
    owner, namespace = query.owner_id, query.namespace
    if owner is None or namespace is None:
        row = mark, owner, namespace, *place, number
        step = Step(Statement.FIND_ANY, [row])
    else:
        lists = [(owner, namespace, shelf, mark, *place, number) for shelf in _shelves(query)]
        step = Step(Statement.FIND_OWNED, lists)
    return _highest((yield step), number)


def _created_below(place: Place, number: int, query: Query) -> Plan[list[Entry]]:
    """Return the sessions of a namespace that were created last before a place."""
    if query.namespace is None:
        raise UnsupportedError("sessions are listed by creation one namespace at a time")
    statement, marks = Statement.FIND_CREATED, tuple[str, ...]()
    if query.tags:
        statement, marks = Statement.FIND_CREATED_BY_TAG, (tag_mark(query.tags[0]),)
    lists = [(query.namespace, shelf, *marks, *place, number) for shelf in _shelves(query)]
    return _highest((yield Step(statement, lists)), number)


def _shelves(query: Query) -> tuple[int, ...]:
    return (0, 1) if query.status is None else _ARCHIVED.get(query.status, (0, 1))


def _highest(rows: Iterable[Row], number: int) -> list[Entry]:
    entries = [((row[0], row[_SESSION_ID]), row[1:]) for row in rows]
    entries.sort(key=itemgetter(0), reverse=True)
    return entries[:number]


def _shared_below(place: Place, number: int, query: Query, headers: _Headers) -> Plan[list[Entry]]:
    """Return entries of what is shared with the subjects, by the time of the grant.

    A session that is shared with several of them has an entry for each; a session that was deleted
    since has no row.
    """
    if query.namespace is None:
        raise UnsupportedError("what is shared is listed one namespace at a time")
    lists = [(query.namespace, subject, *place, number) for subject in query.subjects]
    found = {(at, name, key) for at, name, key in (yield Step(Statement.FIND_SHARED, lists))}
    chosen = sorted(found, reverse=True)[:number]
    missing = dict.fromkeys((key,) for _, _, key in chosen if key not in headers.rows)
    if missing:
        headers.rows |= {row[0]: row for row in (yield Step(Statement.HEADERS, list(missing)))}
    return [((at, name), headers.rows.get(key)) for at, name, key in chosen]


class _Headers:
    """Headers by session key: each, with up to a thousand grants, is read and decoded once."""

    def __init__(self, reader: HeaderReader) -> None:
        self.rows: dict[int, Row] = {}
        self._reader = reader
        self._decoded: dict[int, SessionMetadata | None] = {}

    def read(self, row: Row) -> SessionMetadata | None:
        """Return the header in a row, or ``None`` if it cannot be read."""
        if row[0] not in self._decoded:
            self._decoded[row[0]] = read_header(row, self._reader)
        return self._decoded[row[0]]


def due_plan(
    at: datetime, limit: int, lease_end: datetime, reader: HeaderReader
) -> Plan[tuple[int, list[Ended]]]:
    """Lease due sessions in a transaction; return how many, and those that have expired.

    A live one is postponed until it expires; one that cannot be read, for as long as a lease.
    """
    rows = list((yield Step(Statement.DUE, [(to_millis(at), limit)])))
    ended: list[Ended] = []
    due_at: list[tuple[int, int | None]] = []
    for row in rows:
        header = read_header(row, reader)
        until: datetime | None = lease_end
        if header is not None and header.is_expired(at):
            ended.append(Ended.of(header))
        elif header is not None:
            until = header.expires_at
        due_at.append((row[0], None if until is None else to_millis(until)))
    if due_at:
        yield Step(Statement.UPDATE_HEADERS, due_at, ("due_at",))
    return len(rows), ended


def count_plan(namespace: str | None, at: datetime) -> Plan[Counts]:
    """Count sessions, and those of them that are due."""
    [(sessions, due)] = yield Step(Statement.COUNT, [(namespace, to_millis(at))])
    return Counts(int(sessions), due)  # a sum may come as a decimal


def archived_plan() -> Plan[int]:
    """Count the archived sessions of all namespaces."""
    [(archived,)] = yield Step(Statement.COUNT_ARCHIVED)
    return int(archived)  # a sum may come as a decimal


def namespaces_plan() -> Plan[list[str]]:
    """Return the namespaces that ever held a session, sorted."""
    return sorted(name for (name,) in (yield Step(Statement.NAMESPACES)))
