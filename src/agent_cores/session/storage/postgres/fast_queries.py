"""The statements of the fast paths: plain appends, and new sessions, each in one statement.

``{schema}`` and ``{prefix}`` are filled in by ``Names.fill``. Rows come as JSON, which costs the
driver a third of what arrays do.
"""
# ruff: noqa: S608 - what is put into these texts are names of columns, written in this package

from __future__ import annotations

from agent_cores.session.codec import FORMAT, HEADER_FIELDS
from agent_cores.session.storage.postgres.columns import COLUMN_TYPES

SPARE_MILLIS = 100
"""How much later than expected a statement may come without having waited."""

# Guards and ids come as JSON, a third of the cost of arrays, bodies as bytea. It returns, for each
# session that it appended to, fields of the header as they were before the batch.
# It waits $4 (milliseconds, as text) for a lock: set before the first is taken, for this statement.
# Once all are taken it judges each session by the time that has passed since $5, what the server's
# clock showed when the statement was sent.
# It sees the lists as they were when it began. What waited for a change of tags would miss the rows
# which that put there; so an append that moves the session in its lists needs its revision as well.
_HOT_APPEND = """
WITH item AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1) AS item(
        item bigint, messages bigint, namespace text, session_id text, incarnation bigint,
        access_revision bigint, revision bigint, turn text, expected_revision bigint,
        expected_last_seq bigint, at bigint, valid_until bigint, expires_at bigint,
        listed_at bigint)
), message AS (
    SELECT * FROM ROWS FROM (
        json_to_recordset($2) AS (item bigint, nth bigint, id text, created_at bigint),
        unnest($3::bytea[])
    ) AS message(item, nth, id, created_at, body)
), locked AS MATERIALIZED (
    SELECT s.session_key, s.namespace, s.session_id, s.format, s.incarnation, s.access_revision,
           s.hold, s.turn_token, s.last_seq, s.message_count, s.revision, s.last_active_at,
           s.listed_at, s.expires_at, s.due_at
    FROM {schema}."{prefix}sessions" s
    WHERE (SELECT set_config('lock_timeout', $4, true)) IS NOT NULL
      AND s.session_key = ANY (ARRAY(
          SELECT found.session_key FROM item CROSS JOIN LATERAL (
              SELECT session_key FROM {schema}."{prefix}sessions" named
              WHERE named.namespace = item.namespace AND named.session_id = item.session_id OFFSET 0
          ) found))
    ORDER BY s.session_key
    FOR UPDATE OF s
), wait AS MATERIALIZED (
    SELECT greatest(0, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $5 - {spare})
           AS millis
    FROM (SELECT count(*) AS sessions FROM locked) AS held WHERE sessions > 0
), standing AS MATERIALIZED (
    SELECT item.item, item.messages, item.at, item.expires_at AS new_end,
           item.listed_at AS new_listed_at, s.session_key, s.last_seq, s.message_count, s.revision,
           s.last_active_at, s.listed_at, s.expires_at, s.due_at
    FROM wait, item JOIN locked s USING (namespace, session_id)
    WHERE s.format = {format} AND s.incarnation = item.incarnation
      AND s.access_revision = item.access_revision
      AND s.hold IS NULL
      AND (s.expires_at IS NULL OR item.at + wait.millis < s.expires_at)
      AND (item.valid_until IS NULL OR item.at + wait.millis < item.valid_until)
      AND (item.listed_at IS NULL OR item.revision = s.revision)
      AND (item.turn IS NULL OR item.turn = s.turn_token)
      AND (item.expected_revision IS NULL OR item.expected_revision = s.revision)
      AND (item.expected_last_seq IS NULL OR item.expected_last_seq = s.last_seq)
){known}, added AS (
    INSERT INTO {schema}."{prefix}messages" (session_key, seq, id, created_at, body)
    SELECT session_key, last_seq + nth, id, created_at, body FROM message JOIN {chosen} USING (item)
), updated AS (
    UPDATE {schema}."{prefix}sessions" s
    SET last_seq = s.last_seq + new.messages,
        message_count = s.message_count + new.messages,
        last_active_at = greatest(s.last_active_at, new.at),
        listed_at = greatest(s.listed_at, new_listed_at),
        expires_at = CASE WHEN s.expires_at IS NOT NULL AND new_end IS NOT NULL
                          THEN greatest(s.expires_at, new_end) END,
        due_at = CASE WHEN s.expires_at IS NULL OR new_end IS NULL THEN s.due_at
                      ELSE least(s.due_at, greatest(s.expires_at, new_end)) END
    FROM {chosen} new WHERE s.session_key = new.session_key
), moved AS (
    UPDATE {schema}."{prefix}owned" o SET listed_at = greatest(o.listed_at, new_listed_at)
    FROM {chosen} new WHERE new_listed_at IS NOT NULL AND o.session_key = new.session_key
)
SELECT item, last_seq, message_count, revision, last_active_at, listed_at, expires_at, due_at
FROM {chosen}
""".replace("{format}", str(FORMAT)).replace("{spare}", str(SPARE_MILLIS))

# Leaves out the sessions where a message id of the batch is stored already.
_KNOWN = """, known AS MATERIALIZED (
    SELECT message.item
    FROM message JOIN standing USING (item) CROSS JOIN LATERAL (
        SELECT FROM {schema}."{prefix}messages" m
        WHERE m.session_key = standing.session_key AND m.id = message.id OFFSET 0
    ) stored
), unknown AS MATERIALIZED (
    SELECT * FROM standing WHERE item NOT IN (SELECT item FROM known)
)"""


def _hot_append(*, look: bool, skip_locked: bool) -> str:
    text = _HOT_APPEND.replace("{known}", _KNOWN if look else "")
    text = text.replace("{chosen}", "unknown" if look else "standing")
    return text.replace("FOR UPDATE OF s", "FOR UPDATE OF s SKIP LOCKED") if skip_locked else text


HOT_APPENDS: dict[tuple[bool, bool], str] = {
    (look, skip_locked): _hot_append(look=look, skip_locked=skip_locked)
    for look in (False, True)
    for skip_locked in (False, True)
}
"""The hot append, by whether it looks for ids that are stored already, instead of failing at one,
and by whether it leaves out the sessions that another transaction holds."""

_GIVEN = ", ".join(
    f"{name} {'text' if kind == 'bytea' else kind}" for name, kind in COLUMN_TYPES.items()
)
_VALUES = ", ".join(
    f"decode({name}, 'base64')" if kind == "bytea" else name for name, kind in COLUMN_TYPES.items()
)

# Headers ($1), marks of tags ($2), grants ($3) and context entries ($4) come as JSON, with bytes as
# base64. It waits $5 (milliseconds, as text) for a name that another transaction is inserting. It
# returns the names that it inserted, and writes nothing for the others.
CREATE_SESSIONS = f"""
WITH created AS (
    INSERT INTO {{schema}}."{{prefix}}sessions" ({", ".join(HEADER_FIELDS)})
    SELECT {_VALUES} FROM json_to_recordset($1) AS given({_GIVEN})
    WHERE (SELECT set_config('lock_timeout', $5, true)) IS NOT NULL
    ON CONFLICT (namespace, session_id) DO NOTHING
    RETURNING session_key, namespace, session_id, owner_id, archived,
              coalesce(listed_at, last_active_at) AS listed_at
), marked AS (
    INSERT INTO {{schema}}."{{prefix}}owned"
        (session_key, mark, owner_id, namespace, archived, listed_at, session_id)
    SELECT session_key, '', owner_id, namespace, archived, listed_at, session_id FROM created
    UNION ALL
    SELECT session_key, mark, owner_id, namespace, archived, listed_at, session_id FROM created
    JOIN json_to_recordset($2) AS tag(namespace text, session_id text, mark text)
    USING (namespace, session_id)
), shared AS (
    INSERT INTO {{schema}}."{{prefix}}shared"
        (session_key, subject, namespace, granted_at, session_id)
    SELECT session_key, subject, namespace, granted_at, session_id FROM created
    JOIN json_to_recordset($3)
        AS granted(namespace text, session_id text, subject text, granted_at bigint)
    USING (namespace, session_id)
), noted AS (
    INSERT INTO {{schema}}."{{prefix}}context" (session_key, key, value)
    SELECT session_key, key, decode(value, 'base64') FROM created
    JOIN json_to_recordset($4)
        AS entry(namespace text, session_id text, key text, value text)
    USING (namespace, session_id)
), counted AS (
    INSERT INTO {{schema}}."{{prefix}}counters" AS held (namespace, shard, sessions)
    SELECT namespace, pg_backend_pid() % 16, count(*) FROM created
    GROUP BY namespace ORDER BY namespace
    ON CONFLICT (namespace, shard) DO UPDATE SET sessions = held.sessions + excluded.sessions
)
SELECT namespace, session_id FROM created
"""
