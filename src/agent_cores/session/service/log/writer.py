"""``LogWriter``: writes lines in a thread of its own, so that a slow reader holds nothing up.

Whoever reads the log may stall, and a pipe holds 64 KiB. Lines wait up to a bound then; past it
they are dropped, and counted, and the log says how many once it is read again.
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
"""Lines that may wait to be written."""
_END_SECONDS = 1.0
"""How long the end of the program waits for lines to be written."""


class LogWriter:
    """Writes to one stream, whatever that takes. ``dropped`` counts lines of all times."""

    def __init__(self, lost: Callable[[int], str], most: int = MOST_WAITING) -> None:
        self._lost = lost
        self._most = most
        self._waiting: deque[tuple[TextIO, str]] = deque()
        self._lines = 0
        self._to_tell = 0
        self.dropped = 0
        self._is_writing = False
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()

    def write(self, stream: TextIO, text: str, lines: int) -> None:
        """Have some lines written; returns at once. What is in memory is written here and now."""
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
            if self._thread is None or not self._thread.is_alive():  # after a fork there is none
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, seconds: float = _END_SECONDS) -> None:
        """Wait until all is written, within a bound."""
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
            if self._waiting:  # those came before what was dropped
                return
            lost, self._to_tell = self._to_tell, 0
        if lost:
            _write(stream, self._lost(lost))


def _may_block(stream: TextIO) -> bool:
    return _number(stream) is not None


def _number(stream: TextIO) -> int | None:
    """Return the file descriptor of a stream that has one."""
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _write(stream: TextIO, text: str) -> None:
    """Write, past the buffer of a file: a program that ends would wait for its lock."""
    number = _number(stream)
    with suppress(OSError, ValueError):  # closed, or full: there is nobody left to tell it to
        if number is None:
            stream.write(text)
            stream.flush()
            return
        left = text.encode(errors="backslashreplace")
        while left:
            left = left[os.write(number, left) :]
