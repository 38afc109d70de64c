"""The statements that read one session, and those that list sessions.

``{schema}`` and ``{prefix}`` are filled in by ``Names.fill``.
"""
# ruff: noqa: S608 - what is put into these texts are names of columns, written in this package

from __future__ import annotations

from agent_cores.session.storage.postgres.columns import arrays, header_of

HEADER = f"""
SELECT {header_of("s")} FROM {{schema}}."{{prefix}}sessions" s
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
    columns, parts, name = [header_of("s")], "", "$2"
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
    SELECT {header_of("held")} FROM {{schema}}."{{prefix}}sessions" held
    WHERE held.session_key = place.session_key OFFSET 0
) s
"""

FIND_OWNED = f"""
SELECT place.listed_at, s.*
FROM (
    SELECT o.session_key, o.listed_at, o.session_id
    FROM unnest({arrays("text", "text", "smallint", "text", "bigint", "text", "bigint")})
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
    columns = arrays("text", "smallint", *types, "bigint", "text", "bigint")
    most = f"(${len(types) + 5}::bigint[])[1]"
    same = f"AND entry.{mark} = list.{mark}" if mark else ""
    return f"""
SELECT place.created_at, s.*
FROM (
    SELECT o.session_key, o.created_at, o.session_id
    FROM unnest({columns})
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
FROM unnest({arrays("text", "text", "bigint", "text", "bigint")})
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
SELECT {header_of("s")} FROM {{schema}}."{{prefix}}sessions" s
WHERE s.session_key = ANY($1::bigint[])
"""

# For direct use of a provider, across namespaces or owners: this sorts what it finds.
FIND_ANY = f"""
SELECT o.listed_at, {header_of("s")}
FROM {{schema}}."{{prefix}}owned" o
JOIN {{schema}}."{{prefix}}sessions" s USING (session_key)
WHERE o.mark = $1 AND ($2::text IS NULL OR o.owner_id = $2)
  AND ($3::text IS NULL OR o.namespace = $3) AND (o.listed_at, o.session_id) < ($4, $5)
ORDER BY o.listed_at DESC, o.session_id DESC LIMIT $6
"""
