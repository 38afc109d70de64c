"""Every SQLite statement as text, for tables whose names start with a prefix.

A step runs its text once per row, except look-ups of many rows. Some steps need no statement here:
triggers keep the counters, move index entries with their header and remove what belongs to a
deleted one, and only the file itself is ever locked. The table of sessions is its own index of
owners, so only tags have index entries.
"""

from __future__ import annotations

from agent_cores.session.codec import FORMAT, HEADER_FIELDS
from agent_cores.session.storage.sql.dialect import Statement
from agent_cores.session.storage.sql.forms import LOOKUPS, TABLES, naming_all

# A run of plain appends is one statement whose rows are messages. The first row of each session
# also has the session's expected and new state. Rows without a session pad the statement.
_RUN = """
CREATE TEMP VIEW "{prefix}run" AS SELECT
    0 AS session_key, 0 AS access_revision, 0 AS revision, 0 AS last_seq, 0 AS last_active_at,
    0 AS listed_at, 0 AS expires_at,
    0 AS new_seq, 0 AS new_count, 0 AS new_active, 0 AS new_end, 0 AS new_listed,
    0 AS seq, 0 AS id, 0 AS created_at, 0 AS body;
CREATE TEMP TRIGGER "{prefix}run_row" INSTEAD OF INSERT ON "{prefix}run"
WHEN NEW.session_key IS NOT NULL BEGIN
    UPDATE "{prefix}sessions" SET
        last_seq = NEW.new_seq,
        message_count = NEW.new_count,
        last_active_at = NEW.new_active,
        expires_at = NEW.new_end
    WHERE NEW.new_seq IS NOT NULL AND session_key = NEW.session_key
        AND access_revision IS NEW.access_revision AND revision = NEW.revision
        AND last_seq = NEW.last_seq AND last_active_at = NEW.last_active_at
        AND listed_at IS NEW.listed_at AND expires_at IS NEW.expires_at AND format = {format};
    SELECT RAISE(ABORT, 'not as it was') WHERE NEW.new_seq IS NOT NULL AND changes() <> 1;
    UPDATE "{prefix}sessions" SET listed_at = NEW.new_listed
    WHERE NEW.new_listed IS NOT NULL AND session_key = NEW.session_key;
    INSERT INTO "{prefix}messages" (session_key, seq, id, created_at, body)
    VALUES (NEW.session_key, NEW.seq, NEW.id, NEW.created_at, NEW.body);
END
"""
RUN_COLUMNS = 16
RUN_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""The numbers of rows for which there is a run statement."""

_HEADER = """
    SELECT {header} FROM "{prefix}sessions" AS s WHERE namespace = ? AND session_id = ?
"""
# Rows are read lazily, so nothing has to add up their bytes (?4).
_MESSAGES_BEFORE = """
    SELECT seq, id, created_at, body FROM "{prefix}messages"
    WHERE session_key = ?1 AND seq < ?2 AND ?4 IS NOT NULL ORDER BY seq DESC LIMIT ?3
"""
_TEXTS = {
    Statement.LOCK: _HEADER,
    Statement.PRESENT: """
        SELECT namespace, session_id FROM "{prefix}sessions"
        WHERE namespace = ? AND session_id = ?
    """,
    Statement.KNOWN: """
        SELECT session_key, seq, id, created_at, body FROM "{prefix}messages"
        WHERE session_key = ? AND id = ?
    """,
    Statement.CONTEXT: """
        SELECT session_key, key, value FROM "{prefix}context" WHERE session_key = ? AND key = ?
    """,
    Statement.REMOVABLE: """
        SELECT seq, id FROM "{prefix}messages"
        WHERE session_key = ? AND seq BETWEEN ? AND ? ORDER BY seq DESC LIMIT ?
    """,
    Statement.OLDEST: """
        SELECT seq, id FROM "{prefix}messages"
        WHERE session_key = ? AND seq < ? ORDER BY seq LIMIT ?
    """,
    Statement.BY_ID: """
        SELECT seq, id, length(body) FROM "{prefix}messages" WHERE session_key = ? AND id = ?
    """,
    Statement.BY_SEQ: """
        SELECT seq, id, length(body) FROM "{prefix}messages" WHERE session_key = ? AND seq = ?
    """,
    Statement.INSERT_HEADERS: """
        INSERT INTO "{prefix}sessions" ({fields}) VALUES ({marks})
        RETURNING namespace, session_id, session_key
    """,
    Statement.DELETE_HEADERS: 'DELETE FROM "{prefix}sessions" WHERE session_key = ?',
    Statement.INSERT_MESSAGES: """
        INSERT INTO "{prefix}messages" (session_key, seq, id, created_at, body)
        VALUES (?, ?, ?, ?, ?)
    """,
    Statement.UPDATE_MESSAGES: """
        UPDATE "{prefix}messages" SET body = ?3 WHERE session_key = ?1 AND seq = ?2
    """,
    Statement.DELETE_MESSAGES: 'DELETE FROM "{prefix}messages" WHERE session_key = ? AND seq = ?',
    Statement.SET_CONTEXT: """
        INSERT INTO "{prefix}context" (session_key, key, value) VALUES (?, ?, ?)
        ON CONFLICT (session_key, key) DO UPDATE SET value = excluded.value
    """,
    Statement.DROP_CONTEXT: 'DELETE FROM "{prefix}context" WHERE session_key = ? AND key = ?',
    Statement.ADD_OWNED: """
        INSERT INTO "{prefix}tags"
            (session_key, tag, owner_id, namespace, archived, listed_at, session_id)
        VALUES (?1, substr(?2, 2), ?3, ?4, ?5, ?6, ?7)
    """,
    Statement.REMOVE_OWNED: """
        DELETE FROM "{prefix}tags" WHERE session_key = ?1 AND tag = substr(?2, 2)
    """,
    Statement.ADD_SHARED: """
        INSERT INTO "{prefix}shares" (session_key, subject, namespace, granted_at, session_id)
        VALUES (?, ?, ?, ?, ?)
    """,
    Statement.REMOVE_SHARED: 'DELETE FROM "{prefix}shares" WHERE session_key = ? AND subject = ?',
    Statement.HEADER: _HEADER,
    Statement.CONTEXT_ALL: 'SELECT key, value FROM "{prefix}context" WHERE session_key = ?',
    Statement.MESSAGES_AFTER: """
        SELECT seq, id, created_at, body FROM "{prefix}messages"
        WHERE session_key = ?1 AND seq > ?2 AND ?4 IS NOT NULL ORDER BY seq LIMIT ?3
    """,
    Statement.MESSAGES_BEFORE: _MESSAGES_BEFORE,
    Statement.MESSAGES_CAPPED: _MESSAGES_BEFORE,
    # For entries without a tag (?4 is the mark); _FIND_TAGGED is for the others.
    Statement.FIND_OWNED: """
        SELECT listed_at, {header} FROM "{prefix}sessions" AS s
        WHERE owner_id = ?1 AND namespace = ?2 AND archived = ?3 AND ?4 = ''
            AND (listed_at, session_id) < (?5, ?6)
        ORDER BY listed_at DESC, session_id DESC LIMIT ?7
    """,
    Statement.FIND_CREATED: """
        SELECT created_at, {header} FROM "{prefix}sessions" AS s
        WHERE namespace = ?1 AND archived = ?2 AND (created_at, session_id) < (?3, ?4)
        ORDER BY created_at DESC, session_id DESC LIMIT ?5
    """,
    Statement.FIND_CREATED_BY_TAG: """
        SELECT entry.created_at, {header} FROM "{prefix}tags" AS entry
            CROSS JOIN "{prefix}sessions" AS s USING (session_key)
        WHERE entry.namespace = ?1 AND entry.archived = ?2 AND entry.tag = substr(?3, 2)
            AND (entry.created_at, entry.session_id) < (?4, ?5)
        ORDER BY entry.created_at DESC, entry.session_id DESC LIMIT ?6
    """,
    # Leaves filtering by tag (?1 is the mark) to the reader of the headers.
    Statement.FIND_ANY: """
        SELECT listed_at, {header} FROM "{prefix}sessions" AS s
        WHERE ?1 IS NOT NULL AND (?2 IS NULL OR owner_id = ?2) AND (?3 IS NULL OR namespace = ?3)
            AND (listed_at, session_id) < (?4, ?5)
        ORDER BY listed_at DESC, session_id DESC LIMIT ?6
    """,
    Statement.FIND_SHARED: """
        SELECT granted_at, session_id, session_key FROM "{prefix}shares"
        WHERE namespace = ? AND subject = ? AND (granted_at, session_id) < (?, ?)
        ORDER BY granted_at DESC, session_id DESC LIMIT ?
    """,
    Statement.HEADERS: 'SELECT {header} FROM "{prefix}sessions" AS s WHERE session_key = ?',
    Statement.DUE: """
        SELECT {header} FROM "{prefix}sessions" AS s WHERE due_at <= ? ORDER BY due_at LIMIT ?
    """,
    Statement.COUNT: """
        SELECT
            coalesce(iif(?1 IS NULL,
                (SELECT sum(sessions) FROM "{prefix}counters"),
                (SELECT sessions FROM "{prefix}counters" WHERE namespace = ?1)), 0),
            (SELECT count(*) FROM "{prefix}sessions"
             WHERE due_at <= ?2 AND (?1 IS NULL OR namespace = ?1))
    """,
    Statement.COUNT_ARCHIVED: """
        SELECT count(*) FROM "{prefix}counters" AS n
            CROSS JOIN "{prefix}sessions" AS s ON s.namespace = n.namespace AND s.archived = 1
    """,
    Statement.NAMESPACES: 'SELECT namespace FROM "{prefix}counters"',
    Statement.NEXT_DELETED: """
        SELECT session_key FROM "{prefix}deleted" ORDER BY session_key LIMIT ?
    """,
    Statement.FORGET_DELETED: 'DELETE FROM "{prefix}deleted" WHERE session_key = ?',
    Statement.STORE_TIME: "SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER)",
}
_FIND_TAGGED = """
    SELECT entry.listed_at, {header} FROM "{prefix}tags" AS entry
        CROSS JOIN "{prefix}sessions" AS s USING (session_key)
    WHERE entry.owner_id = ?1 AND entry.namespace = ?2 AND entry.archived = ?3
        AND entry.tag = substr(?4, 2) AND (entry.listed_at, entry.session_id) < (?5, ?6)
    ORDER BY entry.listed_at DESC, entry.session_id DESC LIMIT ?7
"""
# The rows are passed as a JSON list.
_LOOKUP = """
    SELECT {result} FROM (
        SELECT value ->> 0 AS wanted_key, value ->> 1 AS wanted_name FROM json_each(?1)
    ) CROSS JOIN "{prefix}{table}" AS held
        ON held.session_key = wanted_key AND held.{column} = wanted_name
"""
# The session keys are passed as a JSON list.
_PURGE = """
    DELETE FROM "{prefix}{table}" WHERE rowid IN (
        SELECT rowid FROM "{prefix}{table}"
        WHERE session_key IN (SELECT value FROM json_each(?1)) LIMIT ?2
    )
"""


_TABLES = {
    **{name: TABLES[name] for name in ("sessions", "messages", "context", "deleted")},
    "tags": (
        *("session_key", "tag", "namespace", "owner_id", "archived", "listed_at", "session_id"),
        "created_at",
    ),
    "shares": TABLES["shared"],
    "counters": ("namespace", "sessions"),
    "schema": TABLES["versions"],
}


class Queries:
    """Every statement, for one prefix.

    ``texts`` has those of steps, except UPDATE_HEADERS, PURGE_* and those that are not needed.
    ``whole`` fails if a table or a column is missing; ``lookups`` look up many rows at once.
    """

    def __init__(self, prefix: str) -> None:
        parts = {
            "header": ", ".join(f"s.{name}" for name in ("session_key", *HEADER_FIELDS)),
            "fields": ", ".join(HEADER_FIELDS),
            "marks": ", ".join("?" * len(HEADER_FIELDS)),
            "format": str(FORMAT),
        }

        def filled(text: str, **more: str) -> str:
            for name, part in {**parts, **more, "prefix": prefix}.items():
                text = text.replace(f"{{{name}}}", part)
            return text

        self.texts: dict[Statement, str] = {
            statement: filled(text) for statement, text in _TEXTS.items()
        }
        self.lookups: dict[Statement, str] = {
            statement: filled(_LOOKUP, **rows._asdict()) for statement, rows in LOOKUPS.items()
        }
        self.find_tagged: str = filled(_FIND_TAGGED)
        self.purge: dict[Statement, str] = {
            Statement.PURGE_MESSAGES: filled(_PURGE, table="messages"),
            Statement.PURGE_CONTEXT: filled(_PURGE, table="context"),
        }
        self.prepare_runs: str = filled(_RUN)
        row = f"({', '.join('?' * RUN_COLUMNS)})"
        self.run: dict[int, str] = {
            count: filled('INSERT INTO "{prefix}run" VALUES {rows}', rows=", ".join([row] * count))
            for count in RUN_ROWS
        }
        self.touch: tuple[str, ...] = tuple(  # SQLite skips writing a page that does not change
            filled('UPDATE "{prefix}schema" SET version = version + {step}', step=step)
            for step in ("1", "-1")
        )
        self.whole: str = filled(
            naming_all({f'"{{prefix}}{name}"': columns for name, columns in _TABLES.items()})
        )
        self._update = filled('UPDATE "{prefix}sessions" SET {values} WHERE session_key = ?1')

    def update_headers(self, fields: tuple[str, ...]) -> str:
        """Return a statement that takes a session key, then a value for each field."""
        values = ", ".join(f"{name} = ?{place}" for place, name in enumerate(fields, 2))
        return self._update.replace("{values}", values)
