"""What somebody meant who gave a storage that there is not: a path, memory, a scheme misspelt."""

from __future__ import annotations

import difflib
import re
from pathlib import PurePath
from typing import TYPE_CHECKING

from agent_cores.session.errors import UnknownStorageError

if TYPE_CHECKING:
    from collections.abc import Collection

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_FILE = re.compile(r"\.(db|db3|sqlite|sqlite3)$", re.IGNORECASE)


def refuse_a_path(storage: object, names: Collection[str]) -> None:
    """Raise ``UnknownStorageError`` for a path where a URL belongs; it says what to write."""
    if isinstance(storage, PurePath):
        storage = str(storage)
    elif not isinstance(storage, str) or "://" in storage or storage.lower() in names:
        return
    if not storage or storage.isspace():
        known = ", ".join(sorted(names))
        raise UnknownStorageError(f"storage is empty: give a name or a URL; known are {known}")
    if storage.endswith(":memory:"):
        raise UnknownStorageError("for sessions in memory alone write memory://")
    if _DRIVE.match(storage):
        path = storage.replace("\\", "/")
    elif "@" not in storage and storage.startswith("sqlite:"):
        raise UnknownStorageError("the URL of a file of SQLite begins with sqlite:///")
    elif "@" not in storage and (_FILE.search(storage) or storage.startswith(("/", ".", "~"))):
        path = storage
    else:
        return  # not to be taken for a path, and it may hold a password
    raise UnknownStorageError(f"{storage} is a path; for a file of SQLite write sqlite:///{path}")


def nearest(name: str, known: Collection[str]) -> str:
    """Return the end of a message: which known name resembles this one, if one does."""
    found = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {found[0]}?" if found else ""
