"""The SQL of each dialect, and how rows become a part of it."""

# ruff: noqa: S608 - these texts are compared, and none is run

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

import pytest

from agent_cores.session.models import MessageUpdate
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.mysql.queries import MysqlQueries
from agent_cores.session.storage.postgres.queries import PostgresQueries
from agent_cores.session.storage.sql.dialect import Statement, Step
from agent_cores.session.storage.sql.forms import OWN, RETURN_NOTHING, TAKE_ONE_ROW
from agent_cores.session.storage.sql.literal_rows import LiteralQueries, Verbatim, decoded
from agent_cores.session.storage.sql.names import Names
from agent_cores.session.storage.sql.rows import rounds
from agent_cores.session.testing.samples import new_header
from tests.sql_stores import append, change

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.storage.sql.forms import Update
    from agent_cores.session.storage.sql.queries import Queries


class PlainQueries(LiteralQueries):
    """A dialect with no words of its own."""

    own: ClassVar[Mapping[Statement, str]] = {
        **dict.fromkeys(OWN, "SELECT 1"),
        Statement.SET_CONTEXT: "{insert} OR REPLACE",
        Statement.ADD_OWNED: "INSERT INTO {owned} [each SELECT {0}, {1} between UNION ALL]",
    }

    def quoted(self, text: str) -> str:
        return f"'{text}'"

    def update(self, update: Update) -> str:
        return f"UPDATE {{{update.table}}} SET {', '.join(update.fields)} FROM {{selects}}"


PLAIN = PlainQueries()


def filled(statement: Statement, *rows: tuple[object, ...], fields: tuple[str, ...] = ()) -> str:
    """Return the one text of a step, its white space folded."""
    text = Names("").fill(PLAIN.text(Step(statement, rows, fields)))
    [found] = PLAIN.statements(text, rows)
    return " ".join(found.split())


@pytest.mark.parametrize("queries", [MysqlQueries(), PostgresQueries()])
def test_a_dialect_has_a_text_for_every_statement(queries: Queries) -> None:
    texts = {**queries.texts, Statement.UPDATE_HEADERS: ""}
    assert texts.keys() == set(Statement)


@pytest.mark.parametrize("word", ["in_names", "in_keys"])
def test_a_dialect_without_a_word_that_has_no_default_is_refused_by_its_name(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(LiteralQueries, word)
    with pytest.raises(AttributeError, match=f"'{word}'"):
        PlainQueries().text(Step(Statement.HEADER))


def test_a_dialect_without_a_statement_is_refused_by_its_name() -> None:
    class Half(PlainQueries):
        own: ClassVar[Mapping[Statement, str]] = {
            each: "SELECT 1" for each in OWN if each is not Statement.STORE_TIME
        }

    with pytest.raises(NotImplementedError, match=r"no text for STORE_TIME$"):
        Half().text(Step(Statement.HEADER))


def test_no_word_is_left_in_a_text() -> None:
    known = {"prefix", "schema", "rows", "keys", "selects"}
    for queries in (MysqlQueries(), PostgresQueries()):
        for statement, text in queries.texts.items():
            left = {word for word in re.findall(r"\{(\w+)\}", text) if not word.isdigit()}
            assert left <= known, statement


def test_the_statements_without_rows_out_are_those_that_read_nothing() -> None:
    queries = MysqlQueries()
    for statement, text in queries.texts.items():
        last = re.sub(r"^\W*(each)?\W*", "", text.rpartition(";")[2])
        assert last.startswith("SELECT") is (statement not in RETURN_NOTHING), statement


def test_a_statement_of_one_row_takes_its_values_one_by_one() -> None:
    for statement, text in PostgresQueries().texts.items():
        if statement in TAKE_ONE_ROW:
            assert "[]" not in text, statement


def test_rows_are_written_into_a_text_in_every_way() -> None:
    rows = (1, 2, "a", 3, b"x"), (1, 3, "b", None, b"y")
    names = '("session_key", "seq", "id", "created_at", "body")'
    assert filled(Statement.INSERT_MESSAGES, *rows) == (
        f"INSERT INTO \"messages\" {names} VALUES (1,2,'a',3,'x'),(1,3,'b',NULL,'y')"
    )
    assert filled(Statement.FORGET_DELETED, (7,), (8,)) == (
        'DELETE FROM "deleted" WHERE session_key IN (7,8)'
    )
    assert filled(Statement.DROP_CONTEXT, (1, "a"), (2, "b")) == (
        'DELETE FROM "context" WHERE session_key = 1 AND "key" = \'a\' '
        "OR session_key = 2 AND \"key\" = 'b'"
    )
    assert filled(Statement.UPDATE_HEADERS, (1, 5), (2, 6), fields=("revision",)) == (
        'UPDATE "sessions" SET revision FROM SELECT 1,5 UNION ALL SELECT 2,6'
    )
    assert filled(Statement.ADD_OWNED, (1, "a"), (2, "b")) == (
        "INSERT INTO \"owned\" SELECT 1, 'a' UNION ALL SELECT 2, 'b'"
    )


def test_values_that_look_like_words_stay_values() -> None:
    found = filled(Statement.DROP_CONTEXT, (1, "{0} {keys} [each {1} between OR]"))
    assert found.endswith("\"key\" = '{0} {keys} [each {1} between OR]'")


def test_fields_of_a_step_replace_the_header() -> None:
    found = filled(Statement.LOCK, ("default", "s"), fields=("namespace", "revision"))
    assert found == (
        'SELECT s.session_key, s.namespace, s.revision FROM "sessions" s '
        "WHERE (s.namespace, s.session_id) IN (('default','s')) ORDER BY s.session_key FOR UPDATE"
    )


def test_long_rows_become_several_statements() -> None:
    text = PLAIN.texts[Statement.INSERT_MESSAGES].replace("{prefix}", "")
    few = list(PLAIN.statements(text, [(1, n, "m", 1, b"x" * 300_000) for n in range(7)]))
    many = list(PLAIN.statements(text, [(1, n, "m", 1, b"") for n in range(2_001)]))
    assert [each.count("'m'") for each in few] == [3, 3, 1]
    assert [each.count("'m'") for each in many] == [1_000, 1_000, 1]


def test_a_part_of_a_statement_is_no_literal() -> None:
    assert PLAIN.literal(Verbatim("(SELECT 1)")) == "(SELECT 1)"
    assert PLAIN.literal("(SELECT 1)") == "'(SELECT 1)'"


def test_text_comes_back_as_text_and_bytes_as_bytes() -> None:
    rows = [(1, "é".encode(), b"\xff"), (2, None, b"")]
    assert decoded(["seq", "id", "body"], rows) == [[1, "é", b"\xff"], [2, None, b""]]


def test_a_round_has_the_updates_of_different_messages_of_a_session() -> None:
    header = new_header("talk", at=utc_now())
    updates = [change(header, update=MessageUpdate(seq=seq, id=f"m{seq}")) for seq in (1, 2, 1, 3)]
    said = append(header, "m9")
    both = change(header, update=MessageUpdate(seq=4, id="m4"), metadata={"title": "t"})
    other = change(new_header("other", at=utc_now()), update=MessageUpdate(seq=1, id="m1"))
    changes = [*updates, said, append(header, "m8"), updates[1], both, updates[3], other]
    assert rounds(changes) == [[0, 1, 9], [2, 3], [4, 5], [6], [7], [8]]
