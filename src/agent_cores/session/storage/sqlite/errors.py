"""Translates apsw's errors, in this one place, so that none reaches callers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import apsw

from agent_cores.session.errors import (
    ConflictError,
    SessionError,
    StorageUnavailableError,
    StoreFormatError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY = (apsw.BusyError, apsw.LockedError)
_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, apsw.SQLError)


def translated(error: apsw.Error, path: Path, *, outcome_unknown: bool = False) -> SessionError:
    """Return the error that a driver error means to callers."""
    if isinstance(error, _DAMAGED):
        return StoreFormatError(f"{path} is damaged or not a store of this program ({error})")
    if isinstance(error, apsw.ConstraintError):
        return ConflictError("a record that must be unique was given twice")
    if isinstance(error, BUSY):
        detail = f"{path} stayed locked by another process for the whole SESSION_TIMEOUT"
    else:
        detail = f"{path}: {type(error).__name__}: {error}"
    return StorageUnavailableError(detail, outcome_unknown=outcome_unknown)


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Translate every error of the driver that is raised inside."""
    try:
        yield
    except apsw.Error as error:
        raise translated(error, path) from error
