"""The SQL of the SQLite store, one :class:`Statements` for each prefix of table names."""

from __future__ import annotations

from datetime import timedelta

from agent_cores.session.codec import FORMAT, HEADER_FIELDS
from agent_cores.session.models.expiry import LISTING_LAG

# A hot append: the guards in WHERE are those of `hot_append`, the effects those of `apply_change`.
# No row changed means "look". max() of a number and NULL is NULL: an end that is never.
_HOT_APPEND = """
UPDATE "{prefix}sessions" AS kept SET
    last_seq = last_seq + ?1,
    message_count = message_count + ?1,
    last_active_at = max(last_active_at, ?2),
    expires_at = max(expires_at, ?3){listed}
WHERE namespace = ?4 AND session_id = ?5 AND incarnation = ?6 AND access_revision IS ?7
    AND hold IS NULL AND archived = 0 AND (expires_at IS NULL OR expires_at > ?2)
    AND format = {format}
    AND (?8 IS NULL OR turn_token = ?8) AND (?9 IS NULL OR last_seq = ?9)
    AND NOT EXISTS ({known})
RETURNING session_key, last_seq, message_count, last_active_at, expires_at, listed_at, revision
"""
_LISTED = """,
    listed_at = iif(
        max(last_active_at, ?2) - listed_at >= {lag}, max(last_active_at, ?2), listed_at
    )"""
_KNOWN_ONE = """
    SELECT 1 FROM "{prefix}messages" AS known
    WHERE known.session_key = kept.session_key AND known.id = ?10
"""
_KNOWN_MANY = """
    SELECT 1 FROM json_each(?10) AS given CROSS JOIN "{prefix}messages" AS known
    WHERE known.session_key = kept.session_key AND known.id = given.value
"""

# A run of plain appends: one statement whose rows are messages, the first of each session with what
# the session was and becomes. A row without a session fills the statement up.
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
"""How many rows the statements of a run take."""

_WALK = """
SELECT {columns} FROM "{prefix}sessions"
WHERE namespace = ?1 AND owner_id = ?2 AND archived = ?3
    AND (listed_at, session_id) < (?4, ?5)
ORDER BY listed_at DESC, session_id DESC
"""
_WALK_TAG = """
SELECT {columns} FROM "{prefix}tags" AS entry
    CROSS JOIN "{prefix}sessions" AS kept USING (session_key)
WHERE entry.namespace = ?1 AND entry.owner_id = ?2 AND entry.archived = ?3 AND entry.tag = ?6
    AND (entry.listed_at, entry.session_id) < (?4, ?5)
ORDER BY entry.listed_at DESC, entry.session_id DESC
"""
_WALK_SHARED = """
SELECT granted_at, session_id, session_key FROM "{prefix}shares"
WHERE namespace = ?1 AND subject = ?2 AND (granted_at, session_id) < (?3, ?4)
ORDER BY granted_at DESC, session_id DESC
"""
_WALK_ALL = """
SELECT {columns} FROM "{prefix}sessions"
WHERE (listed_at, session_id) < (?1, ?2)
    AND (?3 IS NULL OR namespace = ?3) AND (?4 IS NULL OR owner_id = ?4)
ORDER BY listed_at DESC, session_id DESC
"""


class Statements:
    """Every statement, for tables whose names begin with a prefix."""

    def __init__(self, prefix: str) -> None:
        lag = str(LISTING_LAG // timedelta(milliseconds=1))

        def sql(text: str, **parts: str) -> str:
            own = {"lag": lag, "prefix": prefix, "format": str(FORMAT)}
            for name, part in {**parts, **own}.items():
                text = text.replace(f"{{{name}}}", part)
            return text

        def columns(table: str) -> str:
            return ", ".join(f"{table}.{name}" for name in ("session_key", *HEADER_FIELDS))

        plain = ", ".join(HEADER_FIELDS)
        keyed = f"session_key, {plain}"
        marks = ", ".join("?" * len(HEADER_FIELDS))
        self._set = sql('UPDATE "{prefix}sessions" SET {fields} WHERE session_key = ?')

        self.hot_append = {
            (many, listed): sql(
                _HOT_APPEND,
                known=_KNOWN_MANY if many else _KNOWN_ONE,
                listed=_LISTED if listed else "",
            )
            for many in (False, True)
            for listed in (False, True)
        }
        self.add_message = sql(
            'INSERT INTO "{prefix}messages" (session_key, seq, id, created_at, body)'
            " VALUES (?, ?, ?, ?, ?)"
        )
        self.prepare_runs = sql(_RUN)
        row = f"({', '.join('?' * RUN_COLUMNS)})"
        self.run = {
            count: sql('INSERT INTO "{prefix}run" VALUES {rows}', rows=", ".join([row] * count))
            for count in RUN_ROWS
        }
        self.remove_message = sql(
            'DELETE FROM "{prefix}messages" WHERE session_key = ? AND seq = ?'
        )
        self.known_message = sql(
            'SELECT seq, id, created_at, body FROM "{prefix}messages"'
            " WHERE session_key = ? AND id = ?"
        )
        self.removable = sql(
            'SELECT seq, id FROM "{prefix}messages"'
            " WHERE session_key = ? AND seq BETWEEN ? AND ? ORDER BY seq DESC LIMIT ?"
        )
        self.messages_after = sql(
            'SELECT seq, id, created_at, body FROM "{prefix}messages"'
            " WHERE session_key = ? AND seq > ? ORDER BY seq"
        )
        self.messages_before = sql(
            'SELECT seq, id, created_at, body FROM "{prefix}messages"'
            " WHERE session_key = ? AND seq < ? ORDER BY seq DESC"
        )

        self.header = sql(
            'SELECT {keyed} FROM "{prefix}sessions" WHERE namespace = ? AND session_id = ?',
            keyed=keyed,
        )
        self.held = sql('SELECT {keyed} FROM "{prefix}sessions" WHERE session_key = ?', keyed=keyed)
        self.add_session = sql(
            'INSERT INTO "{prefix}sessions" ({plain}) VALUES ({marks}) RETURNING session_key',
            plain=plain,
            marks=marks,
        )
        self.remove_session = sql('DELETE FROM "{prefix}sessions" WHERE session_key = ?')

        self.context = sql('SELECT key, value FROM "{prefix}context" WHERE session_key = ?')
        self.context_entry = sql(
            'SELECT key, value FROM "{prefix}context" WHERE session_key = ? AND key = ?'
        )
        self.set_context = sql(
            'INSERT INTO "{prefix}context" (session_key, key, value) VALUES (?, ?, ?)'
            " ON CONFLICT (session_key, key) DO UPDATE SET value = excluded.value"
        )
        self.drop_context = sql('DELETE FROM "{prefix}context" WHERE session_key = ? AND key = ?')

        self.add_tag = sql(
            'INSERT INTO "{prefix}tags"'
            " (session_key, tag, namespace, owner_id, archived, listed_at, session_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        self.remove_tag = sql('DELETE FROM "{prefix}tags" WHERE session_key = ? AND tag = ?')
        self.add_share = sql(
            'INSERT INTO "{prefix}shares"'
            " (session_key, subject, namespace, granted_at, session_id) VALUES (?, ?, ?, ?, ?)"
        )
        self.remove_share = sql(
            'DELETE FROM "{prefix}shares" WHERE session_key = ? AND subject = ?'
        )

        self.walk_owned = sql(_WALK, columns=keyed)
        self.walk_tagged = sql(_WALK_TAG, columns=columns("kept"))
        self.walk_shared = sql(_WALK_SHARED)
        self.walk_all = sql(_WALK_ALL, columns=keyed)

        self.due = sql(
            'SELECT {keyed} FROM "{prefix}sessions" WHERE due_at <= ? ORDER BY due_at LIMIT ?',
            keyed=keyed,
        )
        self.put_off = sql(
            'UPDATE "{prefix}sessions" SET due_at = expires_at WHERE session_key = ?'
        )
        self.lease = sql('UPDATE "{prefix}sessions" SET due_at = ? WHERE session_key = ?')
        self.count = sql('SELECT sessions FROM "{prefix}counters" WHERE namespace = ?')
        self.count_all = sql('SELECT sum(sessions) FROM "{prefix}counters"')
        self.count_due = sql(
            'SELECT count(*) FROM "{prefix}sessions"'
            " WHERE due_at <= ?2 AND (?1 IS NULL OR namespace = ?1)"
        )

        self.touch = tuple(  # SQLite writes no page that stays as it is
            sql('UPDATE "{prefix}schema" SET version = version + {step}', step=step)
            for step in ("1", "-1")
        )
        self.next_deleted = sql(
            'SELECT session_key FROM "{prefix}deleted" ORDER BY session_key LIMIT 1'
        )
        self.purged = sql('DELETE FROM "{prefix}deleted" WHERE session_key = ?')
        self.purge = tuple(
            sql(
                'DELETE FROM "{prefix}{table}" WHERE rowid IN'
                ' (SELECT rowid FROM "{prefix}{table}" WHERE session_key = ? LIMIT ?)',
                table=table,
            )
            for table in ("messages", "context")
        )

    def update_session(self, names: tuple[str, ...]) -> str:
        """Return the statement that sets these header fields, in this order, then takes the key."""
        return self._set.replace("{fields}", ", ".join(f"{name} = ?" for name in names))
