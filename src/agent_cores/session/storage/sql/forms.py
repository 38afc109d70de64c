"""What each statement reads or writes, for every database: forms, and whole statements.

A form names tables and columns; a dialect writes each form once, in its SQL and for the way in
which rows travel to it. Whole statements leave only words to a dialect. ``queries.py`` describes
both.
"""

# ruff: noqa: S608 - what is put into these texts are words of SQL, written in this module

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent_cores.session.codec import HEADER_FIELDS
from agent_cores.session.storage.sql.dialect import Statement as S  # noqa: N817 - on every line

if TYPE_CHECKING:
    from collections.abc import Mapping


class Rows(NamedTuple):
    """Rows of a table, by their key: a session key and ``column``.

    ``result`` are the columns to read. The table's alias is ``held``: with it, ``held.key`` needs
    no quotes, though ``key`` is a reserved word in some databases.
    """

    table: str
    column: str
    result: str = ""


class Update(NamedTuple):
    """Rows of a table, found by the columns ``keys``, that get new values of ``fields``.

    Each row of the step has the keys, then the values.
    """

    table: str
    keys: tuple[str, ...]
    fields: tuple[str, ...]


class Listing(NamedTuple):
    """Index entries: ``keys`` name a list, ``time`` and the session id its order, newest first.

    ``index_name`` is the index of the table that has these columns.
    """

    table: str
    index_name: str
    keys: tuple[str, ...]
    time: str


INSERTS: dict[S, tuple[str, tuple[str, ...]]] = {
    S.INSERT_HEADERS: ("sessions", HEADER_FIELDS),
    S.INSERT_MESSAGES: ("messages", ("session_key", "seq", "id", "created_at", "body")),
    S.SET_CONTEXT: ("context", ("session_key", "key", "value")),
    S.ADD_OWNED: (
        "owned",
        ("session_key", "mark", "owner_id", "namespace", "archived", "listed_at", "session_id"),
    ),
    S.ADD_SHARED: ("shared", ("session_key", "subject", "namespace", "granted_at", "session_id")),
    S.DELETE_HEADERS: ("deleted", ("session_key",)),
}
"""The table and the columns of each row."""

TABLES: dict[str, tuple[str, ...]] = {
    **dict(INSERTS.values()),
    "sessions": ("session_key", *HEADER_FIELDS),
    "counters": ("namespace", "shard", "sessions"),
    "versions": ("version", "oldest_program"),
}
"""The columns of each table."""

LOOKUPS = {
    S.KNOWN: Rows("messages", "id", "session_key, seq, id, created_at, body"),
    S.CONTEXT: Rows("context", "key", "held.session_key, held.key, held.value"),
    S.BY_ID: Rows("messages", "id", "seq, id, length(body)"),
    S.BY_SEQ: Rows("messages", "seq", "seq, id, length(body)"),
}
DELETES = {
    S.DELETE_MESSAGES: Rows("messages", "seq"),
    S.DROP_CONTEXT: Rows("context", "key"),
    S.REMOVE_OWNED: Rows("owned", "mark"),
    S.REMOVE_SHARED: Rows("shared", "subject"),
}
UPDATES = {
    S.UPDATE_MESSAGES: Update("messages", ("session_key", "seq"), ("body",)),
    S.MOVE_OWNED: Update("owned", ("session_key",), ("listed_at",)),
}
"""Those whose columns are always the same; ``header_update`` has UPDATE_HEADERS."""
LISTINGS = {
    S.FIND_OWNED: Listing(
        "owned", "listed", ("owner_id", "namespace", "archived", "mark"), "listed_at"
    ),
    S.FIND_CREATED: Listing("sessions", "created", ("namespace", "archived"), "created_at"),
    S.FIND_CREATED_BY_TAG: Listing(
        "owned", "tagged", ("namespace", "archived", "mark"), "created_at"
    ),
    S.FIND_SHARED: Listing("shared", "listed", ("namespace", "subject"), "granted_at"),
}


_ENOUGH = "page.before_it <= {3} OR page.number <= 2"


def _messages(beyond: str, direction: str, within: str = _ENOUGH) -> str:
    """Return the messages of a window; sizes are added up before any body is copied."""
    return f"""
        SELECT m.seq, m.id, m.created_at, m.body
        FROM (
            SELECT seq, bytes, ROW_NUMBER() OVER (ORDER BY seq {direction}) AS number,
                SUM(bytes) OVER (ORDER BY seq {direction} ROWS UNBOUNDED PRECEDING) - bytes
                    AS before_it
            FROM (
                SELECT seq, OCTET_LENGTH(body) AS bytes FROM {{messages}}
                WHERE session_key = {{0}} AND seq {beyond} {{1}}
                ORDER BY seq {direction} LIMIT {{2}}
            ) nearest
        ) page
        {{join}} {{messages}} m ON m.session_key = {{0}} AND m.seq = page.seq
        WHERE {within}
        ORDER BY m.seq {direction}
    """


ONE_ROW = {
    S.REMOVABLE: """
        SELECT seq, id FROM {messages}
        WHERE session_key = {0} AND seq BETWEEN {1} AND {2} ORDER BY seq DESC LIMIT {3}
    """,
    S.OLDEST: """
        SELECT seq, id FROM {messages}
        WHERE session_key = {0} AND seq < {1} ORDER BY seq LIMIT {2}
    """,
    S.HEADER: """
        SELECT {header} FROM {sessions} s WHERE s.namespace = {0} AND s.session_id = {1}
    """,
    S.CONTEXT_ALL: "SELECT c.key, c.value FROM {context} c WHERE c.session_key = {0}",
    S.MESSAGES_AFTER: _messages(">", "ASC"),
    S.MESSAGES_BEFORE: _messages("<", "DESC"),
    S.MESSAGES_CAPPED: _messages("<", "DESC", "page.before_it + page.bytes <= {3}"),
    # For direct use of a provider, across namespaces or owners: this sorts what it finds.
    S.FIND_ANY: """
        SELECT o.listed_at, {header} FROM {owned} o
        JOIN {sessions} s ON s.session_key = o.session_key
        WHERE o.mark = {0} AND (o.owner_id = {1} OR {1} IS NULL)
            AND (o.namespace = {2} OR {2} IS NULL)
            AND (o.listed_at < {3} OR o.listed_at = {3} AND o.session_id < {4})
        ORDER BY o.listed_at DESC, o.session_id DESC LIMIT {5}
    """,
    S.DUE: """
        SELECT {header} FROM {sessions} s {index_due}
        WHERE s.due_at <= {0} ORDER BY s.due_at LIMIT {1} FOR UPDATE SKIP LOCKED
    """,
    S.COUNT: """
        SELECT (SELECT COALESCE(SUM(sessions), 0) FROM {counters}
                WHERE namespace = {0} OR {0} IS NULL),
            (SELECT COUNT(*) FROM {sessions}
                WHERE due_at <= {1} AND (namespace = {0} OR {0} IS NULL))
    """,
    # Each namespace is looked up in the index of sessions by creation.
    S.COUNT_ARCHIVED: """
        SELECT COALESCE(SUM(
            (SELECT COUNT(*) FROM {sessions} s WHERE s.namespace = n.namespace AND s.archived = 1)
        ), 0) FROM (SELECT DISTINCT namespace FROM {counters}) n
    """,
    S.NAMESPACES: "SELECT DISTINCT namespace FROM {counters}",
    S.ANY_DELETED: "SELECT session_key FROM {deleted} LIMIT 1",
    S.NEXT_DELETED: """
        SELECT session_key FROM {deleted} ORDER BY session_key LIMIT {0} FOR UPDATE SKIP LOCKED
    """,
    S.GET_VERSION: "SELECT version, oldest_program FROM {versions}",
}
"""Statements of one row, whose values are ``{0}``, ``{1}`` …"""
_OTHERS_OF_ONE_ROW = {S.STORE_TIME, S.CHECK, S.SERVER_VERSION, S.COLUMNS, S.SET_VERSION, S.WHOLE}
TAKE_ONE_ROW = frozenset({*ONE_ROW, *_OTHERS_OF_ONE_ROW})
"""All statements of one row."""

_LOCK = """
    SELECT {header} FROM {sessions} s {index_named}
    WHERE {in_names} {in_order} FOR UPDATE
"""
MANY_ROWS = {
    S.LOCK: _LOCK,
    S.LOCK_FREE: f"{_LOCK} SKIP LOCKED",
    S.PRESENT: """
        SELECT s.namespace, s.session_id FROM {sessions} s {index_named}
        WHERE {in_names}
    """,
    S.HEADERS: "SELECT {header} FROM {sessions} s WHERE s.session_key {in_keys}",
    S.FORGET_DELETED: "DELETE FROM {deleted} WHERE session_key {in_keys}",
}
"""Statements of rows that are names or session keys."""

SEVERAL = {
    S.DELETE_HEADERS: (
        "DELETE FROM {owned} WHERE session_key {in_keys}",
        "DELETE FROM {shared} WHERE session_key {in_keys}",
        "DELETE FROM {sessions} WHERE session_key {in_keys}",
        "{insert}",
    ),
    S.SET_VERSION: (
        "DELETE FROM {versions}",
        "INSERT INTO {versions} (version, oldest_program) VALUES ({0}, {1})",
    ),
}
"""Statements that run together and do not depend on each other."""

OWN = frozenset(
    {S.INSERT_HEADERS, S.SET_CONTEXT, S.COUNT_SESSIONS, S.PURGE_MESSAGES, S.PURGE_CONTEXT}
    | {S.STORE_TIME, S.CHECK, S.SERVER_VERSION, S.COLUMNS}
)
"""The statements that every dialect writes by itself.

INSERT_HEADERS and SET_CONTEXT begin with ``{insert}``.
"""

RETURN_NOTHING = frozenset(
    {*INSERTS, *DELETES, *UPDATES, *SEVERAL, S.UPDATE_HEADERS, S.COUNT_SESSIONS, S.FORGET_DELETED}
    - {S.INSERT_HEADERS}
)
"""The statements that return no rows."""

TEXT_COLUMNS = frozenset(
    {"namespace", "session_id", "owner_id", "renew_on", "hold", "request_digest", "turn_token"}
    | {"id", "key", "mark", "subject"}
)
"""The columns of text, in any table."""

IDENTITY = "0, 'store'"
"""Session key and key of the context entry that is the store's identity: no session has key 0."""


def naming_all(tables: Mapping[str, tuple[str, ...]]) -> str:
    """Return a query that names these columns of these tables and reads no row."""
    return " UNION ALL ".join(
        f"SELECT 1 FROM (SELECT {', '.join(f'held.{name}' for name in columns)}"
        f" FROM {table} held) named WHERE 1 = 0"
        for table, columns in tables.items()
    )


def header_of(alias: str) -> str:
    """Return the columns of a header, its key first."""
    return ", ".join(f"{alias}.{name}" for name in ("session_key", *HEADER_FIELDS))


def header_update(fields: tuple[str, ...]) -> Update:
    """Return what UPDATE_HEADERS of these fields writes."""
    return Update("sessions", ("session_key",), fields)
