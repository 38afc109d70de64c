"""The types of PostgreSQL's columns, and how many rows travel to it: as one array a column."""

from __future__ import annotations

from agent_cores.session.codec import HEADER_FIELDS
from agent_cores.session.storage.sql.forms import TEXT_COLUMNS

_BYTES = ("title", "tags", "attributes", "grants")
_FLAGS = ("format", "archived", "public")
_SECONDS = ("ttl_seconds", "max_lifetime_seconds")
COLUMN_TYPES = {
    **dict.fromkeys(HEADER_FIELDS, "bigint"),
    **{name: "text" for name in HEADER_FIELDS if name in TEXT_COLUMNS},
    **dict.fromkeys(_BYTES, "bytea"),
    **dict.fromkeys(_FLAGS, "smallint"),
    **dict.fromkeys(_SECONDS, "double precision"),
}
"""The type of each header column; those not named otherwise are integers."""


_TYPES = {
    **COLUMN_TYPES,
    **dict.fromkeys(TEXT_COLUMNS, "text"),
    **dict.fromkeys(("body", "value"), "bytea"),
}
"""The type of each column of any table that is not ``bigint``."""


def arrays_of(*columns: str) -> str:
    """Return the arrays of these columns, ``$1::type[], $2::…``, for ``unnest``."""
    return ", ".join(
        f"${place}::{_TYPES.get(name, 'bigint')}[]" for place, name in enumerate(columns, 1)
    )
