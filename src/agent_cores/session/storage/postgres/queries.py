"""The statements that write, sweep and check, as text; ``TEXTS`` has those that read, too.

``{schema}`` and ``{prefix}`` are filled in by ``Names.fill``. Many rows travel as one array a
column and become a table with ``unnest``. Sessions are locked in the order of their keys, in a
MATERIALIZED part of the statement, before anything else touches them, and rows that sessions share
come last, in the order of their names: so no two deadlock.
"""
# ruff: noqa: S608 - what is put into these texts are names of columns, written in this package

from __future__ import annotations

from agent_cores.session.storage.postgres import read_queries
from agent_cores.session.storage.postgres.columns import arrays_of
from agent_cores.session.storage.sql import forms
from agent_cores.session.storage.sql.dialect import Statement
from agent_cores.session.storage.sql.forms import IDENTITY, VERSIONS, Rows, header_of, written


def _written(text: str) -> str:
    return written(text, table='{schema}."{prefix}*"', value="$*")


def _insert(table: str, columns: tuple[str, ...]) -> str:
    """Return the statement that inserts rows: an array a column."""
    return f"""
INSERT INTO {{schema}}."{{prefix}}{table}" ({", ".join(columns)})
SELECT * FROM unnest({arrays_of(*columns)})
"""


def _lookup(rows: Rows) -> str:
    """Return the query for rows by key: an array of session keys, and one of that column.

    OFFSET 0 has the planner look each row up by its key, however many it expects.
    """
    return f"""
SELECT found.* FROM unnest({arrays_of("session_key", rows.column)})
    AS named(session_key, {rows.column})
CROSS JOIN LATERAL (
    SELECT {rows.result} FROM {{schema}}."{{prefix}}{rows.table}" held
    WHERE held.session_key = named.session_key AND held.{rows.column} = named.{rows.column} OFFSET 0
) found
"""


def _delete(rows: Rows) -> str:
    """Return the statement that removes rows by key.

    No row changes between its look-up and its removal: its session is locked.
    """
    found = _lookup(rows._replace(result="held.ctid"))
    return f"""
DELETE FROM {{schema}}."{{prefix}}{rows.table}" WHERE ctid = ANY(ARRAY({found}))
"""


# ── the generic batch: lock, reach, write ────────────────────────────────────────────────────────

LOCK = f"""
SELECT {header_of("s")}
FROM {{schema}}."{{prefix}}sessions" s
WHERE (s.namespace, s.session_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY s.session_key
FOR UPDATE OF s
"""

LOCK_FREE = f"{LOCK} SKIP LOCKED"
"""Like LOCK, without those that another transaction holds."""

PRESENT = """
SELECT s.namespace, s.session_id FROM {schema}."{prefix}sessions" s
WHERE (s.namespace, s.session_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""


def update_headers(names: tuple[str, ...]) -> str:
    """Return the statement that sets those columns: an array of keys, then one a column."""
    rows = arrays_of("session_key", *names)
    return f"""
UPDATE {{schema}}."{{prefix}}sessions" s
SET {", ".join(f"{name} = new.{name}" for name in names)}
FROM unnest({rows}) AS new(session_key, {", ".join(names)})
WHERE s.session_key = new.session_key
"""


DELETE_HEADERS = """
WITH gone AS (
    DELETE FROM {schema}."{prefix}sessions" WHERE session_key = ANY($1::bigint[])
), unlisted AS (
    DELETE FROM {schema}."{prefix}owned" WHERE session_key = ANY($1::bigint[])
), unshared AS (
    DELETE FROM {schema}."{prefix}shared" WHERE session_key = ANY($1::bigint[])
)
INSERT INTO {schema}."{prefix}deleted" SELECT unnest($1::bigint[])
"""

UPDATE_MESSAGES = f"""
UPDATE {{schema}}."{{prefix}}messages" m SET body = (
    SELECT new.body
    FROM unnest({arrays_of("session_key", "seq", "body")}) AS new(session_key, seq, body)
    WHERE new.session_key = m.session_key AND new.seq = m.seq
) WHERE m.ctid = ANY(ARRAY({_lookup(Rows("messages", "seq", "held.ctid"))}))
"""

MOVE_OWNED = """
UPDATE {schema}."{prefix}owned" o SET listed_at = new.listed_at
FROM unnest($1::bigint[], $2::bigint[]) AS new(session_key, listed_at)
WHERE o.session_key = new.session_key
"""

COUNT_SESSIONS = """
INSERT INTO {schema}."{prefix}counters" AS held (namespace, shard, sessions)
SELECT namespace, pg_backend_pid() % 16, sessions
FROM unnest($1::text[], $2::bigint[]) AS new(namespace, sessions)
ORDER BY namespace
ON CONFLICT (namespace, shard) DO UPDATE SET sessions = held.sessions + excluded.sessions
"""

# ── sweeping, counting, purging ──────────────────────────────────────────────────────────────────

DUE = f"""
SELECT {header_of("s")} FROM {{schema}}."{{prefix}}sessions" s
WHERE s.due_at <= $1 ORDER BY s.due_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""


def _purge(table: str, column: str) -> str:
    return f"""
WITH oldest AS MATERIALIZED (
    SELECT session_key, {column} FROM {{schema}}."{{prefix}}{table}"
    WHERE session_key = ANY($1::bigint[]) ORDER BY session_key, {column}
    LIMIT ($2::bigint[])[1]
), gone AS (
    DELETE FROM {{schema}}."{{prefix}}{table}" held USING oldest
    WHERE held.session_key = oldest.session_key AND held.{column} = oldest.{column}
    RETURNING 1
)
SELECT count(*) FROM gone
"""


PURGE_MESSAGES = _purge("messages", "seq")
PURGE_CONTEXT = _purge("context", "key")
FORGET_DELETED = 'DELETE FROM {schema}."{prefix}deleted" WHERE session_key = ANY($1::bigint[])'

# ── the server and the schema ────────────────────────────────────────────────────────────────────

CHECK = f"""
INSERT INTO {{schema}}."{{prefix}}context" AS held (session_key, key, value)
VALUES ({IDENTITY}, $1) ON CONFLICT (session_key, key) DO UPDATE SET value = held.value
RETURNING value
"""
"""It writes each time, so it waits for the disk and for synchronous replicas, as an append does."""

STORE_TIME = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now"

SERVER_VERSION = "SELECT current_setting('server_version')"

COLUMNS = """
SELECT a.attname::text
FROM pg_class t
JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid
WHERE n.nspname = $1 AND t.relname = $2 AND t.relkind IN ('r', 'p')
  AND a.attnum > 0 AND NOT a.attisdropped
"""  # not to_regclass, which may answer from before the wait for the lock

SET_VERSION = """
WITH before AS (DELETE FROM {schema}."{prefix}schema")
INSERT INTO {schema}."{prefix}schema" VALUES ($1, $2)
"""

SCHEMA_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"

SCHEMA_KNOWN = "SELECT FROM pg_namespace WHERE nspname = $1"


CREATE_VERSIONS = _written(VERSIONS)

_SINGLE = (
    Statement.HEADER,
    Statement.MESSAGES_AFTER,
    Statement.MESSAGES_BEFORE,
    Statement.DUE,
    Statement.CHECK,
    Statement.STORE_TIME,
    Statement.SERVER_VERSION,
    Statement.COLUMNS,
    Statement.SET_VERSION,
)
TAKE_ONE_ROW = frozenset({*forms.TEXTS, *_SINGLE})
"""Those whose arguments are the values of one row; the others take an array a column."""

_OWN = {**vars(read_queries), **globals()}
TEXTS: dict[Statement, str] = {
    **{statement: _written(text) for statement, text in forms.TEXTS.items()},
    **{statement: _insert(*insert) for statement, insert in forms.INSERTS.items()},
    **{statement: _lookup(rows) for statement, rows in forms.LOOKUPS.items()},
    **{statement: _delete(rows) for statement, rows in forms.DELETES.items()},
    **{statement: read_queries.listing(statement) for statement in forms.LISTINGS},
    **{each: _OWN[each.name] for each in Statement if each.name in _OWN},
}
"""The text of each statement but UPDATE_HEADERS, which ``update_headers`` makes."""

TEXTS[Statement.INSERT_HEADERS] += """
ON CONFLICT (namespace, session_id) DO NOTHING
RETURNING namespace, session_id, session_key
"""
TEXTS[Statement.SET_CONTEXT] += """
ON CONFLICT (session_key, key) DO UPDATE SET value = excluded.value
"""
