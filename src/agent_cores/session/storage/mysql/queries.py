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
from agent_cores.session.storage.sql.dialect import Step
from agent_cores.session.storage.sql.forms import (
    DELETES,
    IDENTITY,
    INSERTS,
    LISTINGS,
    LOOKUPS,
    TEXTS,
    VERSIONS,
    Listing,
    Rows,
    header_of,
    written,
)
from agent_cores.session.storage.sql.reading import message_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent_cores.session.models import Window
    from agent_cores.session.storage.sql.dialect import Row

_MOST_ROWS = 1_000
_MOST_CHARACTERS = 1024 * 1024
"""The most rows and characters of one statement; a longer row is sent alone."""

_TEXT = frozenset(
    {"namespace", "session_id", "owner_id", "renew_on", "hold", "request_digest", "turn_token"}
    | {"id", "key"}
)
"""Columns whose bytes are text; those of all others stay bytes."""

_HEADER = header_of("s")
_FROM = (
    "FROM `{prefix}sessions` s FORCE INDEX (named) WHERE (s.namespace, s.session_id) IN ({rows})"
)
_CREATED = [HEADER_FIELDS.index(name) for name in ("namespace", "session_id", "incarnation")]


def _written(text: str) -> str:
    return written(text, table="`{prefix}*`", value="{*}", first=0)


def _insert(table: str, columns: tuple[str, ...]) -> str:
    names = ", ".join(f"`{name}`" for name in columns)
    return f"INSERT INTO `{{prefix}}{table}` ({names}) VALUES {{rows}}"


def _lookup(rows: Rows) -> str:
    index = "known" if rows.column == "id" else "PRIMARY"
    return f"""SELECT {rows.result} FROM `{{prefix}}{rows.table}` held FORCE INDEX ({index})
        WHERE (held.session_key, held.{rows.column}) IN ({{rows}})"""


def _delete(rows: Rows) -> tuple[str, str]:
    """Return the removal of rows by key. For an IN list of one pair, MariaDB scans the table."""
    where = f"session_key = {{0}} AND `{rows.column}` = {{1}}"
    return f"DELETE FROM `{{prefix}}{rows.table}` WHERE {{each}}", where


def _listing(listing: Listing, table: str, index: str) -> tuple[str, str]:
    """Return the highest entries of each list below a place, with their headers if it has them."""
    keys = " AND ".join(f"{name} = {{{number}}}" for number, name in enumerate(listing.keys))
    at, session_id, limit = (f"{{{len(listing.keys) + number}}}" for number in range(3))
    time = listing.time
    entries = f"""(SELECT {time}, session_id, session_key FROM `{{prefix}}{table}`
    FORCE INDEX ({index}) WHERE {keys}
    AND ({time} < {at} OR {time} = {at} AND session_id < {session_id})
    ORDER BY {time} DESC, session_id DESC LIMIT {limit})"""
    if table == "shared":
        return "{each}", entries
    return (
        f"""SELECT e.{time}, {_HEADER} FROM ({{each}}) e
        STRAIGHT_JOIN `{{prefix}}sessions` s ON s.session_key = e.session_key""",
        entries,
    )


def _table(*columns: str) -> str:
    """Return the rows as a table ``n`` of these columns; a SELECT without rows names them."""
    names = ", ".join(f"NULL AS {name}" for name in columns)
    return f"(SELECT {names} FROM DUAL WHERE FALSE UNION ALL {{selects}}) n"


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


_LISTED = {
    S.FIND_OWNED: ("owned", "listed"),
    S.FIND_CREATED: ("sessions", "created"),
    S.FIND_CREATED_BY_TAG: ("owned", "tagged"),
    S.FIND_SHARED: ("shared", "listed"),
}
"""The table and the index of each listing."""

TEMPLATES: dict[S, str | tuple[str, str]] = {
    **{statement: _written(text) for statement, text in TEXTS.items()},
    **{statement: _insert(*insert) for statement, insert in INSERTS.items()},
    **{statement: _lookup(rows) for statement, rows in LOOKUPS.items()},
    **{statement: _delete(rows) for statement, rows in DELETES.items()},
    **{
        statement: _listing(listing, *_LISTED[statement]) for statement, listing in LISTINGS.items()
    },
    S.LOCK: f"SELECT {_HEADER} {_FROM} FOR UPDATE",
    S.LOCK_FREE: f"SELECT {_HEADER} {_FROM} FOR UPDATE SKIP LOCKED",
    S.PRESENT: f"SELECT s.namespace, s.session_id {_FROM}",
    # No IGNORE, which would hide other errors. A name that was taken has another incarnation.
    S.INSERT_HEADERS: f"""{_insert(*INSERTS[S.INSERT_HEADERS])}
        ON DUPLICATE KEY UPDATE session_key = session_key;
        SELECT namespace, session_id, session_key FROM `{{prefix}}sessions` FORCE INDEX (named)
        WHERE (namespace, session_id, incarnation) IN ({{created}})""",
    S.DELETE_HEADERS: """INSERT INTO `{prefix}deleted` VALUES {rows};
        DELETE FROM `{prefix}owned` WHERE session_key IN ({keys});
        DELETE FROM `{prefix}shared` WHERE session_key IN ({keys});
        DELETE FROM `{prefix}sessions` WHERE session_key IN ({keys})""",
    S.UPDATE_MESSAGES: (
        """UPDATE ({each}) n STRAIGHT_JOIN `{prefix}messages` m
        ON m.session_key = n.session_key AND m.seq = n.seq SET m.body = n.body""",
        "SELECT {0} AS session_key, {1} AS seq, {2} AS body",
    ),
    S.SET_CONTEXT: f"""{_insert(*INSERTS[S.SET_CONTEXT])}
        ON DUPLICATE KEY UPDATE value = VALUES(value)""",
    S.ADD_OWNED: (
        """INSERT INTO `{prefix}owned`
        (session_key, mark, owner_id, namespace, archived, listed_at, session_id, created_at)
        {each}""",
        """SELECT {0}, {1}, {2}, {3}, {4}, {5}, {6}, IF({1} = '', NULL,
        (SELECT created_at FROM `{prefix}sessions` WHERE session_key = {0}))""",
    ),
    S.MOVE_OWNED: f"""UPDATE {_table("session_key", "listed_at")}
        STRAIGHT_JOIN `{{prefix}}owned` o FORCE INDEX (PRIMARY) ON o.session_key = n.session_key
        SET o.listed_at = n.listed_at""",
    S.COUNT_SESSIONS: (
        """INSERT INTO `{prefix}counters` (namespace, shard, sessions) {each}
        ON DUPLICATE KEY UPDATE sessions = sessions + VALUES(sessions)""",
        "SELECT {0}, CONNECTION_ID() % 16, {1}",
    ),
    S.HEADER: f"SELECT {_HEADER} {_FROM}",
    S.MESSAGES_AFTER: _messages(">", "ASC"),
    S.MESSAGES_BEFORE: _messages("<", "DESC"),
    S.HEADERS: f"SELECT {_HEADER} FROM `{{prefix}}sessions` s WHERE s.session_key IN ({{keys}})",
    S.DUE: f"""SELECT {_HEADER} FROM `{{prefix}}sessions` s FORCE INDEX (due)
        WHERE s.due_at <= {{0}} ORDER BY s.due_at LIMIT {{1}} FOR UPDATE SKIP LOCKED""",
    S.PURGE_MESSAGES: """DELETE FROM `{prefix}messages` WHERE session_key IN ({keys})
        ORDER BY session_key, seq LIMIT {1}; SELECT ROW_COUNT()""",
    S.PURGE_CONTEXT: """DELETE FROM `{prefix}context` WHERE session_key IN ({keys})
        ORDER BY session_key, `key` LIMIT {1}; SELECT ROW_COUNT()""",
    S.FORGET_DELETED: "DELETE FROM `{prefix}deleted` WHERE session_key IN ({keys})",
    S.STORE_TIME: "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)",
    S.CHECK: f"""INSERT INTO `{{prefix}}context` (session_key, `key`, value)
        VALUES ({IDENTITY}, {{0}}) ON DUPLICATE KEY UPDATE value = value;
        SELECT value FROM `{{prefix}}context` WHERE (session_key, `key`) = ({IDENTITY})""",
    S.SERVER_VERSION: "SELECT VERSION()",
    S.COLUMNS: """SELECT column_name FROM information_schema.columns
        WHERE table_schema = COALESCE({0}, DATABASE()) AND table_name = {1}""",
    S.SET_VERSION: "DELETE FROM `{prefix}schema`; INSERT INTO `{prefix}schema` VALUES {rows}",
}


ONE_INSTANT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;START TRANSACTION READ ONLY"
CREATE_VERSIONS = f"{_written(VERSIONS)} ENGINE = InnoDB"


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


_SESSION_KEY = Verbatim("@session_key")


def read_at_once(
    name: tuple[str, str], prefix: str, *, context: bool, window: Window | None
) -> Iterator[str]:
    """Yield the statements of ``read_plan``, in its order, without waiting for the key."""
    header = statements(Step(S.HEADER, [name]), prefix)
    if not context and window is None:
        yield from header
        return
    namespace, session_id = map(literal, name)
    yield ONE_INSTANT
    yield (
        f"SET {_SESSION_KEY} = (SELECT session_key FROM `{prefix}sessions` "
        f"WHERE namespace = {namespace} AND session_id = {session_id})"
    )
    yield from header
    if window is not None:
        statement, bounds = message_bounds(window)
        yield from statements(Step(statement, [(_SESSION_KEY, *bounds)]), prefix)
    if context:
        yield from statements(Step(S.CONTEXT_ALL, [(_SESSION_KEY,)]), prefix)
    yield "COMMIT"


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
