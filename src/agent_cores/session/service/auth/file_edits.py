"""Edit a file that other programs read and edit too: one editor at a time, atomically."""

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
    """Hold the lock of a folder, which every program takes that edits its files with this module.

    The folder is locked because the file itself is replaced. Raises ``ConfigurationError`` if
    another program holds the lock for 10 seconds.
    """
    try:
        import fcntl  # noqa: PLC0415 - not available on every platform
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
        os.close(handle)  # this releases the lock


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically; it is on disk before this returns.

    Readers see the old content or the new. The new file keeps mode, owner and group of the old one;
    if there was none, only its owner can access it. Raises ``OSError``; the file is then unchanged.
    """
    try:
        before = path.stat()
    except FileNotFoundError:
        before = None
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # Never write to an existing file of that name, least of all through a planted link.
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
