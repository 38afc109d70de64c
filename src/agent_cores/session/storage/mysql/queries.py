"""The statements of MySQL and MariaDB that differ from those of other databases.

Rows are locked in the order of the index that a statement names.
"""
# ruff: noqa: S608 - values enter these texts as escaped literals, see ``literal_rows.py``

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from agent_cores.session.codec import HEADER_FIELDS
from agent_cores.session.storage.sql.dialect import Statement as S  # noqa: N817 - on every line
from agent_cores.session.storage.sql.forms import IDENTITY, header_of
from agent_cores.session.storage.sql.literal_rows import LiteralQueries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.storage.sql.forms import Listing, Rows, Update

_NAMESPACE, _SESSION_ID, _INCARNATION = (
    f"{{{HEADER_FIELDS.index(name)}}}" for name in ("namespace", "session_id", "incarnation")
)
_LISTED = {
    S.FIND_OWNED: ("owned", "listed"),
    S.FIND_CREATED: ("sessions", "created"),
    S.FIND_CREATED_BY_TAG: ("owned", "tagged"),
    S.FIND_SHARED: ("shared", "listed"),
}
"""The table and the index of each listing."""


class MysqlQueries(LiteralQueries):
    """The SQL of MySQL and MariaDB."""

    table: ClassVar[str] = "`{prefix}*`"
    in_order: ClassVar[str] = ""
    join: ClassVar[str] = "STRAIGHT_JOIN"
    index: ClassVar[str] = "FORCE INDEX (*)"

    own: ClassVar[Mapping[S, str]] = {
        # No IGNORE, which would hide other errors. A name that was taken has another incarnation.
        S.INSERT_HEADERS: f"""{{insert}} ON DUPLICATE KEY UPDATE session_key = session_key;
            SELECT namespace, session_id, session_key FROM {{sessions}} FORCE INDEX (named)
            WHERE (namespace, session_id, incarnation)
                IN ([each ({_NAMESPACE}, {_SESSION_ID}, {_INCARNATION}) between ,])""",
        S.SET_CONTEXT: "{insert} ON DUPLICATE KEY UPDATE value = VALUES(value)",
        S.ADD_OWNED: """INSERT INTO {owned}
            (session_key, mark, owner_id, namespace, archived, listed_at, session_id, created_at)
            [each SELECT {0}, {1}, {2}, {3}, {4}, {5}, {6}, IF({1} = '', NULL,
                (SELECT created_at FROM {sessions} WHERE session_key = {0}))
            between UNION ALL]""",
        S.COUNT_SESSIONS: """INSERT INTO {counters} (namespace, shard, sessions)
            [each SELECT {0}, CONNECTION_ID() % 16, {1} between UNION ALL]
            ON DUPLICATE KEY UPDATE sessions = sessions + VALUES(sessions)""",
        S.PURGE_MESSAGES: """DELETE FROM {messages} WHERE session_key IN ({keys})
            ORDER BY session_key, seq LIMIT {1}; SELECT ROW_COUNT()""",
        S.PURGE_CONTEXT: """DELETE FROM {context} WHERE session_key IN ({keys})
            ORDER BY session_key, `key` LIMIT {1}; SELECT ROW_COUNT()""",
        S.STORE_TIME: "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)",
        S.CHECK: f"""INSERT INTO {{context}} (session_key, `key`, value)
            VALUES ({IDENTITY}, {{0}}) ON DUPLICATE KEY UPDATE value = value;
            SELECT value FROM {{context}} WHERE (session_key, `key`) = ({IDENTITY})""",
        S.SERVER_VERSION: "SELECT VERSION()",
        S.COLUMNS: """SELECT column_name FROM information_schema.columns
            WHERE table_schema = COALESCE({0}, DATABASE()) AND table_name = {1}""",
    }

    def quoted(self, text: str) -> str:
        """Return a binary string. Backslash and quote are all that the server asks to be escaped.

        The driver escapes more, byte by byte, which took a third of the time of an append.
        """
        escaped = text.replace("\\", "\\\\").replace("'", "\\'")
        return f"_binary'{escaped}'"

    def insert(self, table: str, columns: tuple[str, ...]) -> str:
        """Return an INSERT of several rows."""
        names = ", ".join(f"`{name}`" for name in columns)
        return f"INSERT INTO {{{table}}} ({names}) VALUES {{rows}}"

    def update(self, update: Update) -> str:
        """Return an UPDATE of a table joined to the rows; the SELECT without rows names them."""
        names = ", ".join(f"NULL AS {name}" for name in (*update.keys, *update.fields))
        return f"""UPDATE (SELECT {names} FROM DUAL WHERE FALSE UNION ALL {{selects}}) n
            STRAIGHT_JOIN {{{update.table}}} held FORCE INDEX (PRIMARY)
            ON {" AND ".join(f"held.{key} = n.{key}" for key in update.keys)}
            SET {", ".join(f"held.{name} = n.{name}" for name in update.fields)}"""

    def lookup(self, rows: Rows) -> str:
        """Return a query for pairs."""
        index = "known" if rows.column == "id" else "PRIMARY"
        return f"""SELECT {rows.result} FROM {{{rows.table}}} held FORCE INDEX ({index})
            WHERE (held.session_key, held.{rows.column}) IN ({{rows}})"""

    def delete(self, rows: Rows) -> str:
        """Return a DELETE by pairs, not IN (…), for one pair of which MariaDB scans the table."""
        return f"""DELETE FROM {{{rows.table}}}
            WHERE [each session_key = {{0}} AND `{rows.column}` = {{1}} between OR]"""

    def listing(self, statement: S, listing: Listing) -> str:
        """Return the highest entries of each list below a place."""
        table, index = _LISTED[statement]
        keys = " AND ".join(f"{name} = {{{number}}}" for number, name in enumerate(listing.keys))
        at, session_id, limit = (f"{{{len(listing.keys) + number}}}" for number in range(3))
        time = listing.time
        entries = f"""[each (SELECT {time}, session_id, session_key FROM {{{table}}}
            FORCE INDEX ({index}) WHERE {keys}
            AND ({time} < {at} OR {time} = {at} AND session_id < {session_id})
            ORDER BY {time} DESC, session_id DESC LIMIT {limit}) between UNION ALL]"""
        if statement is S.FIND_SHARED:
            return entries
        return f"""SELECT e.{time}, {header_of("s")} FROM ({entries}) e
            STRAIGHT_JOIN {{sessions}} s ON s.session_key = e.session_key"""
