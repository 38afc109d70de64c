"""Editing a file that others read and edit too: one at a time, whole or not at all."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import contextmanager, suppress
from stat import S_IMODE
from typing import TYPE_CHECKING

from agent_cores.session.backoff import Backoff
from agent_cores.session.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_TIMEOUT = 10.0
_LONGEST_PAUSE = 0.02
_OWNER_ONLY = 0o600


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which every program that edits its files by this module takes.

    It is the folder that is locked, since the file itself is replaced. Raises
    ``ConfigurationError`` if another program holds it for 10 seconds.
    """
    try:
        import fcntl  # noqa: PLC0415 - not there on every platform
    except ImportError as error:
        raise ConfigurationError("on this platform the file is edited by hand") from error
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        backoff = Backoff(until=time.monotonic() + LOCK_TIMEOUT, longest=_LONGEST_PAUSE)
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not backoff.block():
                    raise ConfigurationError("another program is editing the file") from error
        yield
    finally:
        os.close(handle)  # which lets the lock go


def replace_file(path: Path, content: bytes) -> None:
    """Put a new content in the place of a file, on disk before this returns; readers see either.

    Mode, owner and group stay those of the file that was there; a new one is its owner's alone.
    Raises ``OSError``; then the file is as it was.
    """
    try:
        before = path.stat()
    except FileNotFoundError:
        before = None
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # A file of that name that somebody put there, a link above all, is never written to.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(new, flags, _OWNER_ONLY)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if before is not None:
                _keep_owner(file.fileno(), before)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
    _sync_folder(path.parent)


def _keep_owner(handle: int, before: os.stat_result) -> None:
    made = os.fstat(handle)
    if (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
        os.fchown(handle, before.st_uid, before.st_gid)
    os.fchmod(handle, S_IMODE(before.st_mode))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
