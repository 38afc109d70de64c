"""``Readers``: looks at the store on connections of their own, which never wait for the writer.

Each look is one read transaction, so that all it sees is of one instant.
"""

from __future__ import annotations

import heapq
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from agent_cores.session.errors import UnsupportedError
from agent_cores.session.models import SessionStatus, Snapshot
from agent_cores.session.models.query import (
    WALK_LIMIT,
    Cursor,
    Found,
    Query,
    cursor_at,
    matches,
    order_key,
)
from agent_cores.session.models.times import from_millis, to_millis
from agent_cores.session.storage.base import Counts
from agent_cores.session.storage.codec import HEADER_FIELDS
from agent_cores.session.storage.sqlite_changes import decode_row, stored_message
from agent_cores.session.storage.sqlite_connection import Row, fetch, open_reader, translating
from agent_cores.session.threads import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    import apsw

    from agent_cores.session.models import SessionMetadata, Window
    from agent_cores.session.storage.sqlite_statements import Statements

T = TypeVar("T")
Place = tuple[int, str]
"""Time in milliseconds and session id: where a session stands in a listing."""

_LARGEST = 2**63 - 1
_FIRST: Place = (_LARGEST, "")
_LISTED_AT = 1 + HEADER_FIELDS.index("listed_at")
_SESSION_ID = 1 + HEADER_FIELDS.index("session_id")


class Readers:
    """Up to ``count`` connections, one a thread, opened when they are first needed."""

    def __init__(self, path: Path, statements: Statements, *, timeout: float, count: int) -> None:
        self._path = path
        self._sql = statements
        self._timeout = timeout
        self._threads = Workers(count, "sqlite-reader", before_fork=self._close_idle)
        self._idle: list[apsw.Connection] = []

    async def close(self) -> None:
        """Wait for the looks that are under way, and close."""
        await self._threads.close()
        with translating(self._path):
            self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def read(
        self, namespace: str, session_id: str, *, context: bool, window: Window | None
    ) -> Snapshot | None:
        """Look at one session."""
        return await self._run(partial(self._read, namespace, session_id, context, window))

    async def find(self, query: Query) -> Found:
        """Return one page of a listing."""
        return await self._run(partial(self._find, query))

    async def count(self, namespace: str | None, at: datetime) -> Counts:
        """Count sessions, and those of them that came due, one by one."""
        return await self._run(partial(self._count, namespace, to_millis(at)))

    async def time(self) -> datetime:
        """Return the time of the machine, as SQLite tells it."""
        return await self._run(_time)

    async def _run(self, look: Callable[[apsw.Connection], T]) -> T:
        return await self._threads.run(partial(self._look, look))

    def _look(self, look: Callable[[apsw.Connection], T]) -> T:
        with translating(self._path):
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = open_reader(self._path, self._timeout)
            try:
                with _one_instant(connection):
                    seen = look(connection)
            except BaseException:
                connection.close(
                    force=True
                )  # the error may keep a statement, and its instant, open
                raise
            self._idle.append(connection)
            return seen

    def _read(
        self,
        namespace: str,
        session_id: str,
        context: bool,  # noqa: FBT001 - private
        window: Window | None,
        connection: apsw.Connection,
    ) -> Snapshot | None:
        rows = fetch(connection, self._sql.header, (namespace, session_id))
        if not rows:
            return None
        key = rows[0][0]
        messages, has_more = None, False
        if window is not None:
            rest = self._messages(connection, key, window)
            messages, has_more = window.fill(map(stored_message, rest))
        entries = connection.execute(self._sql.context, (key,)) if context else None
        return Snapshot(
            header=decode_row(rows[0]),
            context=None if entries is None else dict(entries),
            messages=messages,
            has_more=has_more,
        )

    def _messages(self, connection: apsw.Connection, key: int, window: Window) -> apsw.Cursor:
        """Return rows from the bound of the window on, in its direction; read as they are used."""
        if window.forward:
            return connection.execute(self._sql.messages_after, (key, window.after_seq))
        before = _LARGEST if window.before_seq is None else window.before_seq
        return connection.execute(self._sql.messages_before, (key, before))

    def _find(self, query: Query, connection: apsw.Connection) -> Found:
        headers: list[SessionMetadata] = []
        skip, seen = query.skip, (0, "")
        bound = WALK_LIMIT + query.skip + query.limit
        for walked, (place, row) in enumerate(self._walk(query, connection)):
            if walked >= bound:
                return Found(headers, Cursor(*seen, shared=bool(query.subjects), skip=skip))
            seen = place
            header = decode_row(row)
            if order_key(header, query) != place or not matches(header, query):
                continue
            if skip:
                skip -= 1
            elif len(headers) == query.limit:
                return Found(headers, cursor_at(headers[-1], query))
            else:
                headers.append(header)
        return Found(headers)

    def _walk(self, query: Query, connection: apsw.Connection) -> Iterator[tuple[Place, Row]]:
        """Yield the rows that may belong to the listing, highest place first.

        A session that is shared with several of the subjects has a row for each, at its own place.
        Only one of them is the place of the session: that of the latest grant that is live.
        """
        last = None
        walks = [map(_placed, connection.execute(*walk)) for walk in self._walks(query)]
        for place, row in heapq.merge(*walks, key=itemgetter(0), reverse=True):
            if (place, row[0]) != last:  # else granted to two of the subjects at one instant
                last = place, row[0]
                yield place, row

    def _walks(self, query: Query) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield a statement and its bindings for each list to merge."""
        sql, after, namespace = self._sql, query.after, query.namespace
        place = _FIRST if after is None else (after.millis, after.session_id)
        if query.subjects and namespace is None:
            raise UnsupportedError("what is shared is listed one namespace at a time")
        if query.subjects:
            for subject in query.subjects:
                yield sql.walk_shared, (namespace, subject, *place)
        elif namespace is not None and query.owner_id is not None:
            for shelf in _shelves(query.status):
                bindings = namespace, query.owner_id, shelf, *place
                if query.tags:
                    yield sql.walk_tagged, (*bindings, query.tags[0])
                else:
                    yield sql.walk_owned, bindings
        else:
            yield sql.walk_all, (*place, namespace, query.owner_id)

    def _count(self, namespace: str | None, at: int, connection: apsw.Connection) -> Counts:
        if namespace is None:
            counted = fetch(connection, self._sql.count_all)
        else:
            counted = fetch(connection, self._sql.count, (namespace,))
        [(due,)] = fetch(connection, self._sql.count_due, (namespace, at))
        return Counts(sum(count or 0 for (count,) in counted), due)


@contextmanager
def _one_instant(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    yield
    connection.execute("COMMIT")


def _time(connection: apsw.Connection) -> datetime:
    [(seconds,)] = fetch(connection, "SELECT unixepoch('subsec')")
    return from_millis(round(seconds * 1000))


def _placed(row: Row) -> tuple[Place, Row]:
    """Return a row with its place; a row of the shared listing brings its time at its end."""
    shared = len(row) > 1 + len(HEADER_FIELDS)
    return (row[-1 if shared else _LISTED_AT], row[_SESSION_ID]), row


def _shelves(status: SessionStatus | None) -> tuple[int, ...]:
    """Return the values of ``archived`` in which sessions of that status lie."""
    if status is SessionStatus.ACTIVE:
        return (0,)
    return (1,) if status is SessionStatus.ARCHIVED else (0, 1)
