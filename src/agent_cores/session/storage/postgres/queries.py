"""The statements that write, sweep and check, as text; ``TEXTS`` has those that read, too.

``{schema}`` and ``{prefix}`` are filled in by ``Names.fill``. Many rows travel as one array a
column and become a table with ``unnest``. Sessions are locked in the order of their keys, in a
MATERIALIZED part of the statement, before anything else touches them, and rows that sessions share
come last, in the order of their names: so no two deadlock.
"""
# ruff: noqa: S608 - what is put into these texts are names of columns, written in this package

from __future__ import annotations

from agent_cores.session.codec import HEADER_FIELDS
from agent_cores.session.storage.postgres import read_queries
from agent_cores.session.storage.postgres.columns import COLUMN_TYPES, arrays, header_of
from agent_cores.session.storage.sql.dialect import Statement


def _delete(table: str, column: str, kind: str) -> str:
    """Return the statement that removes rows by key: an array of session keys, and one of that.

    No row changes between its look-up and its removal: its session is locked.
    """
    rows = f'{{schema}}."{{prefix}}{table}"'
    return f"""
DELETE FROM {rows} WHERE ctid = ANY(ARRAY(
    SELECT held.ctid FROM unnest({arrays("bigint", kind)}) AS old(session_key, {column})
    CROSS JOIN LATERAL (
        SELECT x.ctid FROM {rows} x
        WHERE x.session_key = old.session_key AND x.{column} = old.{column} OFFSET 0
    ) held
))
"""


# OFFSET 0 has the planner look each row up by its key, however many it expects.

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

KNOWN = """
SELECT m.*
FROM unnest($1::bigint[], $2::text[]) AS named(session_key, id)
CROSS JOIN LATERAL (
    SELECT session_key, seq, id, created_at, body FROM {schema}."{prefix}messages" held
    WHERE held.session_key = named.session_key AND held.id = named.id OFFSET 0
) m
"""

CONTEXT = """
SELECT c.*
FROM unnest($1::bigint[], $2::text[]) AS named(session_key, key)
CROSS JOIN LATERAL (
    SELECT session_key, key, value FROM {schema}."{prefix}context" held
    WHERE held.session_key = named.session_key AND held.key = named.key OFFSET 0
) c
"""

REMOVABLE = """
SELECT seq, id FROM {schema}."{prefix}messages"
WHERE session_key = $1 AND seq BETWEEN $2 AND $3
ORDER BY seq DESC LIMIT $4
"""

OLDEST = """
SELECT seq, id FROM {schema}."{prefix}messages"
WHERE session_key = $1 AND seq < $2 ORDER BY seq LIMIT $3
"""


def _named(column: str, kind: str) -> str:
    """Return the query for messages by key: an array of session keys, and one of that column."""
    return f"""
SELECT m.* FROM unnest({arrays("bigint", kind)}) AS named(session_key, {column})
CROSS JOIN LATERAL (
    SELECT seq, id, octet_length(body) FROM {{schema}}."{{prefix}}messages" held
    WHERE held.session_key = named.session_key AND held.{column} = named.{column} OFFSET 0
) m
"""


BY_ID = _named("id", "text")
BY_SEQ = _named("seq", "bigint")

_HEADER_ARRAYS = arrays(*(COLUMN_TYPES[name] for name in HEADER_FIELDS))

INSERT_HEADERS = f"""
INSERT INTO {{schema}}."{{prefix}}sessions" ({", ".join(HEADER_FIELDS)})
SELECT * FROM unnest({_HEADER_ARRAYS})
ON CONFLICT (namespace, session_id) DO NOTHING
RETURNING namespace, session_id, session_key
"""


def update_headers(names: tuple[str, ...]) -> str:
    """Return the statement that sets those columns: an array of keys, then one a column."""
    rows = arrays("bigint", *(COLUMN_TYPES[name] for name in names))
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

INSERT_MESSAGES = f"""
INSERT INTO {{schema}}."{{prefix}}messages" (session_key, seq, id, created_at, body)
SELECT * FROM unnest({arrays("bigint", "bigint", "text", "bigint", "bytea")})
"""

UPDATE_MESSAGES = f"""
UPDATE {{schema}}."{{prefix}}messages" m SET body = (
    SELECT new.body
    FROM unnest({arrays("bigint", "bigint", "bytea")}) AS new(session_key, seq, body)
    WHERE new.session_key = m.session_key AND new.seq = m.seq
) WHERE m.ctid = ANY(ARRAY(
    SELECT held.ctid FROM unnest($1::bigint[], $2::bigint[]) AS named(session_key, seq)
    CROSS JOIN LATERAL (
        SELECT x.ctid FROM {{schema}}."{{prefix}}messages" x
        WHERE x.session_key = named.session_key AND x.seq = named.seq OFFSET 0
    ) held
))
"""

DELETE_MESSAGES = _delete("messages", "seq", "bigint")

SET_CONTEXT = f"""
INSERT INTO {{schema}}."{{prefix}}context" (session_key, key, value)
SELECT * FROM unnest({arrays("bigint", "text", "bytea")})
ON CONFLICT (session_key, key) DO UPDATE SET value = excluded.value
"""

DROP_CONTEXT = _delete("context", "key", "text")

REMOVE_OWNED = _delete("owned", "mark", "text")

ADD_OWNED = f"""
INSERT INTO {{schema}}."{{prefix}}owned"
    (session_key, mark, owner_id, namespace, archived, listed_at, session_id)
SELECT * FROM unnest({arrays("bigint", "text", "text", "text", "smallint", "bigint", "text")})
"""

MOVE_OWNED = """
UPDATE {schema}."{prefix}owned" o SET listed_at = new.listed_at
FROM unnest($1::bigint[], $2::bigint[]) AS new(session_key, listed_at)
WHERE o.session_key = new.session_key
"""

REMOVE_SHARED = _delete("shared", "subject", "text")

ADD_SHARED = f"""
INSERT INTO {{schema}}."{{prefix}}shared" (session_key, subject, namespace, granted_at, session_id)
SELECT * FROM unnest({arrays("bigint", "text", "text", "bigint", "text")})
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

COUNT = """
SELECT
    (SELECT coalesce(sum(sessions), 0) FROM {schema}."{prefix}counters"
     WHERE $1::text IS NULL OR namespace = $1)::bigint AS sessions,
    (SELECT count(*) FROM {schema}."{prefix}sessions"
     WHERE due_at <= $2 AND ($1::text IS NULL OR namespace = $1)) AS due
"""

NAMESPACES = 'SELECT DISTINCT namespace FROM {schema}."{prefix}counters"'

ANY_DELETED = 'SELECT session_key FROM {schema}."{prefix}deleted" LIMIT 1'

NEXT_DELETED = """
SELECT session_key FROM {schema}."{prefix}deleted"
ORDER BY session_key LIMIT $1 FOR UPDATE SKIP LOCKED
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

CHECK = "SELECT txid_current()"
"""It takes a transaction id, which only a server that can be written to gives."""

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

GET_VERSION = 'SELECT version, oldest_program FROM {schema}."{prefix}schema"'

SET_VERSION = """
WITH before AS (DELETE FROM {schema}."{prefix}schema")
INSERT INTO {schema}."{prefix}schema" VALUES ($1, $2)
"""

SCHEMA_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"

SCHEMA_KNOWN = "SELECT FROM pg_namespace WHERE nspname = $1"

CREATE_VERSIONS = """
CREATE TABLE IF NOT EXISTS {schema}."{prefix}schema" (
    version integer NOT NULL,
    oldest_program integer NOT NULL
)
"""

_ALL = {**vars(read_queries), **globals()}
TEXTS = {
    statement: _ALL[statement.name]
    for statement in Statement
    if statement is not Statement.UPDATE_HEADERS
}
"""The text of each statement; ``update_headers`` makes the remaining one."""

TAKE_ONE_ROW = frozenset(
    {
        Statement.REMOVABLE,
        Statement.OLDEST,
        Statement.HEADER,
        Statement.CONTEXT_ALL,
        Statement.MESSAGES_AFTER,
        Statement.MESSAGES_BEFORE,
        Statement.FIND_ANY,
        Statement.DUE,
        Statement.COUNT,
        Statement.NAMESPACES,
        Statement.ANY_DELETED,
        Statement.NEXT_DELETED,
        Statement.CHECK,
        Statement.STORE_TIME,
        Statement.SERVER_VERSION,
        Statement.COLUMNS,
        Statement.GET_VERSION,
        Statement.SET_VERSION,
    }
)
"""Those whose arguments are the values of one row; the others take an array a column."""
