"""Rows of a foreign database whose keys cannot be read: they are named, and the others imported."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from agent_cores.session.frameworks.databases import Database, Needed, quoted
from agent_cores.session.frameworks.found import LeftOut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_NAMED = 100
_LONGEST = 64
"""Characters of a value that name a row."""


async def rows_without(database: Database, table: str, needed: Needed) -> AsyncIterator[LeftOut]:
    """Yield each row of a table without what is needed; those after the hundredth as one."""
    columns = (*needed.texts, *needed.order)
    unusable = f"NOT ({' AND '.join(database.conditions(table, needed))})"
    # S608: nothing but names of the schema.
    of = f"FROM {quoted(table)} WHERE {unusable}"
    rows = await database.rows(f"SELECT {quoted(*columns)} {of} LIMIT {_NAMED + 1}")
    for row in rows[:_NAMED]:
        yield _left_out(table, needed, dict(zip(columns, row, strict=True)))
    if len(rows) > _NAMED:
        [(count,)] = await database.rows(f"SELECT COUNT(*) {of}")
        problem = f"a key ({', '.join(columns)}) is missing, binary or no text"
        yield LeftOut(f"{count - _NAMED} more rows of {table}", problem)


def _left_out(table: str, needed: Needed, row: dict[str, object]) -> LeftOut:
    """Name a row by the keys that it has, and say what is wrong with the others."""
    problems = {name: _problem(value, name in needed.texts) for name, value in row.items()}
    has = [f"{name} {str(row[name])[:_LONGEST]}" for name in row if problems[name] is None]
    lacks = [f"{name} is {problem}" for name, problem in problems.items() if problem is not None]
    return LeftOut(
        f"a row of {table}" + (f" with {', '.join(has)}" if has else ""), ", ".join(lacks)
    )


def _problem(value: object, is_text: bool) -> str | None:  # noqa: FBT001 - private
    if value is None:
        return "missing"
    if isinstance(value, bytes):
        return "binary"
    if is_text and not isinstance(value, str):
        return "a number" if isinstance(value, int | float | Decimal) else "no text"
    return None
