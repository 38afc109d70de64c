"""``Readers``: looks at the store on connections of their own, which never wait for the writer.

Each look is one read transaction, so that all it sees is of one instant.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from agent_cores.session.codec import HEADER_FIELDS
from agent_cores.session.errors import (
    SessionError,
    StorageUnavailableError,
    UnsupportedError,
)
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
from agent_cores.session.storage.sqlite.changes import decode_row, fields_of, stored_message
from agent_cores.session.storage.sqlite.connection import Row, fetch, open_reader, translating
from agent_cores.session.storage.sqlite.file import FileMovedError
from agent_cores.session.threads import Workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import datetime

    import apsw

    from agent_cores.session.models import SessionMetadata, Window
    from agent_cores.session.storage.headers import HeaderReader
    from agent_cores.session.storage.sqlite.file import StoreFile
    from agent_cores.session.storage.sqlite.queries import Statements

T = TypeVar("T")
Place = tuple[int, str]
"""Time in milliseconds and session id: where a session stands in a listing."""

_PAUSE = 0.005
_MOMENT = 0.2
_LARGEST = 2**63 - 1
_FIRST: Place = (_LARGEST, "")
_LISTED_AT = 1 + HEADER_FIELDS.index("listed_at")
_SESSION_ID = 1 + HEADER_FIELDS.index("session_id")


class Readers:
    """Up to ``count`` connections, one a thread, opened when they are first needed."""

    def __init__(
        self,
        file: StoreFile,
        statements: Statements,
        headers: HeaderReader,
        *,
        timeout: float,
        count: int,
        follow: Callable[[], Awaitable[None]],
    ) -> None:
        self._file = file
        self._sql = statements
        self._headers = headers
        self._timeout = timeout
        self._follow = follow
        self._threads = Workers(count, "sqlite-reader", before_fork=self._close_before_fork)
        self._ended = False
        self._open: set[apsw.Connection] = set()
        self._idle: list[tuple[int, apsw.Connection]] = []
        file.close_readers = self._close_within

    async def close(self, end: float) -> None:
        """Finish the looks that were asked for, at most until ``end``, and close."""
        closing = asyncio.ensure_future(self._threads.close())
        await asyncio.wait([closing], timeout=max(end - time.monotonic(), _MOMENT))
        if not closing.done():
            self._ended = True
            for connection in tuple(self._open):
                connection.interrupt()
            await asyncio.wait([closing], timeout=_MOMENT)
        self._close_within(0)

    def _close_before_fork(self) -> None:
        self._close_within(0)  # no look is under way

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
        try:
            return await self._threads.run(partial(self._look, look))
        except FileMovedError:
            await self._follow()
        try:
            return await self._threads.run(partial(self._look, look))
        except FileMovedError as error:
            detail = f"{self._file.path} was moved or replaced again and again"
            raise StorageUnavailableError(detail) from error

    def _look(self, look: Callable[[apsw.Connection], T]) -> T:
        """Look at the file; ``FileMovedError`` if it is not the one at its path by then."""
        if self._ended:
            detail = "the store is shut down"
            raise StorageUnavailableError(detail)
        connection = None
        try:
            generation, connection = self._connection()
            with translating(self._file.path), _one_instant(connection):
                seen = look(connection)
        except BaseException as error:
            self._drop(connection)
            if isinstance(error, SessionError) and not self._file.holds():
                raise FileMovedError from error
            raise
        if generation != self._file.generation or not self._file.holds(connection):
            self._drop(connection)
            raise FileMovedError
        self._idle.append((generation, connection))
        return seen

    def _connection(self) -> tuple[int, apsw.Connection]:
        """Return a connection to the file at the path, and the generation of that file."""
        while True:
            try:
                generation, connection = self._idle.pop()
            except IndexError:
                break
            if generation == self._file.generation:
                return generation, connection
            self._drop(connection)
        with self._file.opening, translating(self._file.path):
            connection = open_reader(self._file.path, self._timeout)
            self._open.add(connection)
            return self._file.generation, connection

    def _drop(self, connection: apsw.Connection | None) -> None:
        if connection is not None:
            connection.close(force=True)  # an error may have left a statement open
            self._open.discard(connection)

    def _close_within(self, seconds: float) -> bool:
        """Close all connections, those in use as they come back; false: some have not."""
        deadline = time.monotonic() + seconds
        while True:
            while self._idle:
                self._drop(self._idle.pop()[1])
            if not self._open:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)

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
        unreadable: dict[str, None] = {}
        skip, seen = query.skip, (0, "")
        bound = WALK_LIMIT + query.skip + query.limit
        for walked, (place, header) in enumerate(self._walk(query, connection)):
            if walked >= bound:
                cursor = Cursor(*seen, shared=bool(query.subjects), skip=skip)
                return Found(headers, cursor, tuple(unreadable))
            if header is None:
                unreadable[place[1]] = None
            elif order_key(header, query) != place or not matches(header, query):
                pass
            elif skip:
                skip -= 1
            elif len(headers) == query.limit:
                return Found(headers, cursor_at(headers[-1], query), tuple(unreadable))
            else:
                headers.append(header)
            seen = place
        return Found(headers, None, tuple(unreadable))

    def _walk(
        self, query: Query, connection: apsw.Connection
    ) -> Iterator[tuple[Place, SessionMetadata | None]]:
        """Yield the sessions that may belong to the listing, highest place first.

        ``None`` stands for a header that cannot be read.
        """
        if query.subjects:
            yield from self._walk_shared(query, connection)
            return
        walks = [map(_placed, connection.execute(*walk)) for walk in self._walks(query)]
        for place, row in heapq.merge(*walks, key=itemgetter(0), reverse=True):
            yield place, self._headers.read(*fields_of(row))

    def _walk_shared(
        self, query: Query, connection: apsw.Connection
    ) -> Iterator[tuple[Place, SessionMetadata | None]]:
        """Yield what is shared with the subjects, by when it was.

        A session that is shared with several of them has a place for each, of which one is its own:
        that of the latest grant that is live. Its header, with perhaps a thousand grants, is read
        once for all of them.
        """
        if query.namespace is None:
            raise UnsupportedError("what is shared is listed one namespace at a time")
        after = _FIRST if query.after is None else (query.after.millis, query.after.session_id)
        walks = [
            connection.execute(self._sql.walk_shared, (query.namespace, subject, *after))
            for subject in query.subjects
        ]
        headers: dict[int, SessionMetadata | None] = {}
        last = None
        for entry in heapq.merge(*walks, reverse=True):
            if entry == last:  # granted to two of the subjects at one instant
                continue
            last = granted_at, session_id, key = entry
            if key not in headers:
                [row] = fetch(connection, self._sql.held, (key,))
                headers[key] = self._headers.read(*fields_of(row))
            yield (granted_at, session_id), headers[key]

    def _walks(self, query: Query) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield a statement and its bindings for each list to merge."""
        sql, after, namespace = self._sql, query.after, query.namespace
        place = _FIRST if after is None else (after.millis, after.session_id)
        if namespace is not None and query.owner_id is not None:
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
    """Return a row with its place."""
    return (row[_LISTED_AT], row[_SESSION_ID]), row


def _shelves(status: SessionStatus | None) -> tuple[int, ...]:
    """Return the values of ``archived`` in which sessions of that status lie."""
    if status is SessionStatus.ACTIVE:
        return (0,)
    return (1,) if status is SessionStatus.ARCHIVED else (0, 1)
