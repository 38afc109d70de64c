"""Every statement that runs on MySQL and MariaDB, and how rows become part of its text.

In a statement ``{0}``, ``{1}`` … are the values of its first row, ``{rows}`` all rows in
parentheses, ``{keys}`` the first value of each, ``{selects}`` a SELECT of each. If a statement is a
pair, its second part is repeated for each row, joined by ``UNION ALL`` or ``OR``, and replaces
``{each}``. Rows are locked in the order of the index that the statement names.

A text is sent as Latin-1: each character is one byte, so that bytes of any kind have a place in it.
"""
# ruff: noqa: S608 - values enter these texts as escaped literals, see ``literal``

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.codec import HEADER_FIELDS
from agent_cores.session.storage.sql.dialect import Statement as S  # noqa: N817 - on every line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent_cores.session.storage.sql.dialect import Row, Step

_MOST_ROWS = 1_000
_MOST_CHARACTERS = 1024 * 1024
"""The most rows and characters of one statement; a longer row is sent alone."""

_TEXT = frozenset(
    {"namespace", "session_id", "owner_id", "renew_on", "hold", "request_digest", "turn_token"}
    | {"id", "key"}
)
"""Columns whose bytes are text; those of all others stay bytes."""

_FIELDS = ", ".join(HEADER_FIELDS)
_HEADER = ", ".join(f"s.{name}" for name in ("session_key", *HEADER_FIELDS))
_FROM = (
    "FROM `{prefix}sessions` s FORCE INDEX (named) WHERE (s.namespace, s.session_id) IN ({rows})"
)
_CREATED = [HEADER_FIELDS.index(name) for name in ("namespace", "session_id", "incarnation")]


def _entries(
    columns: str,
    table: str,
    keys: str,
    place: str,
    bounds: tuple[int, int, int],
    *,
    index: str = "listed",
) -> str:
    """Return the highest entries of an index below a place; ``bounds`` number place and limit."""
    at, session_id, limit = (f"{{{number}}}" for number in bounds)
    return f"""(SELECT {columns} FROM `{{prefix}}{table}` FORCE INDEX ({index}) WHERE {keys}
    AND ({place} < {at} OR {place} = {at} AND session_id < {session_id})
    ORDER BY {place} DESC, session_id DESC LIMIT {limit})"""


def _table(*columns: str) -> str:
    """Return the rows as a table ``n`` of these columns; a SELECT without rows names them."""
    names = ", ".join(f"NULL AS {name}" for name in columns)
    return f"(SELECT {names} FROM DUAL WHERE FALSE UNION ALL {{selects}}) n"


def _delete(table: str, column: str) -> tuple[str, str]:
    """Return the removal of rows by key. For an IN list of one pair, MariaDB scans the table."""
    where = f"session_key = {{0}} AND {column} = {{1}}"
    return f"DELETE FROM `{{prefix}}{table}` WHERE {{each}}", where


def _messages(beyond: str, direction: str) -> str:
    """Return the messages of a window; sizes are added up before any body is copied."""
    return f"""SELECT m.seq, m.id, m.created_at, m.body FROM (
    SELECT seq, ROW_NUMBER() OVER (ORDER BY seq {direction}) AS number,
        SUM(bytes) OVER (ORDER BY seq {direction} ROWS UNBOUNDED PRECEDING) - bytes AS before_it
    FROM (SELECT seq, LENGTH(body) AS bytes FROM `{{prefix}}messages`
        WHERE session_key = {{0}} AND seq {beyond} {{1}}
        ORDER BY seq {direction} LIMIT {{2}}) nearest
) page STRAIGHT_JOIN `{{prefix}}messages` m ON m.session_key = {{0}} AND m.seq = page.seq
WHERE page.before_it <= {{3}} OR page.number <= 2 ORDER BY m.seq {direction}"""


TEMPLATES: dict[S, str | tuple[str, str]] = {
    S.LOCK: f"SELECT {_HEADER} {_FROM} FOR UPDATE",
    S.LOCK_FREE: f"SELECT {_HEADER} {_FROM} FOR UPDATE SKIP LOCKED",
    S.PRESENT: f"SELECT s.namespace, s.session_id {_FROM}",
    S.KNOWN: """SELECT session_key, seq, id, created_at, body FROM `{prefix}messages`
        FORCE INDEX (known) WHERE (session_key, id) IN ({rows})""",
    S.CONTEXT: """SELECT session_key, `key`, value FROM `{prefix}context`
        WHERE (session_key, `key`) IN ({rows})""",
    S.REMOVABLE: """SELECT seq, id FROM `{prefix}messages`
        WHERE session_key = {0} AND seq BETWEEN {1} AND {2} ORDER BY seq DESC LIMIT {3}""",
    S.OLDEST: """SELECT seq, id FROM `{prefix}messages`
        WHERE session_key = {0} AND seq < {1} ORDER BY seq LIMIT {2}""",
    S.BY_ID: """SELECT seq, id, LENGTH(body) FROM `{prefix}messages` FORCE INDEX (known)
        WHERE (session_key, id) IN ({rows})""",
    S.BY_SEQ: """SELECT seq, id, LENGTH(body) FROM `{prefix}messages` FORCE INDEX (PRIMARY)
        WHERE (session_key, seq) IN ({rows})""",
    # No IGNORE, which would hide other errors. A name that was taken has another incarnation.
    S.INSERT_HEADERS: f"""INSERT INTO `{{prefix}}sessions` ({_FIELDS}) VALUES {{rows}}
        ON DUPLICATE KEY UPDATE session_key = session_key;
        SELECT namespace, session_id, session_key FROM `{{prefix}}sessions` FORCE INDEX (named)
        WHERE (namespace, session_id, incarnation) IN ({{created}})""",
    S.DELETE_HEADERS: """INSERT INTO `{prefix}deleted` VALUES {rows};
        DELETE FROM `{prefix}owned` WHERE session_key IN ({keys});
        DELETE FROM `{prefix}shared` WHERE session_key IN ({keys});
        DELETE FROM `{prefix}sessions` WHERE session_key IN ({keys})""",
    S.INSERT_MESSAGES: """INSERT INTO `{prefix}messages` (session_key, seq, id, created_at, body)
        VALUES {rows}""",
    S.UPDATE_MESSAGES: (
        """UPDATE ({each}) n STRAIGHT_JOIN `{prefix}messages` m
        ON m.session_key = n.session_key AND m.seq = n.seq SET m.body = n.body""",
        "SELECT {0} AS session_key, {1} AS seq, {2} AS body",
    ),
    S.DELETE_MESSAGES: _delete("messages", "seq"),
    S.SET_CONTEXT: """INSERT INTO `{prefix}context` (session_key, `key`, value) VALUES {rows}
        ON DUPLICATE KEY UPDATE value = VALUES(value)""",
    S.DROP_CONTEXT: _delete("context", "`key`"),
    S.ADD_OWNED: (
        """INSERT INTO `{prefix}owned`
        (session_key, mark, owner_id, namespace, archived, listed_at, session_id, created_at)
        {each}""",
        """SELECT {0}, {1}, {2}, {3}, {4}, {5}, {6}, IF({1} = '', NULL,
        (SELECT created_at FROM `{prefix}sessions` WHERE session_key = {0}))""",
    ),
    S.REMOVE_OWNED: _delete("owned", "mark"),
    S.MOVE_OWNED: f"""UPDATE {_table("session_key", "listed_at")}
        STRAIGHT_JOIN `{{prefix}}owned` o FORCE INDEX (PRIMARY) ON o.session_key = n.session_key
        SET o.listed_at = n.listed_at""",
    S.ADD_SHARED: """INSERT INTO `{prefix}shared`
        (session_key, subject, namespace, granted_at, session_id) VALUES {rows}""",
    S.REMOVE_SHARED: _delete("shared", "subject"),
    S.COUNT_SESSIONS: (
        """INSERT INTO `{prefix}counters` (namespace, shard, sessions) {each}
        ON DUPLICATE KEY UPDATE sessions = sessions + VALUES(sessions)""",
        "SELECT {0}, CONNECTION_ID() % 16, {1}",
    ),
    S.HEADER: f"SELECT {_HEADER} {_FROM}",
    S.CONTEXT_ALL: "SELECT `key`, value FROM `{prefix}context` WHERE session_key = {0}",
    S.MESSAGES_AFTER: _messages(">", "ASC"),
    S.MESSAGES_BEFORE: _messages("<", "DESC"),
    S.FIND_OWNED: (
        f"""SELECT e.listed_at, {_HEADER} FROM ({{each}}) e
        STRAIGHT_JOIN `{{prefix}}sessions` s ON s.session_key = e.session_key""",
        _entries(
            "listed_at, session_key",
            "owned",
            "owner_id = {0} AND namespace = {1} AND archived = {2} AND mark = {3}",
            "listed_at",
            (4, 5, 6),
        ),
    ),
    S.FIND_CREATED: (
        f"""SELECT e.created_at, {_HEADER} FROM ({{each}}) e
        STRAIGHT_JOIN `{{prefix}}sessions` s ON s.session_key = e.session_key""",
        _entries(
            "created_at, session_key",
            "sessions",
            "namespace = {0} AND archived = {1}",
            "created_at",
            (2, 3, 4),
            index="created",
        ),
    ),
    S.FIND_CREATED_BY_TAG: (
        f"""SELECT e.created_at, {_HEADER} FROM ({{each}}) e
        STRAIGHT_JOIN `{{prefix}}sessions` s ON s.session_key = e.session_key""",
        _entries(
            "created_at, session_key",
            "owned",
            "namespace = {0} AND archived = {1} AND mark = {2}",
            "created_at",
            (3, 4, 5),
            index="tagged",
        ),
    ),
    S.FIND_ANY: f"""SELECT o.listed_at, {_HEADER} FROM `{{prefix}}owned` o
        JOIN `{{prefix}}sessions` s USING (session_key)
        WHERE o.mark = {{0}} AND ({{1}} IS NULL OR o.owner_id = {{1}})
        AND ({{2}} IS NULL OR o.namespace = {{2}})
        AND (o.listed_at < {{3}} OR o.listed_at = {{3}} AND o.session_id < {{4}})
        ORDER BY o.listed_at DESC, o.session_id DESC LIMIT {{5}}""",
    S.FIND_SHARED: (
        "{each}",
        _entries(
            "granted_at, session_id, session_key",
            "shared",
            "subject = {1} AND namespace = {0}",
            "granted_at",
            (2, 3, 4),
        ),
    ),
    S.HEADERS: f"SELECT {_HEADER} FROM `{{prefix}}sessions` s WHERE s.session_key IN ({{keys}})",
    S.DUE: f"""SELECT {_HEADER} FROM `{{prefix}}sessions` s FORCE INDEX (due)
        WHERE s.due_at <= {{0}} ORDER BY s.due_at LIMIT {{1}} FOR UPDATE SKIP LOCKED""",
    S.COUNT: """SELECT (SELECT CAST(COALESCE(SUM(sessions), 0) AS SIGNED) FROM `{prefix}counters`
            WHERE {0} IS NULL OR namespace = {0}),
        (SELECT COUNT(*) FROM `{prefix}sessions`
            WHERE due_at <= {1} AND ({0} IS NULL OR namespace = {0}))""",
    S.NAMESPACES: "SELECT DISTINCT namespace FROM `{prefix}counters`",
    S.ANY_DELETED: "SELECT session_key FROM `{prefix}deleted` LIMIT 1",
    S.NEXT_DELETED: """SELECT session_key FROM `{prefix}deleted`
        ORDER BY session_key LIMIT {0} FOR UPDATE SKIP LOCKED""",
    S.PURGE_MESSAGES: """DELETE FROM `{prefix}messages` WHERE session_key IN ({keys})
        ORDER BY session_key, seq LIMIT {1}; SELECT ROW_COUNT()""",
    S.PURGE_CONTEXT: """DELETE FROM `{prefix}context` WHERE session_key IN ({keys})
        ORDER BY session_key, `key` LIMIT {1}; SELECT ROW_COUNT()""",
    S.FORGET_DELETED: "DELETE FROM `{prefix}deleted` WHERE session_key IN ({keys})",
    S.STORE_TIME: "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)",
    S.CHECK: "DELETE FROM `{prefix}deleted` WHERE session_key = -1",  # a replica refuses it
    S.SERVER_VERSION: "SELECT VERSION()",
    S.COLUMNS: """SELECT column_name FROM information_schema.columns
        WHERE table_schema = COALESCE({0}, DATABASE()) AND table_name = {1}""",
    S.GET_VERSION: "SELECT version, oldest_program FROM `{prefix}schema`",
    S.SET_VERSION: "DELETE FROM `{prefix}schema`; INSERT INTO `{prefix}schema` VALUES {rows}",
}


def template(step: Step) -> str | tuple[str, str]:
    """Return the statement of a step, its rows still to be filled in."""
    if step.statement is not S.UPDATE_HEADERS:
        whole = TEMPLATES[step.statement]
        if not step.fields or not isinstance(whole, str):
            return whole
        columns = ", ".join(f"s.{name}" for name in ("session_key", *step.fields))
        return whole.replace(_HEADER, columns)
    columns = ", ".join(f"s.{name} = n.{name}" for name in step.fields)
    return f"""UPDATE {_table("session_key", *step.fields)}
        STRAIGHT_JOIN `{{prefix}}sessions` s FORCE INDEX (PRIMARY)
        ON s.session_key = n.session_key SET {columns}"""


def returns_rows(step: Step) -> bool:
    """Whether the last statement of a step is one that reads."""
    whole = template(step)
    outer = whole if isinstance(whole, str) else whole[0]
    return outer.rpartition(";")[2].lstrip().startswith(("SELECT", "{each}"))


def statements(step: Step, prefix: str) -> Iterator[str]:
    """Yield the statements that execute a step: more than one if its rows are long."""
    whole = template(step)
    outer, each = (whole, "") if isinstance(whole, str) else whole
    outer, each = (text.replace("{prefix}", prefix) for text in (outer, each))
    between = " UNION ALL " if "SELECT" in each else " OR "
    for rows in _pieces([list(map(literal, row)) for row in step.rows]):
        created = ""
        if step.statement is S.INSERT_HEADERS:
            created = _in_parentheses([[row[place] for place in _CREATED] for row in rows])
        yield outer.format(
            *rows[0],
            rows=_in_parentheses(rows) if "{rows}" in outer else "",
            selects=_selects(rows) if "{selects}" in outer else "",
            keys=",".join(row[0] for row in rows if row),
            each=between.join(each.format(*row) for row in rows) if each else "",
            created=created,
        )


class Verbatim(str):
    """A part of a statement, inserted into its text unescaped."""

    __slots__ = ()


SESSION_KEY = Verbatim("@session_key")
"""The key that ``find_key`` found."""


def find_key(name: tuple[str, str], prefix: str) -> str:
    """Return the statement that puts the key of a session, or null, into ``SESSION_KEY``."""
    namespace, session_id = map(literal, name)
    return (
        f"SET {SESSION_KEY} = (SELECT session_key FROM `{prefix}sessions` "
        f"WHERE namespace = {namespace} AND session_id = {session_id})"
    )


def _quoted(text: str) -> str:
    """Return a binary string. Backslash and quote are all that the server asks to be escaped.

    The driver escapes more, byte by byte, which took a third of the time of an append.
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"_binary'{escaped}'"


_LITERALS: dict[type, Callable[[Any], str]] = {
    int: int.__repr__,
    float: repr,
    str: lambda value: _quoted(value.encode().decode("latin-1")),
    bytes: lambda value: _quoted(value.decode("latin-1")),
    type(None): lambda _: "NULL",
    Verbatim: str,
}


def literal(value: Any) -> str:  # noqa: ANN401 - whatever a column holds
    """Return a value as an SQL literal. Text is sent as bytes, so that bytes are compared."""
    return _LITERALS[type(value)](value)


def decoded(columns: Sequence[Sequence[Any]], rows: Sequence[Row]) -> list[Row]:
    """Return rows with text as ``str``; ``columns`` describes each column, its name first."""
    places = [place for place, column in enumerate(columns) if column[0] in _TEXT]
    if not places:
        return list(rows)
    found = [list(row) for row in rows]
    for row in found:
        for place in places:
            if row[place] is not None:
                row[place] = row[place].decode()
    return found


def _in_parentheses(rows: Sequence[Sequence[str]]) -> str:
    return "(" + "),(".join([",".join(row) for row in rows]) + ")"


def _selects(rows: Sequence[Sequence[str]]) -> str:
    return "SELECT " + " UNION ALL SELECT ".join([",".join(row) for row in rows])


def _pieces(rows: Sequence[list[str]]) -> Iterator[list[list[str]]]:
    """Split rows into pieces that each fit the length of one statement."""
    piece: list[list[str]] = []
    size = 0
    for row in rows:
        length = sum(map(len, row))
        if piece and (size + length > _MOST_CHARACTERS or len(piece) == _MOST_ROWS):
            yield piece
            piece, size = [], 0
        piece.append(row)
        size += length
    yield piece
