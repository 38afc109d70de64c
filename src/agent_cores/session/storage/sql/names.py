"""``Names``: where the tables are."""

from __future__ import annotations

import re

import msgspec

from agent_cores.session.errors import ConfigurationError

DEFAULT_PREFIX = "agent_cores_"
"""With what the names of a new store's tables begin, unless something else was asked for."""

_PREFIX = re.compile(r"[A-Za-z0-9_]{0,40}")  # 40 and the longest of our names stay under 63 bytes
_LONGEST_NAME = 63
_NOT_IN_NAMES = "\"'{}"


class Names(msgspec.Struct, frozen=True):
    """Where the tables are. Given names are quoted, so upper case stays upper case."""

    schema: str
    prefix: str

    def __post_init__(self) -> None:
        """Refuse what cannot be part of a name."""
        if _PREFIX.fullmatch(self.prefix) is None:
            raise ConfigurationError("table_prefix is letters, digits and _, at most 40")
        name = self.schema
        if not name.isprintable() or not set(_NOT_IN_NAMES).isdisjoint(name):
            raise ConfigurationError(f"database_schema holds none of {_NOT_IN_NAMES}")
        if not 1 <= len(name.encode()) <= _LONGEST_NAME:
            raise ConfigurationError(f"database_schema is 1 to {_LONGEST_NAME} bytes")

    def fill(self, statement: str) -> str:
        """Put the names into a statement that holds ``{schema}`` and ``{prefix}``."""
        quoted = f'"{self.schema}"'
        return statement.replace("{schema}", quoted).replace("{prefix}", self.prefix)
