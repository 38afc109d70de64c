"""Every statement that runs on PostgreSQL, as text. Nothing else here.

``{schema}`` and ``{prefix}`` are filled in by ``Names.fill``. Many rows travel as one array a
column and become a table with ``unnest``. Sessions are locked in the order of their keys, in a
MATERIALIZED part of the statement, before anything else touches them, and rows that sessions share
come last, in the order of their names: so no two deadlock.
"""
# ruff: noqa: S608 - what is put into these texts are names of columns, written in this package

from __future__ import annotations

from agent_cores.session.codec import FORMAT, HEADER_FIELDS
from agent_cores.session.storage.sql.dialect import Statement

_TEXT = ("namespace", "session_id", "owner_id", "renew_on", "hold", "request_digest", "turn_token")
_BYTES = ("title", "tags", "attributes", "grants")
_FLAGS = ("format", "archived", "public")
_SECONDS = ("ttl_seconds", "max_lifetime_seconds")
COLUMN_TYPES = {
    **dict.fromkeys(HEADER_FIELDS, "bigint"),
    **dict.fromkeys(_TEXT, "text"),
    **dict.fromkeys(_BYTES, "bytea"),
    **dict.fromkeys(_FLAGS, "smallint"),
    **dict.fromkeys(_SECONDS, "double precision"),
}
"""The type of each header column; those not named otherwise are integers."""


def _header(alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in ("session_key", *HEADER_FIELDS))


def _arrays(*types: str) -> str:
    """Return ``$1::type[], $2::…`` for ``unnest``."""
    return ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(types, 1))


def _delete(table: str, column: str, kind: str) -> str:
    """Return the statement that removes rows by key: an array of session keys, and one of that.

    No row changes between its look-up and its removal: its session is locked.
    """
    rows = f'{{schema}}."{{prefix}}{table}"'
    return f"""
DELETE FROM {rows} WHERE ctid = ANY(ARRAY(
    SELECT held.ctid FROM unnest({_arrays("bigint", kind)}) AS old(session_key, {column})
    CROSS JOIN LATERAL (
        SELECT x.ctid FROM {rows} x
        WHERE x.session_key = old.session_key AND x.{column} = old.{column} OFFSET 0
    ) held
))
"""


# OFFSET 0 has the planner look each row up by its key, however many it expects.

# ── the generic batch: lock, reach, write ────────────────────────────────────────────────────────

LOCK = f"""
SELECT {_header("s")}
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

_HEADER_ARRAYS = _arrays(*(COLUMN_TYPES[name] for name in HEADER_FIELDS))

INSERT_HEADERS = f"""
INSERT INTO {{schema}}."{{prefix}}sessions" ({", ".join(HEADER_FIELDS)})
SELECT * FROM unnest({_HEADER_ARRAYS})
ON CONFLICT (namespace, session_id) DO NOTHING
RETURNING namespace, session_id, session_key
"""


def update_headers(names: tuple[str, ...]) -> str:
    """Return the statement that sets those columns: an array of keys, then one a column."""
    arrays = _arrays("bigint", *(COLUMN_TYPES[name] for name in names))
    return f"""
UPDATE {{schema}}."{{prefix}}sessions" s
SET {", ".join(f"{name} = new.{name}" for name in names)}
FROM unnest({arrays}) AS new(session_key, {", ".join(names)})
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
SELECT * FROM unnest({_arrays("bigint", "bigint", "text", "bigint", "bytea")})
"""

UPDATE_MESSAGES = f"""
UPDATE {{schema}}."{{prefix}}messages" m SET body = (
    SELECT new.body
    FROM unnest({_arrays("bigint", "bigint", "bytea")}) AS new(session_key, seq, body)
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
SELECT * FROM unnest({_arrays("bigint", "text", "bytea")})
ON CONFLICT (session_key, key) DO UPDATE SET value = excluded.value
"""

DROP_CONTEXT = _delete("context", "key", "text")

REMOVE_OWNED = _delete("owned", "mark", "text")

ADD_OWNED = f"""
INSERT INTO {{schema}}."{{prefix}}owned"
    (session_key, mark, owner_id, namespace, archived, listed_at, session_id)
SELECT * FROM unnest({_arrays("bigint", "text", "text", "text", "smallint", "bigint", "text")})
"""

MOVE_OWNED = """
UPDATE {schema}."{prefix}owned" o SET listed_at = new.listed_at
FROM unnest($1::bigint[], $2::bigint[]) AS new(session_key, listed_at)
WHERE o.session_key = new.session_key
"""

REMOVE_SHARED = _delete("shared", "subject", "text")

ADD_SHARED = f"""
INSERT INTO {{schema}}."{{prefix}}shared" (session_key, subject, namespace, granted_at, session_id)
SELECT * FROM unnest({_arrays("bigint", "text", "text", "bigint", "text")})
"""

COUNT_SESSIONS = """
INSERT INTO {schema}."{prefix}counters" AS held (namespace, shard, sessions)
SELECT namespace, pg_backend_pid() % 16, sessions
FROM unnest($1::text[], $2::bigint[]) AS new(namespace, sessions)
ORDER BY namespace
ON CONFLICT (namespace, shard) DO UPDATE SET sessions = held.sessions + excluded.sessions
"""

# ── the hot append ───────────────────────────────────────────────────────────────────────────────

SPARE_MILLIS = 100
"""How much later than expected a statement may come without having waited."""

# Guards and ids come as JSON, a third of the cost of arrays, bodies as bytea. It answers, for each
# append that it carried out, the first seq, and fields of the header as they were before the batch.
# It waits $4 (milliseconds, as text) for a lock: set before the first is taken, for this statement.
# Once all are taken it judges each append by the time that has passed since $5, what the server's
# clock showed when the statement was sent.
# It sees the lists as they were when it began. What waited for a change of tags would miss the rows
# which that put there; so an append that moves the session in its lists needs its revision as well.
HOT_APPEND = """
WITH item AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1) AS item(
        item bigint, namespace text, session_id text, incarnation bigint, access_revision bigint,
        revision bigint, turn text, expected_last_seq bigint, at bigint, valid_until bigint,
        expires_at bigint, listed_at bigint)
), message AS MATERIALIZED (
    SELECT * FROM ROWS FROM (
        json_to_recordset($2) AS (item bigint, leads boolean, id text, created_at bigint),
        unnest($3::bytea[])
    ) WITH ORDINALITY AS message(item, leads, id, created_at, body, place)
), locked AS MATERIALIZED (
    SELECT s.session_key, s.namespace, s.session_id, s.format, s.incarnation, s.access_revision,
           s.hold, s.turn_token, s.last_seq, s.message_count, s.revision, s.last_active_at,
           s.listed_at, s.expires_at, s.due_at
    FROM {schema}."{prefix}sessions" s
    WHERE (SELECT set_config('lock_timeout', $4, true)) IS NOT NULL
      AND (s.namespace, s.session_id) IN (SELECT namespace, session_id FROM item)
    ORDER BY s.session_key
    FOR UPDATE OF s
), wait AS MATERIALIZED (
    SELECT greatest(0, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $5 - {spare})
           AS millis
    FROM (SELECT count(*) AS sessions FROM locked) AS held WHERE sessions > 0
), standing AS MATERIALIZED (
    SELECT item.item, item.at, item.expires_at AS new_end, item.listed_at AS new_listed_at,
           s.session_key, s.last_seq, s.message_count, s.revision, s.last_active_at, s.listed_at,
           s.expires_at, s.due_at
    FROM wait, item JOIN locked s USING (namespace, session_id)
    WHERE s.format = {format} AND s.incarnation = item.incarnation
      AND s.access_revision = item.access_revision
      AND s.hold IS NULL
      AND (s.expires_at IS NULL OR item.at + wait.millis < s.expires_at)
      AND (item.valid_until IS NULL OR item.at + wait.millis < item.valid_until)
      AND (item.listed_at IS NULL OR item.revision = s.revision)
      AND (item.turn IS NULL OR item.turn = s.turn_token)
      AND (item.expected_last_seq IS NULL OR item.expected_last_seq = s.last_seq)
), known AS MATERIALIZED (
    SELECT message.item
    FROM message JOIN standing USING (item)
    JOIN {schema}."{prefix}messages" m
      ON m.session_key = standing.session_key AND m.id = message.id
), numbered AS MATERIALIZED (
    SELECT message.leads, message.id, message.created_at, message.body, s.*,
           s.last_seq + row_number() OVER (PARTITION BY s.session_key ORDER BY place) AS seq
    FROM message JOIN standing s USING (item)
    WHERE message.item NOT IN (SELECT item FROM known)
), added AS (
    INSERT INTO {schema}."{prefix}messages" (session_key, seq, id, created_at, body)
    SELECT session_key, seq, id, created_at, body FROM numbered
), total AS MATERIALIZED (
    SELECT session_key, max(seq) AS last_seq, count(*) AS messages, max(at) AS at,
           CASE WHEN bool_and(expires_at IS NOT NULL AND new_end IS NOT NULL)
                THEN greatest(max(expires_at), max(new_end)) END AS expires_at,
           max(new_listed_at) AS listed_at
    FROM numbered GROUP BY session_key
), updated AS (
    UPDATE {schema}."{prefix}sessions" s
    SET last_seq = total.last_seq,
        message_count = s.message_count + total.messages,
        last_active_at = greatest(s.last_active_at, total.at),
        listed_at = greatest(s.listed_at, total.listed_at),
        expires_at = total.expires_at,
        due_at = CASE WHEN total.expires_at IS NULL THEN s.due_at
                      ELSE least(s.due_at, total.expires_at) END
    FROM total WHERE s.session_key = total.session_key
), moved AS (
    UPDATE {schema}."{prefix}owned" o SET listed_at = greatest(o.listed_at, total.listed_at)
    FROM total WHERE total.listed_at IS NOT NULL AND o.session_key = total.session_key
)
SELECT item, seq, last_seq, message_count, revision, last_active_at, listed_at, expires_at, due_at
FROM numbered WHERE leads
""".replace("{format}", str(FORMAT)).replace("{spare}", str(SPARE_MILLIS))

HOT_APPEND_FREE = HOT_APPEND.replace("FOR UPDATE OF s", "FOR UPDATE OF s SKIP LOCKED")
"""Like HOT_APPEND, without the sessions that another transaction holds."""

# ── reading ──────────────────────────────────────────────────────────────────────────────────────

HEADER = f"""
SELECT {_header("s")} FROM {{schema}}."{{prefix}}sessions" s
WHERE s.namespace = $1 AND s.session_id = $2
"""

CONTEXT_ALL = 'SELECT key, value FROM {schema}."{prefix}context" WHERE session_key = $1'


def _messages(key: str, *, forward: bool) -> str:
    """Return the query for messages past bound $2, at most $3, ended by the bytes in $4.

    It reads one message more than the bytes allow, and two at least, to tell whether more follow.
    """
    beyond, direction = (">", "ASC") if forward else ("<", "DESC")
    return f"""
SELECT seq, id, created_at, body
FROM (
    SELECT nearest.*, row_number() OVER (ORDER BY seq {direction}) AS number,
           sum(octet_length(body)) OVER (ORDER BY seq {direction} ROWS UNBOUNDED PRECEDING)
               - octet_length(body) AS bytes_before
    FROM (
        SELECT m.seq, m.id, m.created_at, m.body
        FROM {{schema}}."{{prefix}}messages" m
        WHERE m.session_key = {key} AND m.seq {beyond} $2
        ORDER BY m.seq {direction} LIMIT $3
    ) nearest
) page
WHERE bytes_before <= $4 OR number <= 2
"""


MESSAGES_AFTER = _messages("$1", forward=True) + "ORDER BY seq"
MESSAGES_BEFORE = _messages("$1", forward=False) + "ORDER BY seq DESC"

_CONTEXT_OF = """
LEFT JOIN LATERAL (
    SELECT array_agg(c.key) AS context_keys, array_agg(c.value) AS context_values
    FROM {schema}."{prefix}context" c WHERE c.session_key = s.session_key
) context ON true
"""


def read_session(*, context: bool, forward: bool | None) -> str:
    """Return the statement that reads one session at once; ``forward=None`` reads no messages.

    $1 is the namespace; $2, $3 and $4 are as for messages; the session id comes last.
    """
    columns, parts, name = [_header("s")], "", "$2"
    if forward is not None:
        columns.append("seqs, ids, times, bodies")
        parts += f"""
LEFT JOIN LATERAL (
    SELECT array_agg(seq) AS seqs, array_agg(id) AS ids,
           array_agg(created_at) AS times, array_agg(body) AS bodies
    FROM ({_messages("s.session_key", forward=forward)}) page
) messages ON true
"""
        name = "$5"
    if context:
        columns.append("context_keys, context_values")
        parts += _CONTEXT_OF
    return f"""
SELECT {", ".join(columns)} FROM {{schema}}."{{prefix}}sessions" s {parts}
WHERE s.namespace = $1 AND s.session_id = {name}
"""


_OF_PLACE = f"""
CROSS JOIN LATERAL (
    SELECT {_header("held")} FROM {{schema}}."{{prefix}}sessions" held
    WHERE held.session_key = place.session_key OFFSET 0
) s
"""

FIND_OWNED = f"""
SELECT place.listed_at, s.*
FROM (
    SELECT o.session_key, o.listed_at, o.session_id
    FROM unnest({_arrays("text", "text", "smallint", "text", "bigint", "text", "bigint")})
        AS list(owner_id, namespace, archived, mark, millis, id, most)
    CROSS JOIN LATERAL (
        SELECT session_key, listed_at, session_id FROM {{schema}}."{{prefix}}owned" entry
        WHERE entry.owner_id = list.owner_id AND entry.namespace = list.namespace
          AND entry.archived = list.archived AND entry.mark = list.mark
          AND (entry.listed_at, entry.session_id) < (list.millis, list.id)
        ORDER BY listed_at DESC, session_id DESC LIMIT ($7::bigint[])[1]
    ) o
    ORDER BY o.listed_at DESC, o.session_id DESC LIMIT ($7::bigint[])[1]
) place
{_OF_PLACE}
"""


def _created(table: str, mark: str, types: tuple[str, ...]) -> str:
    """Return the statement for lists by creation; with ``mark``, of sessions with a tag."""
    arrays = _arrays("text", "smallint", *types, "bigint", "text", "bigint")
    most = f"(${len(types) + 5}::bigint[])[1]"
    same = f"AND entry.{mark} = list.{mark}" if mark else ""
    return f"""
SELECT place.created_at, s.*
FROM (
    SELECT o.session_key, o.created_at, o.session_id
    FROM unnest({arrays})
        AS list(namespace, archived, {mark}{"," if mark else ""} millis, id, most)
    CROSS JOIN LATERAL (
        SELECT session_key, created_at, session_id FROM {{schema}}."{{prefix}}{table}" entry
        WHERE entry.namespace = list.namespace AND entry.archived = list.archived {same}
          AND (entry.created_at, entry.session_id) < (list.millis, list.id)
        ORDER BY created_at DESC, session_id DESC LIMIT {most}
    ) o
    ORDER BY o.created_at DESC, o.session_id DESC LIMIT {most}
) place
{_OF_PLACE}
"""


FIND_CREATED = _created("sessions", "", ())
FIND_CREATED_BY_TAG = _created("tagged", "mark", ("text",))

FIND_SHARED = f"""
SELECT DISTINCT x.granted_at, x.session_id, x.session_key
FROM unnest({_arrays("text", "text", "bigint", "text", "bigint")})
    AS list(namespace, subject, millis, id, most)
CROSS JOIN LATERAL (
    SELECT session_key, granted_at, session_id FROM {{schema}}."{{prefix}}shared" entry
    WHERE entry.namespace = list.namespace AND entry.subject = list.subject
      AND (entry.granted_at, entry.session_id) < (list.millis, list.id)
    ORDER BY granted_at DESC, session_id DESC LIMIT ($5::bigint[])[1]
) x
ORDER BY x.granted_at DESC, x.session_id DESC LIMIT ($5::bigint[])[1]
"""

HEADERS = f"""
SELECT {_header("s")} FROM {{schema}}."{{prefix}}sessions" s
WHERE s.session_key = ANY($1::bigint[])
"""

# For direct use of a provider, across namespaces or owners: this sorts what it finds.
FIND_ANY = f"""
SELECT o.listed_at, {_header("s")}
FROM {{schema}}."{{prefix}}owned" o
JOIN {{schema}}."{{prefix}}sessions" s USING (session_key)
WHERE o.mark = $1 AND ($2::text IS NULL OR o.owner_id = $2)
  AND ($3::text IS NULL OR o.namespace = $3) AND (o.listed_at, o.session_id) < ($4, $5)
ORDER BY o.listed_at DESC, o.session_id DESC LIMIT $6
"""

# ── sweeping, counting, purging ──────────────────────────────────────────────────────────────────

DUE = f"""
SELECT {_header("s")} FROM {{schema}}."{{prefix}}sessions" s
WHERE s.due_at <= $1 ORDER BY s.due_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""

COUNT = """
SELECT
    (SELECT coalesce(sum(sessions), 0) FROM {schema}."{prefix}counters"
     WHERE $1::text IS NULL OR namespace = $1)::bigint AS sessions,
    (SELECT count(*) FROM {schema}."{prefix}sessions"
     WHERE due_at <= $2 AND ($1::text IS NULL OR namespace = $1)) AS due
"""

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

TEXTS = {
    statement: globals()[statement.name]
    for statement in Statement
    if statement is not Statement.UPDATE_HEADERS
}
"""The text of each statement; ``update_headers`` makes the remaining one."""

TAKE_ONE_ROW = frozenset(
    {
        Statement.REMOVABLE,
        Statement.HEADER,
        Statement.CONTEXT_ALL,
        Statement.MESSAGES_AFTER,
        Statement.MESSAGES_BEFORE,
        Statement.FIND_ANY,
        Statement.DUE,
        Statement.COUNT,
        Statement.ANY_DELETED,
        Statement.NEXT_DELETED,
        Statement.CHECK,
        Statement.STORE_TIME,
        Statement.COLUMNS,
        Statement.GET_VERSION,
        Statement.SET_VERSION,
    }
)
"""Those whose arguments are the values of one row; the others take an array a column."""
