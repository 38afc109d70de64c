"""Every statement of the SQLite store finds its rows by an index, and sorts nothing."""

from __future__ import annotations

import asyncio
import re
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from agent_cores.session.models import Grant
from agent_cores.session.models.session import AccessRole
from agent_cores.session.storage.sql.dialect import Statement, Step
from agent_cores.session.storage.sqlite.connection import Steps, open_reader, open_writer
from agent_cores.session.storage.sqlite.queries import Queries
from agent_cores.session.testing.samples import creation, new_context, new_header, new_message
from tests.sqlite_stores import NOON, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

SESSIONS = 2_000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of some thousand sessions, analysed, so that the planner could be tempted."""
    path = tmp_path_factory.mktemp("plans") / "sessions.db"
    asyncio.run(fill(path))
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("ANALYZE")
    return path


async def fill(path: Path) -> None:
    async with opened(path) as provider:
        grant = Grant(subject="bob", role=AccessRole.VIEWER, granted_by="ann", granted_at=NOON)
        await asyncio.gather(
            *(
                provider.apply(
                    creation(
                        new_header(
                            f"talk-{number}",
                            at=NOON + timedelta(seconds=number),
                            namespace=f"n{number % 3}",
                            owner_id=f"user-{number % 7}",
                            tags=("a", f"t{number % 5}"),
                            grants={"bob": grant},
                        ),
                        append=tuple(new_message(f"{n}", at=NOON) for n in range(3)),
                        context_set=new_context(k=number),
                    )
                )
                for number in range(SESSIONS)
            )
        )


def statements() -> Iterator[tuple[str, str]]:
    """Yield every statement with its name."""
    queries = Queries("")
    for statement, text in {**queries.texts, **queries.purge}.items():
        yield statement.value, text
    for statement, text in queries.lookups.items():
        yield f"{statement.value}, many", text
    yield "find tagged", queries.find_tagged
    yield "update headers", queries.update_headers(("title", "listed_at"))


ALL = dict(statements())
SMALL = {"next deleted", "count", "count archived", "namespaces", "store time"}
"""The first rows of a queue, and a row for each namespace: these may read a table from its
beginning. What counts one namespace is held to its indexes below."""
INSERTS = {"insert headers", "insert messages", "add owned", "add shared", "set context"}


@pytest.mark.parametrize("name", sorted(ALL.keys() - SMALL))
def test_a_statement_finds_its_rows_by_an_index_and_sorts_nothing(path: Path, name: str) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        plan = explained(connection, f"EXPLAIN QUERY PLAN {ALL[name]}")
    steps = [str(step) for *_, step in plan]
    assert not [step for step in steps if is_slow(step)]
    assert name in INSERTS or any("SEARCH" in step for step in steps), steps


def test_a_row_of_a_run_finds_its_session_by_its_key(path: Path) -> None:
    sql = Queries("")
    with closing(apsw.Connection(str(path))) as connection:
        connection.config(apsw.SQLITE_DBCONFIG_TRIGGER_EQP, 1)
        connection.execute(sql.prepare_runs)
        plan = explained(connection, f"EXPLAIN QUERY PLAN {sql.run[16]}")
    steps = [str(step) for *_, step in plan]
    slow = [step for step in steps if is_slow(step) and "VALUES CLAUSE" not in step]
    assert not slow
    assert steps.count("SEARCH sessions USING INTEGER PRIMARY KEY (rowid=?)") == 2, steps


def test_many_messages_are_looked_up_by_one_statement(path: Path) -> None:
    run: list[str] = []

    def traced(_: apsw.Cursor, statement: str, __: object) -> bool:
        run.append(statement)
        return True

    with closing(apsw.Connection(str(path))) as connection:
        [(key,)] = connection.execute("SELECT session_key FROM sessions LIMIT 1").fetchall()
        [*ids] = connection.execute("SELECT id FROM messages WHERE session_key = ?", (key,))
        connection.exec_trace = traced
        rows = [(key, "not there"), *((key, name) for (name,) in ids)]
        found = list(Steps(connection, Queries("")).run(Step(Statement.BY_ID, rows)))
    assert [name for _, name, _ in found] == [name for (name,) in ids]
    assert len(found) == 3
    assert len(run) == 1


def explained(connection: apsw.Connection, statement: str) -> list[tuple[Any, ...]]:
    """Return how a statement would be run; as many nothings are bound as it has parameters."""
    numbered = [int(number) for number in re.findall(r"\?(\d+)", statement)]
    count = max(numbered, default=statement.count("?"))
    return connection.execute(statement, [None] * count).fetchall()


def is_slow(step: str) -> bool:
    """Whether a step reads a whole table or sorts; a list given as JSON is read as a whole."""
    return (
        ("SCAN" in step and "VIRTUAL TABLE" not in step)
        or "TEMP B-TREE" in step
        or "AUTOMATIC" in step
    )


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("find owned", "sessions_owned"),
        ("find tagged", "tags_listed"),
        ("find created", "sessions_created"),
        ("find created by tag", "tags_created"),
        ("find shared", "shares_listed"),
        ("find any", "sessions_listed"),
        ("due", "sessions_due"),
        ("count", "sessions_due"),
        ("count archived", "sessions_created"),
        ("messages after", "sqlite_autoindex_messages_1"),
        ("oldest", "sqlite_autoindex_messages_1"),
        ("by seq", "sqlite_autoindex_messages_1"),
        ("by id", "sqlite_autoindex_messages_2"),
        ("messages before", "sqlite_autoindex_messages_1"),
    ],
)
def test_a_walk_uses_the_index_that_was_made_for_it(path: Path, name: str, index: str) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        plan = explained(connection, f"EXPLAIN QUERY PLAN {ALL[name]}")
    assert any(f"INDEX {index} (" in str(step) for *_, step in plan), plan


def test_one_namespace_is_counted_without_the_others(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        plan = explained(connection, f"EXPLAIN QUERY PLAN {ALL['count']}")
    assert any("SEARCH counters USING PRIMARY KEY" in str(step) for *_, step in plan), plan


def test_a_plain_append_touches_no_index_of_listings(path: Path) -> None:
    append = ("last_seq", "message_count", "last_active_at", "expires_at")
    written = {}
    with closing(apsw.Connection(str(path))) as connection:
        roots = connection.execute("SELECT name, rootpage FROM sqlite_schema")
        tables = {root: name for name, root in roots}
        for fields in (append, (*append, "listed_at")):
            steps = explained(connection, f"EXPLAIN {Queries('').update_headers(fields)}")
            written[len(fields)] = {tables[step[3]] for step in steps if step[1] == "OpenWrite"}
    listings = {"sessions_owned", "sessions_listed"}
    assert not written[4] & {*listings, "sessions_due"}
    assert listings <= written[5]
    assert "sessions_due" not in written[5]
    assert not any("sessions_created" in indexes for indexes in written.values())


def test_a_move_in_the_lists_of_tags_leaves_those_by_creation_alone(path: Path) -> None:
    """The trigger that moves tags names one column, since a statement writes all its indexes."""
    with closing(apsw.Connection(str(path))) as connection:
        pages = "SELECT rootpage, name FROM sqlite_schema WHERE rootpage IS NOT NULL"
        tables = dict(explained(connection, pages))
        [(trigger,)] = explained(
            connection, "SELECT sql FROM sqlite_schema WHERE name = 'sessions_moved'"
        )
        assert "SET listed_at = NEW.listed_at WHERE" in str(trigger)
        steps = explained(connection, "EXPLAIN UPDATE tags SET listed_at = 1 WHERE session_key = 1")
        written = {tables[step[3]] for step in steps if step[1] == "OpenWrite"}
    assert "tags_listed" in written
    assert "tags_created" not in written


def test_a_statement_keeps_its_plan_whatever_its_values(path: Path) -> None:
    for connection in (open_reader(path, 1.0), open_writer(path, 1.0, "FULL")):
        with closing(connection):
            assert connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1) == 1
