"""Rows that travel as literals in the text of a statement, for a driver that takes no arrays.

In a text ``{rows}`` are all rows of a step in parentheses, ``{keys}`` the first value of each,
``{selects}`` a SELECT of each, and ``[each … between …]`` is repeated for each row, with its values
``{0}``, ``{1}`` …; outside of that, these are the values of the first row.

A text holds bytes of any kind: each of its characters is one byte, as in Latin-1.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from agent_cores.session.storage.sql.queries import Queries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent_cores.session.storage.sql.dialect import Row

_MOST_ROWS = 1_000
_MOST_CHARACTERS = 1024 * 1024
"""The most rows and characters of one statement; a longer row is sent alone."""

_EACH = re.compile(r"\[each (.+?) between (.+?)\]", re.DOTALL)


class Verbatim(str):
    """A part of a statement, inserted into its text unescaped."""

    __slots__ = ()


class LiteralQueries(Queries):
    """The statements of a dialect whose rows are literals."""

    names: ClassVar[str] = "{rows}"
    in_keys: ClassVar[str] = "IN ({keys})"

    @abstractmethod
    def quoted(self, text: str) -> str:
        """Return the literal of a string of bytes, each of them a character."""

    def value(self, number: int) -> str:
        """Return the place of a value in the text."""
        return f"{{{number}}}"

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
