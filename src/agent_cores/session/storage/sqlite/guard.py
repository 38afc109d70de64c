"""``Guard``: keeps another SQLite library in this process from removing the files of an open store.

SQLite shows other processes with POSIX locks that a file is in use. The kernel drops all of them as
soon as anything in the process closes the file, and they have no effect within a process. So
``sqlite3.connect(path).close()``, next to this package's own SQLite, believes that it is the only
user: it removes the write-ahead log while this store still appends to it. Locks of an open file
description (``F_OFD_SETLK``, Linux) have neither problem. A guard takes two of them, as read locks:
on the bytes that SQLite locks for whoever has the file open, and on the byte that says that the
shared memory is in use. They block nothing but that removal.
"""

from __future__ import annotations

import os
import struct
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from agent_cores.session.storage.sqlite.status import Identity, status_of

if TYPE_CHECKING:
    from collections.abc import Iterable


if sys.platform == "linux":
    import fcntl

Range = tuple[int, int]
"""The first byte and the number of bytes."""

_SHARED_BYTES = 0x40000002, 510
_IN_USE_BYTE = 128, 1
_DESCRIPTORS = Path("/proc/self/fd")
_FLOCK = "hhqqi4x"

_holders: Counter[tuple[int, Identity, Range]] = Counter()
"""How many guards each descriptor has: stores of one file may share one."""
_holders_lock = RLock()


class Guard:
    """Locks on the descriptors that SQLite has open; none if the system does not support them."""

    def __init__(self, database: Iterable[int], memory: Iterable[int]) -> None:
        self._held: list[tuple[int, Identity, Range]] = []
        for descriptors, part in ((database, _SHARED_BYTES), (memory, _IN_USE_BYTE)):
            for descriptor in descriptors:
                with suppress(OSError), _holders_lock:
                    held = descriptor, _identity(descriptor), part
                    _lock(descriptor, part)
                    _holders[held] += 1
                    self._held.append(held)

    def release(self) -> None:
        """Release the file, so that SQLite can clean up when it closes it."""
        while self._held:
            held = descriptor, identity, part = self._held.pop()
            with suppress(OSError), _holders_lock:
                _holders[held] -= 1
                if _holders[held]:
                    continue
                del _holders[held]
                if _identity(descriptor) == identity:
                    _lock(descriptor, part, unlock=True)

    def __del__(self) -> None:
        """Stop counting for a store that nobody closed."""
        self.release()


def descriptors_of(path: str) -> set[int]:
    """Return this process's descriptors of a file; none if the system does not list them."""
    found: set[int] = set()
    if sys.platform != "linux":
        return found
    try:
        wanted = status_of(path).identity
        names = os.listdir(_DESCRIPTORS)  # noqa: PTH208 - numbers, not paths
    except OSError:
        return found
    for name in names:
        with suppress(OSError):  # concurrently closed
            if _identity(int(name)) == wanted:
                found.add(int(name))
    return found


def _identity(descriptor: int) -> Identity:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _lock(descriptor: int, part: Range, *, unlock: bool = False) -> None:
    kind = fcntl.F_UNLCK if unlock else fcntl.F_RDLCK
    flock = struct.pack(_FLOCK, kind, os.SEEK_SET, *part, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, flock)
