"""Translates apsw's errors, in this one place, so that none reaches callers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import apsw

from agent_cores.session.errors import (
    ConflictError,
    QuotaExceededError,
    SessionError,
    StorageUnavailableError,
    StoreFormatError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY = (apsw.BusyError, apsw.LockedError)
_UNWRITABLE = frozenset(
    {
        apsw.SQLITE_IOERR_WRITE,
        apsw.SQLITE_IOERR_FSYNC,
        apsw.SQLITE_IOERR_DIR_FSYNC,
        apsw.SQLITE_IOERR_TRUNCATE,
        apsw.SQLITE_IOERR_SHMSIZE,
    }
)
"""What the disk, or a quota, answers to writes alone."""
_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, apsw.SQLError)


def translated(error: apsw.Error, path: Path, *, outcome_unknown: bool = False) -> SessionError:
    """Return the error that a driver error means to callers."""
    if isinstance(error, _DAMAGED):
        return StoreFormatError(f"{path} is damaged or not a store of this program ({error})")
    if isinstance(error, apsw.ConstraintError):
        return ConflictError("a record that must be unique was given twice")
    if isinstance(error, apsw.FullError):
        return QuotaExceededError(f"the disk of {path} is full")
    if isinstance(error, BUSY):
        detail = f"{path} stayed locked by another process for the whole SESSION_TIMEOUT"
    elif isinstance(error, apsw.CantOpenError):
        detail = (
            f"{path} cannot be opened: SQLite must be able to write into its folder, to read too"
        )
    else:
        detail = f"{path}: {type(error).__name__}: {error}"
    refused = (
        isinstance(error, apsw.ReadOnlyError)
        or getattr(error, "extendedresult", None) in _UNWRITABLE
    )
    why: Literal["unwritable"] | None = "unwritable" if refused else None
    return StorageUnavailableError(detail, outcome_unknown=outcome_unknown, why=why)


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Translate every error of the driver that is raised inside."""
    try:
        yield
    except apsw.Error as error:
        raise translated(error, path) from error
