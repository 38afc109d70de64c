"""Statements that database servers share: forms with their tables and columns, and whole texts.

A form says what a statement reads or writes; a dialect writes each form once, in its SQL and for
the way in which rows travel to it. ``TEXTS`` differ between databases only in quotes and
placeholders, see ``written``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from agent_cores.session.codec import HEADER_FIELDS
from agent_cores.session.storage.sql.dialect import Statement as S  # noqa: N817 - on every line


class Rows(NamedTuple):
    """Rows of a table, by their key: a session key and ``column``.

    ``result`` are the columns to read. The table's alias is ``held``: with it, ``held.key`` needs
    no quotes, though ``key`` is a reserved word of MySQL.
    """

    table: str
    column: str
    result: str = ""


class Listing(NamedTuple):
    """Index entries: ``keys`` name a list, ``time`` and the session id its order, newest first."""

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
}
"""The table and the columns of each row."""

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
LISTINGS = {
    S.FIND_OWNED: Listing(("owner_id", "namespace", "archived", "mark"), "listed_at"),
    S.FIND_CREATED: Listing(("namespace", "archived"), "created_at"),
    S.FIND_CREATED_BY_TAG: Listing(("namespace", "archived", "mark"), "created_at"),
    S.FIND_SHARED: Listing(("namespace", "subject"), "granted_at"),
}

TEXTS = {
    S.REMOVABLE: """
        SELECT seq, id FROM {messages}
        WHERE session_key = {0} AND seq BETWEEN {1} AND {2} ORDER BY seq DESC LIMIT {3}
    """,
    S.OLDEST: """
        SELECT seq, id FROM {messages}
        WHERE session_key = {0} AND seq < {1} ORDER BY seq LIMIT {2}
    """,
    S.CONTEXT_ALL: "SELECT c.key, c.value FROM {context} c WHERE c.session_key = {0}",
    # For direct use of a provider, across namespaces or owners: this sorts what it finds.
    S.FIND_ANY: """
        SELECT o.listed_at, {header} FROM {owned} o
        JOIN {sessions} s ON s.session_key = o.session_key
        WHERE o.mark = {0} AND (o.owner_id = {1} OR {1} IS NULL)
            AND (o.namespace = {2} OR {2} IS NULL)
            AND (o.listed_at < {3} OR o.listed_at = {3} AND o.session_id < {4})
        ORDER BY o.listed_at DESC, o.session_id DESC LIMIT {5}
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
    S.GET_VERSION: "SELECT version, oldest_program FROM {schema}",
}
"""Statements of one row. ``{0}``, ``{1}`` … are its values, ``{header}`` the columns of ``s``."""

IDENTITY = "0, 'store'"
"""Session key and key of the context entry that is the store's identity: no session has key 0."""

VERSIONS = """
CREATE TABLE IF NOT EXISTS {schema} (version integer NOT NULL, oldest_program integer NOT NULL)
"""


def header_of(alias: str) -> str:
    """Return the columns of a header, its key first."""
    return ", ".join(f"{alias}.{name}" for name in ("session_key", *HEADER_FIELDS))


def written(text: str, *, table: str, value: str, first: int = 1) -> str:
    """Return a text in the SQL of a database.

    ``table`` is a quoted name with ``*`` for the name itself, ``value`` a placeholder with ``*``
    for its number, which is ``first`` for the first value.
    """

    def name(match: re.Match[str]) -> str:
        word = match[1]
        if word.isdigit():
            return value.replace("*", str(int(word) + first))
        return header_of("s") if word == "header" else table.replace("*", word)

    return re.sub(r"\{(\w+)\}", name, text)
