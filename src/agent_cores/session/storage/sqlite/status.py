"""``Probe``: which file is at a path, found without releasing the GIL where possible.

The writing thread asks this before it returns a batch's results. ``os.stat`` releases the GIL for a
microsecond of work, and must then wait for it while the event loop is busy: three of these calls
cost a batch more than its rows.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

Identity = tuple[int, int]
"""The device and inode of a file."""


class Status(msgspec.Struct, frozen=True, gc=False):
    """A file's identity, its size in bytes, and its modification time in nanoseconds."""

    identity: Identity
    size: int
    written_at: int


def status_of(path: str) -> Status:
    """Return the status of the file at a path; ``OSError`` if there is none."""
    status = os.stat(path)  # noqa: PTH116 - a str already
    return Status((status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns)


# Linux's struct statx, the same on every architecture: inode, size, modification time, device.
_STATX = Struct("=32xQQ64xqI12xII112x")
_STATX_MTIME_INO_SIZE = 0x40 | 0x100 | 0x200
_AT_FDCWD = -100


def _statx() -> Callable[[int, bytes, int, int, object], int] | None:
    """Return the system call, made while holding the GIL; ``None`` if the system lacks it."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            call = ctypes.PyDLL(None).statx
            whole = ctypes.c_int
            call.argtypes = whole, ctypes.c_char_p, whole, ctypes.c_uint, ctypes.c_void_p
            return call
    return None


_STATX_CALL = _statx()


class Probe:
    """Gets the status of one path, repeatedly and from any thread."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._encoded = os.fsencode(path)
        self._buffer = ctypes.create_string_buffer(_STATX.size)

    def status(self) -> Status:
        """Return the status of the file at the path; ``OSError`` if there is none."""
        if _STATX_CALL is None or _STATX_CALL(
            _AT_FDCWD, self._encoded, 0, _STATX_MTIME_INO_SIZE, self._buffer
        ):
            return status_of(self.path)  # raises the right error, or succeeds
        inode, size, seconds, nanos, major, minor = _STATX.unpack(self._buffer)
        return Status((os.makedev(major, minor), inode), size, seconds * 1_000_000_000 + nanos)
