"""The statements that read one session, and those that list sessions.

``{schema}`` and ``{prefix}`` are filled in by ``Names.fill``.
"""
# ruff: noqa: S608 - what is put into these texts are names of columns, written in this package

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.storage.postgres.columns import arrays_of
from agent_cores.session.storage.sql.dialect import Statement
from agent_cores.session.storage.sql.forms import header_of

if TYPE_CHECKING:
    from agent_cores.session.storage.sql.forms import Listing


def _messages(key: str, *, forward: bool, capped: bool = False) -> str:
    """Return the query for messages past bound $2, at most $3, ended by the bytes in $4."""
    beyond, direction = (">", "ASC") if forward else ("<", "DESC")
    return _page(
        f"""
        SELECT m.seq, m.id, m.created_at, m.body
        FROM {{schema}}."{{prefix}}messages" m
        WHERE m.session_key = {key} AND m.seq {beyond} $2
        ORDER BY m.seq {direction} LIMIT $3
""",
        direction,
        capped=capped,
    )


def _named(key: str) -> str:
    """Return the query for messages with the ids in $2, at most $3, ended by the bytes in $4."""
    return _page(
        f"""
        SELECT m.seq, m.id, m.created_at, m.body
        FROM unnest($2::text[]) AS named(id)
        CROSS JOIN LATERAL (
            SELECT * FROM {{schema}}."{{prefix}}messages"
            WHERE session_key = {key} AND id = named.id OFFSET 0
        ) m LIMIT $3
""",
        "ASC",
    )


def _page(found: str, direction: str, *, capped: bool = False) -> str:
    """Return the query for what a query finds, ended by the bytes in $4.

    It reads one message more than the bytes allow, and two at least, to tell whether more follow;
    if ``capped``, none more.
    """
    within = "bytes_before <= $4 OR number <= 2"
    if capped:
        within = "bytes_before + octet_length(body) <= $4"
    return f"""
SELECT seq, id, created_at, body
FROM (
    SELECT nearest.*, row_number() OVER (ORDER BY seq {direction}) AS number,
           sum(octet_length(body)) OVER (ORDER BY seq {direction} ROWS UNBOUNDED PRECEDING)
               - octet_length(body) AS bytes_before
    FROM ({found}) nearest
) page
WHERE {within}
"""


def messages(*, forward: bool, capped: bool = False) -> str:
    """Return the statement for messages: $1 is the session's key, the others as above."""
    found = _messages("$1", forward=forward, capped=capped)
    return f"{found}ORDER BY seq {'ASC' if forward else 'DESC'}"


_CONTEXT_OF = """
LEFT JOIN LATERAL (
    SELECT array_agg(c.key) AS context_keys, array_agg(c.value) AS context_values
    FROM {schema}."{prefix}context" c WHERE c.session_key = s.session_key
) context ON true
"""


def read_session(
    *,
    context: bool,
    forward: bool | None,
    named: bool = False,
    several: bool = False,
    capped: bool = False,
) -> str:
    """Return the statement that reads one session at once; ``forward=None`` reads no messages.

    $1 is the namespace; $2, $3 and $4 are as for messages, where ``named`` says by their ids; the
    session id comes last. ``several`` takes arrays of namespaces and ids.
    """
    columns, parts, name = [header_of("s")], "", "$2"
    if forward is not None:
        key = "s.session_key"
        messages = _messages(key, forward=forward, capped=capped)
        if named:
            messages = _named(key)
        columns.append("seqs, ids, times, bodies")
        parts += f"""
LEFT JOIN LATERAL (
    SELECT array_agg(seq) AS seqs, array_agg(id) AS ids,
           array_agg(created_at) AS times, array_agg(body) AS bodies
    FROM ({messages}) page
) messages ON true
"""
        name = "$5"
    if context:
        columns.append("context_keys, context_values")
        parts += _CONTEXT_OF
    if several:
        return f"""
SELECT {", ".join(columns)}
FROM unnest($1::text[], {name}::text[]) AS wanted(namespace, session_id)
CROSS JOIN LATERAL (
    SELECT {header_of("held")} FROM {{schema}}."{{prefix}}sessions" held
    WHERE held.namespace = wanted.namespace AND held.session_id = wanted.session_id OFFSET 0
) s {parts}
"""
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


def listing(statement: Statement, listing: Listing) -> str:
    """Return the statement for a listing: an array for each of its keys, the place, and a limit."""
    table, _, keys, time = listing
    columns = arrays_of(*keys, time, "session_id", "limit")
    most = f"(${len(keys) + 3}::bigint[])[1]"
    alone = statement is Statement.FIND_SHARED  # entries without headers, of several subjects
    place = f"""
    SELECT {"DISTINCT" if alone else ""} o.{time}, o.session_id, o.session_key
    FROM unnest({columns}) AS list({", ".join(keys)}, millis, id, most)
    CROSS JOIN LATERAL (
        SELECT session_key, {time}, session_id FROM {{schema}}."{{prefix}}{table}" entry
        WHERE {" AND ".join(f"entry.{key} = list.{key}" for key in keys)}
          AND (entry.{time}, entry.session_id) < (list.millis, list.id)
        ORDER BY {time} DESC, session_id DESC LIMIT {most}
    ) o
    ORDER BY o.{time} DESC, o.session_id DESC LIMIT {most}
"""
    return place if alone else f"SELECT place.{time}, s.* FROM ({place}) place {_OF_PLACE}"
