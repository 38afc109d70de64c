"""What a database must support to be a store: the interface between the SQL core and a dialect.

The core decides what is written and in which order; a dialect writes it in the SQL of its database.
The core's work is a :data:`Plan`: a generator without I/O that yields a :class:`Step`, a named
statement with its rows, and receives the rows of the result. PostgreSQL and MySQL execute a plan
with ``await``, SQLite does so on its writer thread.

A dialect for a database server consists of

- ``queries.py``: a :class:`~agent_cores.session.storage.sql.queries.Queries`: the words, forms and
  statements in which its SQL differs, on the tables of ``schema/001_initial.sql``. Where rows
  travel as literals, a :class:`~agent_cores.session.storage.sql.literal_rows.LiteralQueries`, which
  has most forms;
- ``connection.py``: a :class:`~agent_cores.session.storage.sql.pool.PooledDatabase`: its driver's
  pool, and how rows travel. Where they are literals, a
  :class:`~agent_cores.session.storage.sql.text_connection.TextDatabase`;
- ``errors.py``: a :class:`~agent_cores.session.storage.sql.failures.CodedErrors`: what the codes of
  its server's errors mean; a ``DriverErrors`` if the driver has a class for each instead;
- ``options.py``: a :class:`~agent_cores.session.storage.sql.options.ServerOptions`, and how a URL
  gives them;
- ``provider.py``: a :class:`~agent_cores.session.storage.sql.server_provider.SqlProvider` with its
  options and its URL.

**Values.** Times are integers, milliseconds since 1970 UTC. Names and ids are ``str``, compared
byte for byte; bodies, context values and the JSON of a header are ``bytes`` and come back as
``bytes``. A row of a header is ``(session_key, *HEADER_FIELDS)``, see
:data:`~agent_cores.session.codec.HEADER_FIELDS`; all its other columns may be null.

**Isolation.** READ COMMITTED: a statement sees what was committed before it began; after a wait for
its lock, a row is as it is after the wait.

**Errors.** Translate all of the driver's errors. Raise ``DeadlockError`` for a deadlock, counted by
``Database.counted``, ``ClashError`` for a serialization failure or a unique violation,
``LockedError`` for a lock timeout, ``ConnectionLostError`` for a broken connection,
``InvalidInputError`` for a value that the database refuses, ``StoreFormatError`` for tables that
are missing, incomplete or foreign, ``StorageUnavailableError`` for the rest. Set
``outcome_unknown=True`` if a commit, or a single statement that writes, may have been executed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from enum import Enum
from typing import Any, TypeVar

import msgspec

from agent_cores.session.models.representation import hides

Row = Any
"""A sequence of column values, as the driver gives it."""
Rows = Iterable[Row]
Result = TypeVar("Result")


class Statement(Enum):
    """The statements that a dialect writes in its SQL: rows in -> rows out.

    Most take any number of rows, always at least one; those that take one say "one row". If a
    description names no rows out, the result is ignored.
    """

    # A batch of changes, which runs in one transaction.
    LOCK = "lock"
    """(namespace, session_id) -> headers of those that exist, locked one after the other in one
    order, the same for all callers. ``LockedError`` if a lock takes longer than ``lock_wait``."""
    LOCK_FREE = "lock free"
    """The same, without sessions that another transaction has locked (SKIP LOCKED)."""
    PRESENT = "present"
    """(namespace, session_id) -> (namespace, session_id) of those that exist; no locks."""
    KNOWN = "known"
    """(session_key, message id) -> (session_key, seq, id, created_at, body) of those stored."""
    CONTEXT = "context"
    """(session_key, key) -> (session_key, key, value) of those stored."""
    REMOVABLE = "removable"
    """One row (session_key, first seq, last seq, limit) -> (seq, id), the highest seq first."""
    OLDEST = "oldest"
    """One row (session_key, seq, limit) -> (seq, id) below that seq, the lowest first."""
    BY_ID = "by id"
    """(session_key, message id) -> (seq, id, bytes of its body) of those stored, in any order."""
    BY_SEQ = "by seq"
    """(session_key, seq) -> the same."""
    INSERT_HEADERS = "insert headers"
    """HEADER_FIELDS of new sessions, in the order of their names -> (namespace, session_id,
    session_key) of each that was inserted. One whose name is taken is left out, without an error:
    a concurrent create came first. A session_key is never used twice."""
    UPDATE_HEADERS = "update headers"
    """(session_key, a value for each of ``Step.fields``): set these columns."""
    DELETE_HEADERS = "delete headers"
    """(session_key,): delete the headers and their index entries; add the keys to ``deleted``."""
    INSERT_MESSAGES = "insert messages"
    """(session_key, seq, id, created_at, body)."""
    UPDATE_MESSAGES = "update messages"
    """(session_key, seq, body): set the body of messages that are stored."""
    DELETE_MESSAGES = "delete messages"
    """(session_key, seq)."""
    SET_CONTEXT = "set context"
    """(session_key, key, value): insert or replace."""
    DROP_CONTEXT = "drop context"
    """(session_key, key)."""
    ADD_OWNED = "add owned"
    """Index entries of an owner's listing: (session_key, mark, owner_id, namespace, archived,
    listed_at, session_id). A mark is ``""`` for each session, ``"=" + tag`` for each of its tags.
    """
    REMOVE_OWNED = "remove owned"
    """(session_key, mark)."""
    MOVE_OWNED = "move owned"
    """(session_key, listed_at): the new time of all index entries of the session."""
    ADD_SHARED = "add shared"
    """Index entries by grant: (session_key, subject, namespace, granted_at, session_id)."""
    REMOVE_SHARED = "remove shared"
    """(session_key, subject)."""
    COUNT_SESSIONS = "count sessions"
    """(namespace, difference), in the order of namespaces: add to the counter of each."""

    # Reading one session.
    HEADER = "header"
    """One row (namespace, session_id) -> its header, or nothing. No lock."""
    CONTEXT_ALL = "context all"
    """One row (session_key,) -> (key, value)."""
    MESSAGES_AFTER = "messages after"
    """One row (session_key, seq, limit, bytes) -> (seq, id, created_at, body) above that seq, the
    lowest first, at most ``limit``. It may stop after the first message by which the bodies exceed
    ``bytes``, but not before the second message."""
    MESSAGES_BEFORE = "messages before"
    """The same below that seq, the highest first."""
    MESSAGES_CAPPED = "messages capped"
    """As MESSAGES_BEFORE, but it may stop before the message by which the bodies exceed ``bytes``,
    though it be the first."""

    # Listing. ``place`` is (millis, session_id); index entries below it come next.
    FIND_OWNED = "find owned"
    """(owner_id, namespace, archived, mark, *place, limit): a row for each value of ``archived``
    that is wanted -> (listed_at, *header) of the highest entries below the place, at most
    ``limit`` for each row or, the highest, of all. In any order."""
    FIND_CREATED = "find created"
    """(namespace, archived, *place, limit): a row for each value of ``archived`` that is wanted ->
    (created_at, *header) of the sessions created last, as FIND_OWNED."""
    FIND_CREATED_BY_TAG = "find created by tag"
    """(namespace, archived, mark, *place, limit) -> the same, of the sessions with a tag."""
    FIND_ANY = "find any"
    """One row (mark, owner_id or None, namespace or None, *place, limit) -> the same. ``None``
    means any. For direct use of a provider: it may sort all entries."""
    FIND_SHARED = "find shared"
    """(namespace, subject, *place, limit): a row for each subject -> (granted_at, session_id,
    session_key), as FIND_OWNED. The same entry may come twice."""
    HEADERS = "headers"
    """(session_key,) -> the headers of those that exist, in any order. No lock."""

    # Sweeping, counting, purging.
    DUE = "due"
    """One row (now, limit) -> headers with due_at <= now, the earliest due_at first, locked. Those
    that another transaction has locked are left out."""
    COUNT = "count"
    """One row (namespace or None, now) -> (sessions by the counters, sessions with due_at <= now).
    """
    COUNT_ARCHIVED = "count archived"
    """One empty row -> (archived sessions of all namespaces,)."""
    NAMESPACES = "namespaces"
    """One empty row -> (namespace,), each once: those with a counter."""
    ANY_DELETED = "any deleted"
    """One empty row -> at most one row if ``deleted`` has any. No lock."""
    NEXT_DELETED = "next deleted"
    """One row (limit,) -> (session_key,) from ``deleted``, locked, without those that another
    transaction has locked."""
    PURGE_MESSAGES = "purge messages"
    """(session_key, limit), the limit of every row the same -> one row (count,): delete at most
    ``limit`` messages of all these sessions together, and return how many were deleted."""
    PURGE_CONTEXT = "purge context"
    """The same for context entries."""
    FORGET_DELETED = "forget deleted"
    """(session_key,): remove these from ``deleted``."""

    # The server.
    STORE_TIME = "store time"
    """One empty row -> (now,): the clock of the server, not the time of the transaction."""
    CHECK = "check"
    """One row (identity,) -> (identity of the store,): writes what is given if there is none yet.
    Raises if the server cannot be written to now."""
    WHOLE = "whole"
    """One empty row -> nothing. It names every table and column of a store, so that the server
    refuses it if one is missing."""
    SERVER_VERSION = "server version"
    """One empty row -> (text,): what the server says that it is."""

    # The schema. These run before the tables are known to exist.
    COLUMNS = "columns"
    """One row (schema or None, table) -> (column name,); nothing if there is no such table."""
    GET_VERSION = "get version"
    """One empty row -> (version, oldest_program) of the ``schema`` table."""
    SET_VERSION = "set version"
    """One row (version, oldest_program): replaces what the ``schema`` table holds."""


@hides("rows")
class Step(msgspec.Struct, frozen=True):
    """One statement of a plan, and its rows.

    ``fields`` are the columns of UPDATE_HEADERS. In LOCK and LOCK_FREE, where ``hot_plan`` gives
    them, they are the columns that come back after session_key, in place of the whole header.
    """

    statement: Statement
    rows: Sequence[tuple[Any, ...]] = ((),)
    fields: tuple[str, ...] = ()


Plan = Generator[Step, Rows, Result]
"""Work that yields steps and is sent the rows that came back, each to be read once."""


async def carry_out(plan: Plan[Result], run: Callable[[Step], Awaitable[Rows]], /) -> Result:
    """Execute a plan with ``await``; an error of a step ends it."""
    rows: Rows | None = None
    try:
        while True:
            step = next(plan) if rows is None else plan.send(rows)
            rows = await run(step)
    except StopIteration as end:
        result: Result = end.value
        return result


def carry_out_now(plan: Plan[Result], run: Callable[[Step], Rows], /) -> Result:
    """Execute a plan in this thread; an error of a step ends it."""
    rows: Rows | None = None
    try:
        while True:
            step = next(plan) if rows is None else plan.send(rows)
            rows = run(step)
    except StopIteration as end:
        result: Result = end.value
        return result
