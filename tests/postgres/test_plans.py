"""The plans of the statements that requests wait for, where one user has 100,000 sessions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.storage.postgres import fast_queries, read_queries, tail_queries
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.postgres.queries import PostgresQueries
from agent_cores.session.storage.sql.dialect import Statement, Step
from agent_cores.session.storage.sql.rows import columns
from tests.postgres.support import connected
from tests.servers.postgres import empty_store, shared_server
from tests.sql_stores import append, create

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    import asyncpg

pytestmark = pytest.mark.anyio

SESSIONS = 100_000
FILL = """
INSERT INTO sessions (format, namespace, session_id, incarnation, owner_id, title, tags, attributes,
    grants, archived, public, created_at, updated_at, last_active_at, expires_at, renew_on,
    last_seq, message_count, revision, access_revision, listed_at, due_at)
SELECT 1, 'default', 's' || n, n, 'ann', 'null', '[]', '{}', '{}', 0, 0, n, n, n, n, 'write',
    2, 2, 1, 1, n, n
FROM generate_series(1, {sessions}) AS n;
INSERT INTO owned SELECT session_key, mark, 'ann', 'default', 0, listed_at, session_id
FROM sessions, (VALUES (''), ('=x')) AS marks(mark);
INSERT INTO shared SELECT session_key, 'bob', 'default', listed_at, session_id FROM sessions;
INSERT INTO messages SELECT session_key, seq, 'm' || seq, listed_at, 'body'
FROM sessions, generate_series(1, 3) AS seq;
INSERT INTO context SELECT session_key, 'key', 'value' FROM sessions;
INSERT INTO counters VALUES ('default', 0, {sessions});
INSERT INTO deleted SELECT generate_series(200000, 210000);
"""
TABLES = "deleted, sessions, owned, tagged, shared, messages, context, counters"

ITEM = {
    "namespace": "default", "session_id": "s500", "incarnation": 500, "access_revision": 1,
    "revision": 1, "turn": None, "expected_revision": None, "expected_last_seq": None, "at": 1,
    "valid_until": None, "expires_at": 1, "listed_at": 1, "item": 0, "messages": 1,
}  # fmt: skip
SENT = {"item": 0, "nth": 1, "id": "new", "created_at": 1}
APPEND = json.dumps([ITEM]), json.dumps([SENT]), [b"body"], "100", 1
APPEND_MANY = (
    json.dumps([{**ITEM, "item": n, "session_id": f"s{n}"} for n in range(500)]),
    json.dumps([{**SENT, "item": n} for n in range(500)]),
    [b"body"] * 500,
    "100",
    1,
)
LAST = 2**62
AS_READ = (1, 500, 1, None, None, None, 2, 2, 1, 500, 500, 500, 500, 500)
AFTER = (3, 1, 2, 501, 501, 501, 501, 501)

QUERIES = PostgresQueries()
UPDATE_REVISION = QUERIES.text(Step(Statement.UPDATE_HEADERS, fields=("revision",)))
STATEMENTS: dict[str, tuple[str, Sequence[Any]]] = {
    "hot append": (fast_queries.HOT_APPENDS[False, False], APPEND),
    "hot append that looks": (fast_queries.HOT_APPENDS[True, False], APPEND),
    "lock": (QUERIES.texts[Statement.LOCK], (["default"] * 3, ["s1", "s2", "s3"])),
    "present": (QUERIES.texts[Statement.PRESENT], (["default"] * 3, ["s1", "s2", "s3"])),
    "known ids": (QUERIES.texts[Statement.KNOWN], ([1, 2], ["m1", "m9"])),
    "context": (QUERIES.texts[Statement.CONTEXT], ([1, 2], ["key", "other"])),
    "removable": (QUERIES.texts[Statement.REMOVABLE], (7, 1, 3, 10)),
    "read an end": (
        tail_queries.READ_TAIL,
        ("default", "s500", 1, LAST, 10, [f"m{n}" for n in range(20)]),
    ),
    "change an end": (
        tail_queries.WRITE_TAIL,
        ("default", "s500", 1, 2, [3], ["m1"], [1], [b"body"], 1, 1, None, 501, *AS_READ, *AFTER),
    ),
    "oldest messages": (QUERIES.texts[Statement.OLDEST], (7, LAST, 10)),
    "messages by id": (
        QUERIES.texts[Statement.BY_ID],
        ([7] * 1_000, [f"m{n}" for n in range(1_000)]),
    ),
    "messages by seq": (QUERIES.texts[Statement.BY_SEQ], ([7] * 1_000, list(range(1_000)))),
    "one message by id": (QUERIES.texts[Statement.BY_ID], ([7], ["m1"])),
    "remove messages": (QUERIES.texts[Statement.DELETE_MESSAGES], ([1, 2], [3, 3])),
    "remove many messages": (
        QUERIES.texts[Statement.DELETE_MESSAGES],
        ([1] * 10_000, list(range(10_000))),
    ),
    "drop context": (QUERIES.texts[Statement.DROP_CONTEXT], ([1, 2], ["key", "other"])),
    "update messages": (
        QUERIES.texts[Statement.UPDATE_MESSAGES],
        ([7, 7], [1, 2], [b"new", b"new"]),
    ),
    "update many messages": (
        QUERIES.texts[Statement.UPDATE_MESSAGES],
        ([1] * 500, list(range(500)), [b"new"] * 500),
    ),
    "drop much context": (
        QUERIES.texts[Statement.DROP_CONTEXT],
        ([1] * 1_000, [f"key{n}" for n in range(1_000)]),
    ),
    "leave lists": (QUERIES.texts[Statement.REMOVE_OWNED], ([1, 2], ["", "=x"])),
    "leave many lists": (QUERIES.texts[Statement.REMOVE_OWNED], (list(range(500)), ["=x"] * 500)),
    "share no more": (QUERIES.texts[Statement.REMOVE_SHARED], ([1, 2], ["bob", "eve"])),
    "share much no more": (
        QUERIES.texts[Statement.REMOVE_SHARED],
        ([1] * 1_000, [f"user{n}" for n in range(1_000)]),
    ),
    "update headers": (UPDATE_REVISION, ([1, 2], [3, 4])),
    "move in lists": (QUERIES.texts[Statement.MOVE_OWNED], ([1, 2], [3, 4])),
    "delete headers": (QUERIES.texts[Statement.DELETE_HEADERS], ([1, 2],)),
    "latest messages": (
        read_queries.read_session(context=True, forward=False),
        ("default", LAST, 51, 4_000_000, "s500"),
    ),
    "messages after": (
        read_queries.read_session(context=False, forward=True),
        ("default", 1, 51, 4_000_000, "s500"),
    ),
    "named messages": (
        read_queries.read_session(context=False, forward=True, named=True),
        ("default", ["id1", "none"], 3, 4_000_000, "s500"),
    ),
    "many named messages": (
        read_queries.read_session(context=False, forward=True, named=True),
        ("default", [f"id{n}" for n in range(1_000)], 1_001, 4_000_000, "s500"),
    ),
    "several sessions": (
        read_queries.read_session(context=True, forward=False, several=True),
        (["default", "default"], LAST, 2, 4_000_000, ["s500", "s7"]),
    ),
    "a hundred sessions": (
        read_queries.read_session(context=True, forward=False, several=True, capped=True),
        (["default"] * 100, LAST, 1, 40_000, [f"s{n}" for n in range(100)]),
    ),
    "one header": (QUERIES.texts[Statement.HEADER], ("default", "s500")),
    "all context": (QUERIES.texts[Statement.CONTEXT_ALL], (7,)),
    "more messages": (QUERIES.texts[Statement.MESSAGES_AFTER], (7, 1, 51, 4_000_000)),
    "earlier messages": (QUERIES.texts[Statement.MESSAGES_BEFORE], (7, LAST, 51, 4_000_000)),
    "list": (
        QUERIES.texts[Statement.FIND_OWNED],
        columns([("ann", "default", 0, "", LAST, "", 11)]),
    ),
    "list all": (
        QUERIES.texts[Statement.FIND_OWNED],
        columns([("ann", "default", shelf, "", LAST, "", 11) for shelf in (0, 1)]),
    ),
    "list by tag": (
        QUERIES.texts[Statement.FIND_OWNED],
        columns([("ann", "default", 0, "=x", 50_000, "s50000", 11)]),
    ),
    "list shared": (
        QUERIES.texts[Statement.FIND_SHARED],
        columns([("default", subject, LAST, "", 11) for subject in ("bob", "group:team")]),
    ),
    "list by creation": (
        QUERIES.texts[Statement.FIND_CREATED],
        columns([("default", shelf, LAST, "", 11) for shelf in (0, 1)]),
    ),
    "list by creation and tag": (
        QUERIES.texts[Statement.FIND_CREATED_BY_TAG],
        columns([("default", 0, "=x", 50_000, "s50000", 11)]),
    ),
    "headers": (QUERIES.texts[Statement.HEADERS], ([1, 2, 3],)),
    "due": (QUERIES.texts[Statement.DUE], (100, 50)),
    "count": (QUERIES.texts[Statement.COUNT], ("default", 100)),
    "count archived": (QUERIES.texts[Statement.COUNT_ARCHIVED], ()),
    "purge": (QUERIES.texts[Statement.PURGE_MESSAGES], ([1, 2], [5_000] * 2)),
    "purge a hundred": (QUERIES.texts[Statement.PURGE_MESSAGES], (list(range(100)), [5_000] * 100)),
    "purge context": (QUERIES.texts[Statement.PURGE_CONTEXT], ([1, 2], [5_000] * 2)),
    "purge next": (QUERIES.texts[Statement.NEXT_DELETED], (100,)),
    "purge done": (QUERIES.texts[Statement.FORGET_DELETED], (list(range(100)),)),
    "many known ids": (QUERIES.texts[Statement.KNOWN], (list(range(10_000)), ["m1"] * 10_000)),
    "much context": (QUERIES.texts[Statement.CONTEXT], (list(range(10_000)), ["key"] * 10_000)),
    "lock many": (
        QUERIES.texts[Statement.LOCK],
        (["default"] * 500, [f"s{n}" for n in range(500)]),
    ),
    "move many": (QUERIES.texts[Statement.MOVE_OWNED], (list(range(500)), [1] * 500)),
    "update many": (UPDATE_REVISION, (list(range(500)), [1] * 500)),
    "hot append many": (fast_queries.HOT_APPENDS[False, False], APPEND_MANY),
    "hot append many that looks": (fast_queries.HOT_APPENDS[True, False], APPEND_MANY),
}


async def fill(connection: asyncpg.Connection[asyncpg.Record], sessions: int) -> None:
    await connection.execute(FILL.replace("{sessions}", str(sessions)))


@pytest.fixture(scope="module")
async def store() -> AsyncIterator[tuple[PostgresProvider, asyncpg.Connection[asyncpg.Record]]]:
    url = empty_store(f"{shared_server().url()}?table_prefix=")
    provider = PostgresProvider.from_url(url)
    await provider.initialize()
    try:
        async with connected(url) as connection:
            await fill(connection, SESSIONS)
            await connection.execute(f"ANALYZE {TABLES}")
            yield provider, connection
    finally:
        await provider.shutdown()


@pytest.mark.parametrize("generic", [False, True], ids=["these values", "any values"])
@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_table_is_read_from_end_to_end(
    store: tuple[PostgresProvider, asyncpg.Connection[asyncpg.Record]], name: str, generic: bool
) -> None:
    provider, connection = store
    statement, arguments = STATEMENTS[name]
    statement = provider.database.filled(statement)
    if generic:
        explained = shared_server().sql(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement}")
    else:
        rows = await connection.fetch(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)
        explained = rows[0][0]
    plan = json.loads(explained)[0]["Plan"]
    whole = [
        node["Relation Name"]
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] != "counters"
    ]
    assert whole == [], json.dumps(plan, indent=1)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


async def test_listing_ten_of_many_reads_only_about_ten(
    store: tuple[PostgresProvider, asyncpg.Connection[asyncpg.Record]],
) -> None:
    provider, connection = store
    statement, arguments = STATEMENTS["list"]
    statement = provider.database.filled(statement)
    rows = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments)
    plan = json.loads(rows[0][0])[0]["Plan"]
    assert max(node["Actual Rows"] for node in nodes(plan)) <= 11


async def test_appends_leave_every_index_of_the_header_alone(
    provider: PostgresProvider, url: str
) -> None:
    header = await create(provider)
    for number in range(20):
        header = (await provider.apply(append(header, f"m{number}"))).header
    await provider.shutdown()  # the server counts what a connection did once it ends
    async with connected(url) as connection:
        query = (
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
            " WHERE relid = 'sessions'::regclass"
        )
        while (await connection.fetchval(query)) < 20:
            await connection.execute("SELECT pg_stat_clear_snapshot()")
        row = await connection.fetchrow(query)
    assert row is not None
    assert tuple(row) == (20, 20)
