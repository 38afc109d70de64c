"""Rows that travel as literals in the text of a statement, for a driver that takes no arrays.

In a text ``{rows}`` are all rows of a step in parentheses, ``{keys}`` the first value of each,
``{selects}`` a SELECT of each, and ``[each … between …]`` is repeated for each row, with its values
``{0}``, ``{1}`` …; outside of that, these are the values of the first row.

A text holds bytes of any kind: each of its characters is one byte, as in Latin-1.
"""

# ruff: noqa: S608 - values enter these texts as literals that a dialect escapes

from __future__ import annotations

import re
from abc import abstractmethod
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from agent_cores.session.codec import HEADER_FIELDS
from agent_cores.session.storage.sql.dialect import Statement
from agent_cores.session.storage.sql.forms import TEXT_COLUMNS
from agent_cores.session.storage.sql.queries import Queries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent_cores.session.storage.sql.dialect import Row
    from agent_cores.session.storage.sql.forms import Listing, Rows

_MOST_ROWS = 1_000
_MOST_CHARACTERS = 1024 * 1024
"""The most rows and characters of one statement; a longer row is sent alone."""

_NAME_AND_INCARNATION = ", ".join(
    f"{{{HEADER_FIELDS.index(name)}}}" for name in ("namespace", "session_id", "incarnation")
)
_EACH = re.compile(r"\[each (.+?) between (.+?)\]", re.DOTALL)


def decoded(names: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    """Return rows of these columns with text as ``str``: it was stored as bytes."""
    places = [place for place, name in enumerate(names) if name in TEXT_COLUMNS]
    if not places:
        return list(rows)
    found = [list(row) for row in rows]
    for row in found:
        for place in places:
            if row[place] is not None:
                row[place] = row[place].decode()
    return found


class Verbatim(str):
    """A part of a statement, inserted into its text unescaped."""

    __slots__ = ()


class LiteralQueries(Queries):
    """The statements of a dialect whose rows are literals.

    ``inserted`` follows INSERT_HEADERS where a database has no RETURNING. A header that was not
    inserted, since its name was taken, has another incarnation than the stored one.
    """

    in_names: ClassVar[str] = "(s.namespace, s.session_id) IN ({rows})"
    in_keys: ClassVar[str] = "IN ({keys})"
    inserted: ClassVar[str] = f"""
        SELECT namespace, session_id, session_key FROM {{sessions}} {{index_named}}
        WHERE (namespace, session_id, incarnation) IN ([each ({_NAME_AND_INCARNATION}) between ,])
    """

    @abstractmethod
    def quoted(self, text: str) -> str:
        """Return the literal of a string of bytes, each of them a character."""

    def value(self, number: int) -> str:
        """Return the place of a value in the text."""
        return f"{{{number}}}"

    def insert(self, table: str, columns: tuple[str, ...]) -> str:
        """Return an INSERT of several rows."""
        return (
            f"INSERT INTO {{{table}}} ({', '.join(map(self.quoted_name, columns))}) VALUES {{rows}}"
        )

    def lookup(self, rows: Rows) -> str:
        """Return a query for pairs."""
        index = "known" if rows.column == "id" else "primary"
        return f"""SELECT {rows.result} FROM {{{rows.table}}} held {{index_{index}}}
            WHERE (held.session_key, held.{rows.column}) IN ({{rows}})"""

    def delete(self, rows: Rows) -> str:
        """Return a DELETE by pairs, without IN: an optimizer may scan the table for one pair."""
        column = self.quoted_name(rows.column)
        return f"""DELETE FROM {{{rows.table}}}
            WHERE [each session_key = {{0}} AND {column} = {{1}} between OR]"""

    def listing(self, statement: Statement, listing: Listing) -> str:
        """Return the highest entries of each list below a place."""
        table, index, keys, time = listing
        wanted = " AND ".join(f"{name} = {{{number}}}" for number, name in enumerate(keys))
        at, session_id, limit = (f"{{{len(keys) + number}}}" for number in range(3))
        entries = f"""[each (SELECT {time}, session_id, session_key
            FROM {{{table}}} {{index_{index}}}
            WHERE {wanted} AND ({time} < {at} OR {time} = {at} AND session_id < {session_id})
            ORDER BY {time} DESC, session_id DESC LIMIT {limit}) between UNION ALL]"""
        if statement is Statement.FIND_SHARED:
            return entries
        return f"""SELECT e.{time}, {{header}} FROM ({entries}) e
            {{join}} {{sessions}} s ON s.session_key = e.session_key"""

    def together(self, *parts: str) -> str:
        """Return the statements one after the other."""
        return ";".join(parts)

    def statements(self, text: str, rows: Sequence[Row]) -> Iterator[str]:
        """Yield a statement with its rows: more than one if they are long."""
        template, literal = _template(text), self.literal
        for some in _pieces([list(map(literal, row)) for row in rows]):
            yield template(some)

    def literal(self, value: Any) -> str:  # noqa: ANN401 - whatever a column holds
        """Return a value as a literal. Text becomes bytes, so that bytes are compared."""
        return self._literals[type(value)](value)

    @cached_property
    def session_key(self) -> str:
        """The key of the session whose namespace and id are a statement's row, as a subquery."""
        return self.written(
            "(SELECT session_key FROM {sessions} WHERE namespace = {0} AND session_id = {1})"
        )

    @cached_property
    def _literals(self) -> dict[type, Callable[[Any], str]]:
        quoted = self.quoted
        return {
            int: int.__repr__,
            float: repr,
            str: lambda value: quoted(value.encode().decode("latin-1")),
            bytes: lambda value: quoted(value.decode("latin-1")),
            type(None): lambda _: "NULL",
            Verbatim: str,
        }


@lru_cache(maxsize=1_000)
def _template(text: str) -> Callable[[Sequence[list[str]]], str]:
    """Return the function that fills rows of literals into a text."""
    repeated = _EACH.search(text)
    outer = _EACH.sub("{each}", text)
    each, between = repeated.groups() if repeated else ("", "")
    parts: dict[str, Callable[[Sequence[list[str]]], str]] = {
        "rows": lambda rows: "(" + "),(".join([",".join(row) for row in rows]) + ")",
        "keys": lambda rows: ",".join([row[0] for row in rows]),
        "selects": lambda rows: "SELECT " + " UNION ALL SELECT ".join(map(",".join, rows)),
        "each": lambda rows: f" {between} ".join([each.format(*row) for row in rows]),
    }
    used = [(name, part) for name, part in parts.items() if f"{{{name}}}" in outer]

    def filled(rows: Sequence[list[str]]) -> str:
        return outer.format(*rows[0], **{name: part(rows) for name, part in used})

    return filled


def _pieces(rows: Sequence[list[str]]) -> Iterator[list[list[str]]]:
    """Split rows into pieces that each fit the length of one statement."""
    piece: list[list[str]] = []
    size = 0
    for row in rows:
        length = sum(map(len, row))
        if piece and (size + length > _MOST_CHARACTERS or len(piece) == _MOST_ROWS):
            yield piece
            piece, size = [], 0
        piece.append(row)
        size += length
    yield piece
