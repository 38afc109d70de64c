"""``Queries``: the SQL of a database, a text for each statement.

``forms.py`` has what all databases share. A dialect is a subclass: it supplies the words in which
its SQL differs, writes each form, and adds the statements that are its own.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from agent_cores.session.storage.sql import forms
from agent_cores.session.storage.sql.dialect import Statement
from agent_cores.session.storage.sql.forms import header_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.storage.sql.dialect import Step
    from agent_cores.session.storage.sql.forms import Listing, Rows, Update

_WORD = re.compile(r"\{(\w+)\}")
_NAMES = ("sessions", "messages", "context", "owned", "shared", "deleted", "counters", "tagged")
_TABLES = {name: name for name in _NAMES} | {"versions": "schema"}
"""The word for each table, and its name."""


class Queries(ABC):
    """The statements of a dialect.

    In a text ``{sessions}`` is a table, ``{header}`` the columns of a header in ``s``, ``{0}`` the
    first value of a statement's one row, ``{index_due}`` a hint to use that index, ``{insert}`` the
    INSERT of the statement. ``{in_names}``, ``{in_keys}``, ``{in_order}`` and ``{join}`` are the
    attributes. Other braces are left to the dialect.
    """

    quote: ClassVar[str] = '"'
    """What is before and after a name that is quoted."""
    in_names: ClassVar[str]
    """The condition that the session ``s`` has one of a step's names."""
    in_keys: ClassVar[str]
    """What follows ``session_key`` where it must be one of a step's keys, such as ``IN (…)``."""
    in_order: ClassVar[str] = "ORDER BY s.session_key"
    """What has sessions locked in one order; empty where the index does that."""
    join: ClassVar[str] = "JOIN"
    """A join that reads the table on its left first."""
    index: ClassVar[str] = ""
    """A hint to use an index, after the alias of a table; ``*`` stands for its name."""

    tables: ClassVar[dict[str, tuple[str, ...]]] = {}
    """The columns of tables that only this dialect has, or that have more of them here."""
    own: ClassVar[Mapping[Statement, str]]
    """Those of ``forms.OWN``, and statements that this dialect writes in another way."""

    def quoted_name(self, name: str) -> str:
        """Return a name in quotes; ``key`` is a reserved word in some databases."""
        return f"{self.quote}{name}{self.quote}"

    def table(self, name: str) -> str:
        """Return the name of a table, quoted."""
        return self.quoted_name(f"{{prefix}}{name}")

    @abstractmethod
    def value(self, number: int) -> str:
        """Return the placeholder of a value in a step's one row; the first is number 0."""

    @abstractmethod
    def insert(self, table: str, columns: tuple[str, ...]) -> str:
        """Return the statement that inserts all rows of a step."""

    @abstractmethod
    def update(self, update: Update) -> str:
        """Return the statement that writes the values in the rows of a step."""

    @abstractmethod
    def lookup(self, rows: Rows) -> str:
        """Return the query for rows by their keys."""

    @abstractmethod
    def delete(self, rows: Rows) -> str:
        """Return the statement that deletes rows by their keys."""

    @abstractmethod
    def listing(self, statement: Statement, listing: Listing) -> str:
        """Return the query for index entries, with their headers unless they are FIND_SHARED."""

    @abstractmethod
    def together(self, *parts: str) -> str:
        """Return one text that runs several statements."""

    def text(self, step: Step) -> str:
        """Return the text of a step. The tables' names are still to be filled in."""
        if step.statement is Statement.UPDATE_HEADERS:
            return self.written(self.update(forms.header_update(step.fields)))
        whole = self.texts[step.statement]
        if not step.fields:
            return whole
        columns = ", ".join(f"s.{name}" for name in ("session_key", *step.fields))
        return whole.replace(header_of("s"), columns)

    @cached_property
    def texts(self) -> dict[Statement, str]:
        """The text of each statement but UPDATE_HEADERS."""
        found = {
            **forms.ONE_ROW,
            **forms.MANY_ROWS,
            **dict.fromkeys(forms.INSERTS.keys() - forms.OWN, "{insert}"),
            **{each: self.update(update) for each, update in forms.UPDATES.items()},
            **{each: self.lookup(rows) for each, rows in forms.LOOKUPS.items()},
            **{each: self.delete(rows) for each, rows in forms.DELETES.items()},
            **{each: self.listing(each, listing) for each, listing in forms.LISTINGS.items()},
            **{each: self.together(*parts) for each, parts in forms.SEVERAL.items()},
            Statement.WHOLE: forms.naming_all(
                {f"{{{name}}}": columns for name, columns in (forms.TABLES | self.tables).items()}
            ),
            **self.own,
        }
        missing = [each.name for each in forms.OWN if each not in found]
        if missing:
            raise NotImplementedError(f"{type(self).__name__} has no text for {missing[0]}")
        return {statement: self.written(text, statement) for statement, text in found.items()}

    def written(self, text: str, statement: Statement | None = None) -> str:
        """Return a text with the words of this dialect."""

        def word(match: re.Match[str]) -> str:
            name = match[1]
            if name.isdigit():
                return self.value(int(name))
            if name in _TABLES:
                return self.table(_TABLES[name])
            if name == "in_names":
                return self.written(self.in_names)
            if name == "insert" and statement is not None:
                return self.written(self.insert(*forms.INSERTS[statement]))
            if name.startswith("index_"):
                return self.index.replace("*", name.removeprefix("index_"))
            return words.get(name, match[0])

        words = {
            "header": header_of("s"),
            "in_keys": self.in_keys,
            "in_order": self.in_order,
            "join": self.join,
        }
        return _WORD.sub(word, text)
