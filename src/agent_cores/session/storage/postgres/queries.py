"""The statements of PostgreSQL that differ from those of other databases.

Many rows travel as one array a column and become a table with ``unnest``. Sessions are locked in
the order of their keys, before anything else touches them, and rows that sessions share come last,
in the order of their names: so no two deadlock. ``OFFSET 0`` has the planner look each row up by
its key, however many it expects.
"""
# ruff: noqa: S608 - what is put into these texts are names of columns, written in this package

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from agent_cores.session.storage.postgres import read_queries
from agent_cores.session.storage.postgres.columns import arrays_of
from agent_cores.session.storage.sql.dialect import Statement as S  # noqa: N817 - on every line
from agent_cores.session.storage.sql.forms import IDENTITY, Rows
from agent_cores.session.storage.sql.queries import Queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.storage.sql.forms import Listing, Update

SCHEMA_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
SCHEMA_KNOWN = "SELECT FROM pg_namespace WHERE nspname = $1"


def _lookup(rows: Rows) -> str:
    return f"""
SELECT found.* FROM unnest({arrays_of("session_key", rows.column)})
    AS named(session_key, {rows.column})
CROSS JOIN LATERAL (
    SELECT {rows.result} FROM {{{rows.table}}} held
    WHERE held.session_key = named.session_key AND held.{rows.column} = named.{rows.column} OFFSET 0
) found
"""


def _purge(table: str, column: str) -> str:
    return f"""
WITH oldest AS MATERIALIZED (
    SELECT session_key, {column} FROM {{{table}}}
    WHERE session_key {{in_keys}} ORDER BY session_key, {column}
    LIMIT ($2::bigint[])[1]
), gone AS (
    DELETE FROM {{{table}}} held USING oldest
    WHERE held.session_key = oldest.session_key AND held.{column} = oldest.{column}
    RETURNING 1
)
SELECT count(*) FROM gone
"""


class PostgresQueries(Queries):
    """The SQL of PostgreSQL: an array a column, or the values of one row."""

    in_names: ClassVar[str] = """s.session_key = ANY (ARRAY(
        SELECT found.session_key
        FROM unnest($1::text[], $2::text[]) AS named(namespace, session_id)
        CROSS JOIN LATERAL (
            SELECT session_key FROM {sessions} held
            WHERE held.namespace = named.namespace AND held.session_id = named.session_id OFFSET 0
        ) found))"""
    in_keys: ClassVar[str] = "= ANY($1::bigint[])"

    tables: ClassVar[dict[str, tuple[str, ...]]] = {
        "tagged": ("session_key", "mark", "namespace", "archived", "created_at", "session_id"),
    }
    own: ClassVar[Mapping[S, str]] = {
        S.INSERT_HEADERS: """{insert} ON CONFLICT (namespace, session_id) DO NOTHING
            RETURNING namespace, session_id, session_key""",
        S.SET_CONTEXT: """{insert}
            ON CONFLICT (session_key, key) DO UPDATE SET value = excluded.value""",
        # No row changes between its look-up and its update: its session is locked.
        S.UPDATE_MESSAGES: f"""
UPDATE {{messages}} m SET body = (
    SELECT new.body
    FROM unnest({arrays_of("session_key", "seq", "body")}) AS new(session_key, seq, body)
    WHERE new.session_key = m.session_key AND new.seq = m.seq
) WHERE m.ctid = ANY(ARRAY({_lookup(Rows("messages", "seq", "held.ctid"))}))
""",
        S.COUNT_SESSIONS: """
INSERT INTO {counters} AS held (namespace, shard, sessions)
SELECT namespace, pg_backend_pid() % 16, sessions
FROM unnest($1::text[], $2::bigint[]) AS new(namespace, sessions)
ORDER BY namespace
ON CONFLICT (namespace, shard) DO UPDATE SET sessions = held.sessions + excluded.sessions
""",
        S.MESSAGES_AFTER: read_queries.messages(forward=True),
        S.MESSAGES_BEFORE: read_queries.messages(forward=False),
        S.MESSAGES_CAPPED: read_queries.messages(forward=False, capped=True),
        S.PURGE_MESSAGES: _purge("messages", "seq"),
        S.PURGE_CONTEXT: _purge("context", "key"),
        # It writes each time, so it waits for the disk and for synchronous replicas, as appends do.
        S.CHECK: f"""
INSERT INTO {{context}} AS held (session_key, key, value)
VALUES ({IDENTITY}, $1) ON CONFLICT (session_key, key) DO UPDATE SET value = held.value
RETURNING value
""",
        S.STORE_TIME: "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now",
        S.SERVER_VERSION: "SELECT current_setting('server_version')",
        # Not to_regclass, which may answer from before the wait for the lock.
        S.COLUMNS: """
SELECT a.attname::text
FROM pg_class t
JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid
WHERE n.nspname = $1 AND t.relname = $2 AND t.relkind IN ('r', 'p')
  AND a.attnum > 0 AND NOT a.attisdropped
""",
    }

    def table(self, name: str) -> str:
        """Return the name in the database schema."""
        return f"{{schema}}.{super().table(name)}"

    def value(self, number: int) -> str:
        """Return the place of an argument."""
        return f"${number + 1}"

    def insert(self, table: str, columns: tuple[str, ...]) -> str:
        """Return an INSERT of arrays."""
        return f"""
INSERT INTO {{{table}}} ({", ".join(columns)})
SELECT * FROM unnest({arrays_of(*columns)})
"""

    def update(self, update: Update) -> str:
        """Return an UPDATE from arrays, by place in the table; the sessions are locked."""
        columns = *update.keys, *update.fields
        return f"""
UPDATE {{{update.table}}} held
SET {", ".join(f"{name} = new.{name}" for name in update.fields)}
FROM unnest({arrays_of(*columns)}) AS new({", ".join(columns)})
CROSS JOIN LATERAL (
    SELECT ctid AS place FROM {{{update.table}}} named
    WHERE {" AND ".join(f"named.{key} = new.{key}" for key in update.keys)} OFFSET 0
) found
WHERE held.ctid = found.place
"""

    def lookup(self, rows: Rows) -> str:
        """Return a query for an array of session keys, and one of that column."""
        return _lookup(rows)

    def delete(self, rows: Rows) -> str:
        """Return the removal of rows by their place in the table; their sessions are locked."""
        found = _lookup(rows._replace(result="held.ctid"))
        return f"DELETE FROM {{{rows.table}}} WHERE ctid = ANY(ARRAY({found}))"

    def listing(self, statement: S, listing: Listing) -> str:
        """Return the query for an array of each key, of the place, and of a limit."""
        if statement is S.FIND_CREATED_BY_TAG:  # in a table of its own, see the schema
            listing = listing._replace(table="tagged")
        return read_queries.listing(statement, listing)

    def together(self, *parts: str) -> str:
        """Return one statement: all but the last part are its common table expressions."""
        *first, last = parts
        ctes = ", ".join(f"part{number} AS ({part})" for number, part in enumerate(first))
        return f"WITH {ctes} {last}"
