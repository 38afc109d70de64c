"""``Names``: the names of a store's tables."""

from __future__ import annotations

import re

import msgspec

from agent_cores.session.errors import ConfigurationError

DEFAULT_PREFIX = "agent_cores_"
"""The default prefix of a new store's tables."""

_PREFIX = re.compile(r"[A-Za-z0-9_]{0,40}")  # with the longest of our names, under 63 bytes
_LONGEST_NAME = 63
_NOT_IN_NAMES = "\"'{}"


class Names(msgspec.Struct, frozen=True):
    """A prefix of the tables, and the schema in which they are, where a database has schemas."""

    prefix: str
    schema: str | None = None

    def __post_init__(self) -> None:
        """Reject text that cannot be part of a name."""
        check_prefix(self.prefix)
        name = self.schema
        if name is None:
            return
        if not name.isprintable() or not set(_NOT_IN_NAMES).isdisjoint(name):
            raise ConfigurationError(f"database_schema must not contain any of {_NOT_IN_NAMES}")
        if not 1 <= len(name.encode()) <= _LONGEST_NAME:
            raise ConfigurationError(f"database_schema must be 1 to {_LONGEST_NAME} bytes long")

    def fill(self, statement: str) -> str:
        """Fill ``{schema}``, quoted, and ``{prefix}``, which is within quotes, into a statement."""
        filled = statement.replace("{prefix}", self.prefix)
        return filled if self.schema is None else filled.replace("{schema}", f'"{self.schema}"')

    def candidates(self, *, find: bool) -> list[Names]:
        """Return the names that a store may have; a new store gets the first.

        ``find``: the caller asked for no prefix, so a store with the default prefix or with this
        one is used.
        """
        default = msgspec.structs.replace(self, prefix=DEFAULT_PREFIX)
        return [default, self] if find else [self]


def check_prefix(prefix: str) -> None:
    """Raise ``ConfigurationError`` for a prefix that table names cannot have."""
    if _PREFIX.fullmatch(prefix) is None:
        raise ConfigurationError(
            "table_prefix must consist of letters, digits and _, at most 40 of them"
        )
