"""The plans of the statements that requests wait for, where one user has 100,000 sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.codec import HEADER_FIELDS
from agent_cores.session.storage.mysql.provider import MysqlProvider
from agent_cores.session.storage.mysql.queries import MysqlQueries
from agent_cores.session.storage.sql.dialect import Statement, Step
from agent_cores.session.storage.sql.literal_rows import Verbatim
from agent_cores.session.storage.sql.names import Names
from tests.servers.mariadb import MariaDBServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

pytestmark = pytest.mark.anyio

FILL = """
INSERT INTO sessions (format, namespace, session_id, incarnation, owner_id, title, tags, attributes,
    grants, archived, public, created_at, updated_at, last_active_at, expires_at, renew_on,
    last_seq, message_count, revision, access_revision, listed_at, due_at)
SELECT 1, 'default', CONCAT('s', seq), seq, 'ann', 'null', '[]', '{}', '{}', 0, 0, seq, seq, seq,
    seq, 'write', 2, 2, 1, 1, seq, seq
FROM seq_1_to_100000;
INSERT INTO owned SELECT session_key, mark, 'ann', 'default', 0, listed_at, session_id, created_at
FROM sessions JOIN (SELECT '' AS mark UNION SELECT '=x') marks;
INSERT INTO shared SELECT session_key, 'bob', 'default', listed_at, session_id FROM sessions;
INSERT INTO messages SELECT session_key, seq, CONCAT('m', seq), listed_at, 'body'
FROM (SELECT * FROM sessions LIMIT 100) few JOIN seq_1_to_1000;
INSERT INTO context SELECT session_key, 'key', 'value' FROM sessions;
INSERT INTO counters VALUES ('default', 0, 100000);
INSERT INTO deleted SELECT seq FROM seq_200000_to_210000;
ANALYZE TABLE deleted, sessions, owned, shared, messages, context, counters
"""
LAST = 2**62
MANY = range(1, 201)
NAMES = [("default", f"s{n}") for n in MANY]
READS: dict[Statement, Sequence[tuple[Any, ...]]] = {
    Statement.LOCK: NAMES,
    Statement.LOCK_FREE: NAMES,
    Statement.PRESENT: NAMES,
    Statement.KNOWN: [(n, f"m{n}") for n in MANY],
    Statement.CONTEXT: [(n, "key") for n in MANY],
    Statement.REMOVABLE: [(7, 1, 3, 10)],
    Statement.OLDEST: [(7, LAST, 100)],
    Statement.BY_ID: [(7, f"m{n}") for n in MANY],
    Statement.BY_SEQ: [(7, n) for n in MANY],
    Statement.UPDATE_HEADERS: [(n, 1) for n in MANY],
    Statement.DELETE_HEADERS: [(n,) for n in MANY],
    Statement.UPDATE_MESSAGES: [(7, n, b"new") for n in MANY],
    Statement.DELETE_MESSAGES: [(7, n) for n in MANY],
    Statement.DROP_CONTEXT: [(n, "key") for n in MANY],
    Statement.MOVE_OWNED: [(n, 1) for n in MANY],
    Statement.REMOVE_OWNED: [(n, "=x") for n in MANY],
    Statement.REMOVE_SHARED: [(n, "bob") for n in MANY],
    Statement.HEADER: NAMES,
    Statement.CONTEXT_ALL: [(7,)],
    Statement.MESSAGES_AFTER: [(7, 1, 51, 4_000_000)],
    Statement.MESSAGES_BEFORE: [(7, LAST, 51, 4_000_000)],
    Statement.MESSAGES_CAPPED: [(7, LAST, 1, 40_000)],
    Statement.FIND_OWNED: [("ann", "default", n, "=x", LAST, "", 11) for n in (0, 1)],
    Statement.FIND_SHARED: [("default", "bob", 50_000, "s", 11)],
    Statement.FIND_CREATED: [("default", n, LAST, "", 11) for n in (0, 1)],
    Statement.FIND_CREATED_BY_TAG: [("default", n, "=x", 50_000, "s", 11) for n in (0, 1)],
    Statement.HEADERS: [(n,) for n in MANY],
    Statement.DUE: [(50, 100)],
    Statement.COUNT_ARCHIVED: [()],
    Statement.NEXT_DELETED: [(100,)],
    Statement.PURGE_MESSAGES: [(n, 5_000) for n in MANY],
    Statement.PURGE_CONTEXT: [(n, 5_000) for n in MANY],
    Statement.FORGET_DELETED: [(200_000 + n,) for n in MANY],
}
"""Statements that look rows up, each with many rows; the first row alone is tried as well."""
PAGES = {
    Statement.MESSAGES_AFTER: (900, 10, 4_000_000),
    Statement.MESSAGES_BEFORE: (100, 10, 4_000_000),
    Statement.MESSAGES_CAPPED: (100, 10, 4_000_000),
}
"""Pages far from the end of a session at which their order begins."""
_LOOKUPS = {"const", "eq_ref", "ref", "range", "system"}
_DERIVED = "<"


def statements(step: Step) -> list[str]:
    """Return the texts of a step, on tables without a prefix."""
    queries = MysqlQueries()
    return list(queries.statements(Names("").fill(queries.text(step)), step.rows))


@pytest.fixture(scope="module")
async def filled() -> AsyncIterator[tuple[MariaDBServer, str]]:
    """Return a server with a database of 100,000 sessions."""
    with MariaDBServer(innodb_flush_log_at_trx_commit="0", innodb_doublewrite="0") as server:
        database = server.new_database()
        provider = MysqlProvider.from_url(f"{server.url(database)}?table_prefix=")
        await provider.initialize()
        await provider.shutdown()
        server.sql(FILL, database)
        yield server, database


async def test_every_statement_finds_its_rows_by_an_index(
    filled: tuple[MariaDBServer, str],
) -> None:
    """One test, since filling the tables takes longer than all of it."""
    scans = []
    for statement, rows in READS.items():
        fields = ("revision",) if statement is Statement.UPDATE_HEADERS else ()
        for some in (rows, rows[:1]):
            plan = _plan(filled, Step(statement, some, fields))
            scans += [(statement, len(some), line) for line in plan if not _is_lookup(line)]
    assert scans == []
    for number in (1, 50):
        _check_created(filled, number)
    _check_pages(filled)
    _check_reads_by_name(filled)


def _check_created(filled: tuple[MariaDBServer, str], number: int) -> None:
    """Check that what was inserted is found again by its name."""
    names = {"namespace": "default", "session_id": "s7", "incarnation": 7}
    row = tuple(names.get(field, 0) for field in HEADER_FIELDS)
    plan = _plan(filled, Step(Statement.INSERT_HEADERS, [row] * number), last_only=True)
    assert [line[5] for line in plan] == ["named"]


def _check_pages(filled: tuple[MariaDBServer, str]) -> None:
    """Check that a page reads its own rows alone, in the order of the index."""
    server, database = filled
    for statement in (
        Statement.FIND_OWNED,
        Statement.FIND_SHARED,
        Statement.FIND_CREATED,
        Statement.FIND_CREATED_BY_TAG,
        Statement.DUE,
    ):
        [text] = statements(Step(statement, READS[statement]))
        before, after = (_handler_reads(server, database, sql) for sql in ("DO 0", text))
        assert after - before < 100, statement


def _check_reads_by_name(filled: tuple[MariaDBServer, str]) -> None:
    """Check what a read sends: with a subquery as the key, a page still reads its rows alone."""
    server, database = filled
    queries = MysqlQueries()
    [text] = queries.statements(Names("").fill(queries.session_key), [("default", "s7")])
    key = Verbatim(text)
    for statement, bounds in (*PAGES.items(), (Statement.CONTEXT_ALL, ())):
        step = Step(statement, [(key, *bounds)])
        assert [line for line in _plan(filled, step) if not _is_lookup(line)] == []
        [text] = statements(step)
        before, after = (_handler_reads(server, database, sql) for sql in ("DO 0", text))
        assert after - before < 200, statement


def _plan(
    filled: tuple[MariaDBServer, str], step: Step, *, last_only: bool = False
) -> list[Sequence[str]]:
    """Return the lines of the plan: select type, table, access, …; derived tables left out."""
    server, database = filled
    lines: list[Sequence[str]] = []
    for text in statements(step):
        parts = text.split(";")
        for part in parts[-1:] if last_only else parts:
            if "ROW_COUNT()" in part or part.lstrip().startswith("INSERT"):
                continue
            lines += [
                line.split("\t") for line in server.sql(f"EXPLAIN {part}", database).split("\n")
            ]
    return [line for line in lines if line[2] != "NULL" and not line[2].startswith(_DERIVED)]


def _is_lookup(line: Sequence[str]) -> bool:
    is_small = line[2] in {"counters", "deleted"} and line[3] == "index"
    return line[3] in _LOOKUPS or is_small


def _handler_reads(server: MariaDBServer, database: str, text: str) -> int:
    """Return how many rows one client's statements read, of tables and indexes."""
    counted = "SELECT SUM(variable_value) FROM information_schema.session_status"
    names = "variable_name LIKE 'HANDLER_READ%'"
    return int(float(server.sql(f"{text}; {counted} WHERE {names}", database).split("\n")[-1]))
