"""``back_up``: a copy of an SQLite file, made while it is in use, and checked before it counts."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import apsw

from agent_cores.session.errors import (
    ConfigurationError,
    QuotaExceededError,
    SessionError,
    StorageUnavailableError,
    StoreFormatError,
)
from agent_cores.session.files import claimed, publish
from agent_cores.session.storage.base import BackedUp
from agent_cores.session.storage.sqlite.connection import fetch, open_reader
from agent_cores.session.storage.sqlite.errors import translating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PAGES = 2_000
"""Pages that are copied at a time, so that the program can be interrupted in between."""
_STEPS = 100_000
"""Of SQLite's machine, some milliseconds, between two questions whether to stop the check."""
_PRIVATE = 0o600


def back_up(
    source: Path,
    target: Path,
    *,
    prefix: str,
    timeout: float,
    is_stopped: Callable[[], bool],
) -> BackedUp:
    """Copy a store to a new file and return what it holds. Once ``is_stopped``, it leaves no file.

    The copy is of one instant; nobody waits for it. It has the name of the target only once
    SQLite's integrity check has passed and it has as many sessions and messages as its original.
    Raises ``ConfigurationError`` if the target exists or another process makes it.
    """
    if target.exists():
        raise ConfigurationError(f"{target} exists; name a new file for the backup")
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        with claimed(target, ".unfinished.lock"), _removed(unfinished), _blaming(target):
            os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR, _PRIVATE))
            held = _copy(source, unfinished, prefix, timeout, is_stopped)
            backed_up = _checked(unfinished, prefix, is_stopped)
            if (backed_up.sessions, backed_up.messages) != held:
                detail = f"the copy of {source} holds other sessions; nothing was kept"
                raise StoreFormatError(detail)
            publish(unfinished, target)
            _sync(target.parent)
    except SessionError:
        raise
    except OSError as error:
        problem = error.strerror or error
        raise StorageUnavailableError(f"{target} cannot be written: {problem}") from error
    return backed_up


@contextmanager
def _removed(unfinished: Path) -> Iterator[None]:
    """Remove what a killed backup left, and afterwards what this one leaves."""
    _remove(unfinished)
    try:
        yield
    finally:
        _remove(unfinished)


def _remove(file: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        file.with_name(f"{file.name}{ending}").unlink(missing_ok=True)


@contextmanager
def _blaming(target: Path) -> Iterator[None]:
    """Name the target in errors that only who writes can have."""
    try:
        yield
    except QuotaExceededError as error:
        raise QuotaExceededError(f"the disk of {target} is full") from error
    except StorageUnavailableError as error:
        if error.why != "unwritable":
            raise
        raise StorageUnavailableError(f"{target} cannot be written", why=error.why) from error


def _copy(
    source: Path, target: Path, prefix: str, timeout: float, is_stopped: Callable[[], bool]
) -> tuple[int, int]:
    """Copy all pages as of one instant; return how many sessions and messages there are."""
    with (
        translating(source),
        closing(open_reader(source, timeout)) as reader,
        closing(apsw.Connection(str(target))) as writer,
    ):
        reader.execute("BEGIN")
        held = _counts(reader, prefix)  # the first read fixes the instant
        with writer.backup("main", reader, "main") as backup:
            while not backup.done:
                if is_stopped():
                    raise StorageUnavailableError("the backup was stopped")
                backup.step(_PAGES)
        reader.execute("COMMIT")
    return held


def _checked(path: Path, prefix: str, is_stopped: Callable[[], bool]) -> BackedUp:
    with translating(path), closing(apsw.Connection(str(path))) as connection:
        connection.set_progress_handler(is_stopped, _STEPS)
        problems = [problem for (problem,) in fetch(connection, "PRAGMA integrity_check")]
        if problems != ["ok"]:
            raise StoreFormatError(f"the store is damaged, and so is its copy: {problems[0]}")
        sessions, messages = _counts(connection, prefix)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return BackedUp(sessions, messages, path.stat().st_size)


def _counts(connection: apsw.Connection, prefix: str) -> tuple[int, int]:
    [counts] = fetch(
        connection,
        f'SELECT (SELECT count(*) FROM "{prefix}sessions"),'  # noqa: S608 - letters and digits
        f' (SELECT count(*) FROM "{prefix}messages")',
    )
    return counts[0], counts[1]


def _sync(folder: Path) -> None:
    """Make sure that the name of a new file survives a power failure."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
