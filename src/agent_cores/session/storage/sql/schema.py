"""The numbered files that make a schema: ``<dialect>/schema/NNN_name.sql``, applied in order."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"(\d{3})_\w+\.sql")


def numbered_files(dialect: str) -> list[tuple[int, str]]:
    """Return the number and the text of each schema file of a dialect, in order."""
    folder = files("agent_cores.session.storage") / dialect / "schema"
    found = [(_NAME.fullmatch(file.name), file) for file in folder.iterdir()]
    return sorted((int(m[1]), file.read_text(encoding="utf-8")) for m, file in found if m)
