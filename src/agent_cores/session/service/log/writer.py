"""``LogWriter``: writes lines in its own thread, so that a slow log reader blocks nothing.

The log's reader may stall, and a pipe holds only 64 KiB. Lines then wait in a bounded queue. Lines
beyond the bound are dropped and counted, and the log reports the number once it is read again.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_WAITING = 10_000
"""How many lines may wait to be written."""
_END_SECONDS = 1.0
"""How long the program waits at exit for lines to be written."""


class LogWriter:
    """Writes to one stream, however long that takes. ``dropped`` counts all lines ever dropped."""

    def __init__(self, lost: Callable[[int], str], most: int = MOST_WAITING) -> None:
        self._lost = lost
        self._most = most
        self._waiting: deque[tuple[TextIO, str]] = deque()
        self._lines = 0
        self._to_tell = 0
        self.dropped: int = 0
        self._is_writing = False
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()

    def write(self, stream: TextIO, text: str, lines: int) -> None:
        """Queue lines for writing; returns immediately. In-memory streams are written directly."""
        with self._changed:
            if not self._waiting and not self._is_writing and not _may_block(stream):
                _write(stream, text)
                return
            if self._lines + lines > self._most:
                self.dropped += lines
                self._to_tell += lines
                return
            self._lines += lines
            self._waiting.append((stream, text))
            if self._thread is None or not self._thread.is_alive():  # none after a fork
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, seconds: float = _END_SECONDS) -> None:
        """Wait until everything is written, for a bounded time."""
        until = time.monotonic() + seconds
        with self._changed:
            while (self._waiting or self._is_writing) and self._thread is not None:
                left = until - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return
                self._changed.wait(left)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                stream, text = self._waiting.popleft()
                self._lines -= text.count("\n")
                self._is_writing = True
            try:
                _write(stream, text)
                self._tell_lost(stream)
            finally:
                with self._changed:
                    self._is_writing = False
                    self._changed.notify_all()

    def _tell_lost(self, stream: TextIO) -> None:
        with self._changed:
            if self._waiting:  # those were queued before the dropped lines
                return
            lost, self._to_tell = self._to_tell, 0
        if lost:
            _write(stream, self._lost(lost))


def _may_block(stream: TextIO) -> bool:
    return _number(stream) is not None


def _number(stream: TextIO) -> int | None:
    """Return the file descriptor of the stream, if it has one."""
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _write(stream: TextIO, text: str) -> None:
    """Write past the file's buffer: at exit, the program would wait for that buffer's lock."""
    number = _number(stream)
    with suppress(OSError, ValueError):  # closed or full: nowhere is left to report it
        if number is None:
            stream.write(text)
            stream.flush()
            return
        left = text.encode(errors="backslashreplace")
        while left:
            left = left[os.write(number, left) :]
