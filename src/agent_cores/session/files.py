"""``claim`` a file to write, and ``publish`` it under its name, never over another file."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def claim(file: BinaryIO) -> bool:
    """Lock a file until it is closed or the process ends; false if another process has locked it.

    Without ``flock`` (Windows) it is not locked.
    """
    try:
        import fcntl  # noqa: PLC0415 - not available on every platform
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def publish(unfinished: Path, path: Path) -> None:
    """Give a finished file its name; ``FileExistsError`` if another has it.

    A hard link does so in one step. File systems without them, such as FAT and some network shares,
    get a look and a rename.
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
