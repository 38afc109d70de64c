"""What an operator should know of an SQLite file: its schema, its size, the room on its disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import apsw

from agent_cores.session.storage.findings import Finding, problem
from agent_cores.session.storage.sqlite.connection import newest_version, stored_version

if TYPE_CHECKING:
    from pathlib import Path

_MIB = 1_048_576
_LEAST_FREE = 256 * _MIB
"""Bytes: the write-ahead log alone may grow to 64 MiB between checkpoints."""


def findings_of(path: Path, prefix: str, timeout: float) -> list[Finding]:
    """Return the findings about a file that is a store."""
    version, newest = stored_version(path, prefix, timeout), newest_version()
    return [
        Finding(about="server version", found=f"SQLite {apsw.sqlite_lib_version()}"),
        Finding(about="schema", found=f"{version}; this program knows {newest}"),
        _room(path),
    ]


def _room(path: Path) -> Finding:
    size, free = path.stat().st_size, shutil.disk_usage(path.parent).free
    found = f"the file has {size // _MIB} MiB, its disk {free // _MIB} MiB free"
    if free >= _LEAST_FREE:
        return Finding(about="disk", found=found)
    return problem("disk", found, "make room: a full disk refuses every write")
