"""Write a file that nobody else writes, and ``publish`` it under its name, never over another."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agent_cores.session.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_NO_LINKS = {errno.EPERM, *_UNSUPPORTED}
_NO_LOCKS = {errno.ENOLCK, *_UNSUPPORTED}
_PRIVATE = 0o600


def local_path(text: str, what: str) -> Path:
    """Return a path; ``ConfigurationError`` for a URL, which may hold a password."""
    if "://" in text:
        raise ConfigurationError(f"{what} is a path on this machine, not a URL")
    return Path(text)


@contextmanager
def claimed(target: Path, ending: str) -> Iterator[BinaryIO]:
    """Open a file beside the target, which only the block uses, and remove it afterwards.

    Its name is the target's with the ending. What a killed process left in it is still there.
    Raises ``ConfigurationError`` if another process has claimed it.
    """
    path = target.with_name(target.name + ending)
    with open(path, "ab", opener=_private) as file:
        if not claim(file) or not _is_at(file, path):
            raise ConfigurationError(f"another process is writing {target}")
        try:
            yield file
        finally:
            is_ours = _is_at(file, path)
            if os.name == "nt":
                file.close()  # Windows removes no open file
            if is_ours:
                path.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, _PRIVATE)


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether the path names this file: before the lock, another process may have published it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def claim(file: BinaryIO) -> bool:
    """Lock a file until it is closed or the process ends; false if another process has locked it.

    Without ``flock`` (Windows), and on a file system without locks, it is not locked.
    """
    try:
        import fcntl  # noqa: PLC0415 - not available on every platform
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def publish(unfinished: Path, path: Path) -> None:
    """Give a finished file its name; ``FileExistsError`` if another has it.

    A hard link does so in one step. On file systems without them, such as FAT and some network
    shares, it takes two: a check and a rename.
    """
    try:
        os.link(unfinished, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            problem = os.strerror(errno.EEXIST)
            raise FileExistsError(errno.EEXIST, problem, str(path)) from error
        unfinished.rename(path)
