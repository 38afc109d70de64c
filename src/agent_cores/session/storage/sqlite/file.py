"""``StoreFile``: the file of an open store, and whether it is still the one at its path.

SQLite keeps using the files that it opened, wherever they are moved. Writes after a move reach the
disk and are lost all the same: whoever opens the path next finds another file or none. So every
batch and every read compares the file, its write-ahead log and its shared memory with what is at
their paths before it returns.
"""

from __future__ import annotations

import ctypes
import logging
import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

import apsw
import msgspec

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.storage.sqlite.connection import (
    apply_schema,
    newest_version,
    open_writer,
    stored_version,
)
from agent_cores.session.storage.sqlite.guard import Guard, descriptors_of
from agent_cores.session.storage.sqlite.status import Probe, status_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent_cores.session.storage.sqlite.status import Identity

_OF_NO_FILE: Identity = (-1, -1)

logger: logging.Logger = logging.getLogger("agent_cores.session")


class FileMovedError(Exception):
    """The files at the path are not those that were read; call ``StoreFile.follow`` next."""


class StoreFile:
    """One file, opened by the thread that writes to it.

    ``connection`` belongs to that thread. ``generation`` rises each time the path is opened again,
    and tells which connections and cached state belong to the current file. ``opening`` is held
    while a connection is opened, so that none is opened while the files are in doubt.
    ``close_readers`` closes all other connections within the given seconds, or returns false.
    """

    def __init__(self, path: Path, *, prefix: str, timeout: float, synchronous: str) -> None:
        self.path = path
        self.generation: int = 0
        self.opening: Lock = Lock()
        self.connection: apsw.Connection
        self.close_readers: Callable[[float], bool] = bool
        self._prefix = prefix
        self._timeout = timeout
        self._synchronous = synchronous
        self._files: tuple[tuple[str, Identity], ...] = ()
        self._probes: tuple[Probe, ...] = ()
        self._content = Content(0, 0, 0)
        self._overwritten = False
        self._closed = _OF_NO_FILE
        self._guard = Guard((), ())

    def open(self, version: int) -> None:
        """Open the file; upgrade the tables if ``version`` shows that they are old."""
        name = str(self.path)
        before = descriptors_of(name)
        connection = open_writer(self.path, self._timeout, self._synchronous)
        try:
            if version < newest_version():
                apply_schema(connection, self.path, self._prefix)
            wal = connection.filename_wal
            memory = wal.removesuffix("-wal") + "-shm"
            files = tuple((file, status_of(file).identity) for file in (name, wal, memory))
            content = _content(connection, name)
            if _has_moved(connection):
                raise OSError(f"{name} was replaced")  # noqa: TRY301 - handled like a missing file
        except OSError as error:
            connection.close()
            raise self._refused(f"changed while it was opened ({error}). Try again") from error
        except BaseException:
            connection.close()
            raise
        opened = descriptors_of(name)
        self._guard = Guard(opened - before or opened, descriptors_of(memory))
        self._files, self._content, self._overwritten = files, content, False
        self._probes = tuple(Probe(file) for file, _ in files)
        self.connection = connection
        self.generation += 1

    def holds(self, connection: apsw.Connection | None = None) -> bool:
        """Whether the files are still those at their paths: three system calls.

        With a connection of the calling thread, also whether the file was overwritten in place.
        """
        try:
            probe, log, memory = self._probes
            (_, known), (_, known_log), (_, known_memory) = self._files
            status = probe.status()
            if (
                status.identity != known
                or log.status().identity != known_log
                or memory.status().identity != known_memory
            ):
                return False
        except OSError:
            return False
        if connection is None or status.written_at == self._content.written_at:
            return True
        return self._went_on(connection)

    def _went_on(self, connection: apsw.Connection) -> bool:
        """Whether the write to the main file can have come from its own log.

        The change counter in a file's header never falls, but the file can grow without a change of
        it.
        """
        before = self._content
        try:
            now = _content(connection, self._files[0][0])
        except (OSError, apsw.Error):
            return False
        if (now.changes, now.size) < (before.changes, before.size):
            self._overwritten = True
            return False
        self._content = now
        return True

    def close(self) -> None:
        """Close the file. If another file is at its path, that one is left alone."""
        if not self.holds(self.connection if self._is_open else None):
            logger.warning("%s was moved, removed or replaced before it was closed", self.path)
            self._save()
            self._close()
            return
        self._closed = self._files[0][1]
        self._files = tuple((path, _OF_NO_FILE) for path, _ in self._files)
        self._guard.release()
        self.connection.close()

    def open_again(self) -> None:
        """Open the file after ``close``; ``StorageUnavailableError`` if it is missing."""
        there = _at(self._files[0][0])
        if there is None:
            raise self._refused("is no longer there: it was moved or removed. Put it back")
        if there == self._closed:
            self.open(newest_version())
        else:
            self._reopen()

    def follow(self) -> bool:
        """Switch to the file at the path; return whether it has everything that was committed.

        Raises ``StorageUnavailableError`` if there is no file, or none that is safe to use.
        """
        if self.holds(self.connection if self._is_open else None):
            return True
        main, wal, memory = self._files
        with self.opening:
            there = _at(main[0])
            saved = self._save()
            if there is None:
                raise self._refused("is no longer there: it was moved or removed. Put it back")
            same = there == main[1] and not self._overwritten
            if same and not saved:
                raise self._refused(
                    "lost its -wal or -shm file while it was open, and others use the file too."
                    " Stop all processes that use it, then start them again"
                )
            if not saved and _at(wal[0]) == wal[1]:
                raise self._refused(
                    "was replaced beside the -wal file of the one before, which others still use."
                    " Stop all processes that use it, then start them again"
                )
            for file, identity in (wal, memory):  # else the new file would be read with the old log
                if _at(file) == identity:
                    with suppress(OSError):
                        os.unlink(file)  # noqa: PTH108 - a str already
            self._save()  # what others committed before they could notice the move
            if not self.close_readers(self._timeout):
                raise self._refused("was moved or replaced while it was read. Try again")
            self._reopen()
        logger.warning("%s was replaced or lost its -wal or -shm file: opened anew", self.path)
        return same

    def _save(self) -> bool:
        """Move everything in the write-ahead log into the file, wherever that is now."""
        main, (log, identity), _ = self._files
        if not self._is_open or self._overwritten:
            return True  # it contains nothing that belongs to the file
        if _at(main[0]) == main[1] and _at(log) not in {None, identity} and _size(log):
            return False  # others have been writing to a new log since
        try:
            logged, moved = self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)
        except apsw.Error as error:
            logger.warning("%s: its write-ahead log stays as it is: %s", self.path, error)
            return False
        return bool(logged == moved)

    def _reopen(self) -> None:
        self._close()  # first: within a process SQLite shares memory per file
        version = stored_version(self.path, self._prefix, self._timeout)
        if version < newest_version():
            raise self._refused("was replaced by a file that holds no store. Put it back")
        self.open(version)

    @property
    def _is_open(self) -> bool:
        return self._files[0][1] != _OF_NO_FILE

    def _close(self) -> None:
        """Close the file without checking its path, after its content is saved."""
        if not self._is_open:
            return
        self._files = tuple((path, _OF_NO_FILE) for path, _ in self._files)
        self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._guard.release()
        self.connection.close()

    def _refused(self, what: str) -> StorageUnavailableError:
        return StorageUnavailableError(f"{self.path} {what}", why="replaced")


class Content(msgspec.Struct, frozen=True):
    """What shows whether a file was written to: modification time, change counter, size."""

    written_at: int
    changes: int
    size: int


def _content(connection: apsw.Connection, path: str) -> Content:
    status = status_of(path)  # first, so that a later write shows next time
    _, header = connection.read("main", 0, 0, 100)
    changes = int.from_bytes(header[24:28], "big")
    return Content(status.written_at, changes, status.size)


def _at(path: str) -> Identity | None:
    """Return the identity of the file at a path; ``None`` if there is none."""
    try:
        return status_of(path).identity
    except OSError:
        return None


def _size(path: str) -> int:
    try:
        return status_of(path).size
    except OSError:
        return 0


def _has_moved(connection: apsw.Connection) -> bool:
    """Whether the file that SQLite has open is no longer the one at its path."""
    moved = ctypes.c_int(0)
    known = connection.file_control("main", apsw.SQLITE_FCNTL_HAS_MOVED, ctypes.addressof(moved))
    return known and bool(moved.value)
