"""``status_of``: which file lies at a path, asked without releasing the GIL where that is possible.

The writing thread asks before it answers a batch. ``os.stat`` releases the GIL for about a
microsecond's work, and then waits for it while the event loop is at work: three of them cost a
batch more than its rows.
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
"""Device and inode of a file."""


class Status(msgspec.Struct, frozen=True, gc=False):
    """Which file it is, how many bytes it has, and when it was written to, in nanoseconds."""

    identity: Identity
    size: int
    written_at: int


def _of_os(path: str) -> Status:
    status = os.stat(path)  # noqa: PTH116 - a str already
    return Status((status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns)


# struct statx of Linux, the same on every architecture: inode, size, when it was modified, device.
_STATX = Struct("=32xQQ64xqI12xII112x")
_STATX_MTIME_INO_SIZE = 0x40 | 0x100 | 0x200
_AT_FDCWD = -100


def _by_statx() -> Callable[[str], Status] | None:
    """Return what asks the kernel with the GIL held; ``None``: this system has no such call."""
    if sys.platform != "linux":
        return None
    with suppress(OSError, AttributeError):
        statx = ctypes.PyDLL(None).statx
        statx.argtypes = ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p

        def of_kernel(path: str) -> Status:
            buffer = ctypes.create_string_buffer(_STATX.size)
            if statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_MTIME_INO_SIZE, buffer):
                return _of_os(path)  # which says what is wrong, or knows better
            inode, size, seconds, nanos, major, minor = _STATX.unpack(buffer)
            identity = os.makedev(major, minor), inode
            return Status(identity, size, seconds * 1_000_000_000 + nanos)

        return of_kernel
    return None


status_of = _by_statx() or _of_os
"""Return the status of the file at a path; ``OSError`` if there is none."""
