"""The statements that remove or replace a range of messages; see ``sql/tail.py``.

``{schema}`` and ``{prefix}`` are filled in by ``Names.fill``.
"""
# ruff: noqa: S608 - what is put into these texts are names of columns, written in this package

from __future__ import annotations

from agent_cores.session.storage.postgres.columns import COLUMN_TYPES
from agent_cores.session.storage.postgres.fast_queries import SPARE_MILLIS
from agent_cores.session.storage.sql.forms import header_of
from agent_cores.session.storage.sql.tail import GUARDS, SET

# $1 and $2 name the session, $3 and $4 are the range, $5 is the most to remove, $6 are the ids of
# new messages.
READ_TAIL = f"""
SELECT {header_of("s")}, removable.seqs, removable.ids,
       known.seqs AS known_seqs, known.ids AS known_ids, known.times AS known_times,
       known.bodies AS known_bodies
FROM {{schema}}."{{prefix}}sessions" s
LEFT JOIN LATERAL (
    SELECT array_agg(seq) AS seqs, array_agg(id) AS ids
    FROM (
        SELECT m.seq, m.id FROM {{schema}}."{{prefix}}messages" m
        WHERE m.session_key = s.session_key AND m.seq BETWEEN $3 AND $4
        ORDER BY m.seq DESC LIMIT $5
    ) reached
) removable ON true
LEFT JOIN LATERAL (
    SELECT array_agg(m.seq) AS seqs, array_agg(m.id) AS ids, array_agg(m.created_at) AS times,
           array_agg(m.body) AS bodies
    FROM unnest($6::text[]) AS named(id)
    CROSS JOIN LATERAL (
        SELECT seq, id, created_at, body FROM {{schema}}."{{prefix}}messages" held
        WHERE held.session_key = s.session_key AND held.id = named.id OFFSET 0
    ) m
) known ON true
WHERE s.namespace = $1 AND s.session_id = $2
"""

_FIRST_GUARD = 13
_GUARDED = " AND ".join(
    f"s.{name} IS NOT DISTINCT FROM ${place}::{COLUMN_TYPES[name]}"
    for place, name in enumerate(GUARDS, _FIRST_GUARD)
)
_ASSIGNED = ", ".join(
    f"{name} = ${place}::{COLUMN_TYPES[name]}"
    for place, name in enumerate(SET, _FIRST_GUARD + len(GUARDS))
)

# $1 and $2 name the session; $3 and $4 are the range to remove; $5 to $8 are the messages to add,
# an array a column; $9 is when the change was decided, $10 what the server's clock showed then, $11
# the end of the caller's right; $12 is the session's new time in lists. The guards and the new
# values of columns follow. The rows that it removes were all there when the statement began, since
# they were read before and the guards hold. The new rows may have the ids of those that it removes,
# so these are removed first.
WRITE_TAIL = f"""
WITH held AS MATERIALIZED (
    SELECT s.session_key, clock.at
    FROM {{schema}}."{{prefix}}sessions" s, (
        SELECT $9::bigint + greatest(0, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
                                        - $10::bigint - {SPARE_MILLIS}) AS at
    ) clock
    WHERE s.namespace = $1 AND s.session_id = $2 AND {_GUARDED}
      AND (s.expires_at IS NULL OR clock.at < s.expires_at)
      AND ($11::bigint IS NULL OR clock.at < $11)
    FOR UPDATE OF s SKIP LOCKED
), gone AS (
    DELETE FROM {{schema}}."{{prefix}}messages"
    WHERE session_key = (SELECT session_key FROM held) AND seq BETWEEN $3 AND $4
    RETURNING 1
), added AS (
    INSERT INTO {{schema}}."{{prefix}}messages" (session_key, seq, id, created_at, body)
    SELECT held.session_key, new.seq, new.id, new.created_at, new.body
    FROM held, (SELECT count(*) AS messages FROM gone) removed,
         unnest($5::bigint[], $6::text[], $7::bigint[], $8::bytea[])
             AS new(seq, id, created_at, body)
    WHERE removed.messages >= 0
), updated AS (
    UPDATE {{schema}}."{{prefix}}sessions" s SET {_ASSIGNED}
    FROM held WHERE s.session_key = held.session_key
), moved AS (
    UPDATE {{schema}}."{{prefix}}owned" o SET listed_at = $12
    FROM held WHERE o.session_key = held.session_key
)
SELECT 1 FROM held
"""
