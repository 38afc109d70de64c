"""``Chunks``: a body in chunks. Its trailers are checked and dropped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent_cores.session.service.http1.head import check_begun_fields, read_fields
from agent_cores.session.service.problems import Refusal

if TYPE_CHECKING:
    from agent_cores.session.service.http1.head import Bounds

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16}+)(?:;[\t\x20-\x7e\x80-\xff]*+)?[ \t]*+\r\n")
_FRAMING = {b"content-length", b"transfer-encoding"}
_MOST_LINE = 256
"""Largest size in bytes of the line before a chunk, with its extensions."""

MOST_AT_ONCE = 2_000
"""How many chunks are read before other tasks run: one read may hold tens of thousands."""


class Chunks:
    """Reads one chunked body.

    ``is_over``: everything has arrived, trailers included. ``is_waiting``: more bytes are needed.
    """

    __slots__ = ("_bounds", "_left", "_place", "is_over", "is_waiting")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._left = 0
        self._place = "size"
        self.is_over: bool = False
        self.is_waiting: bool = True

    def read(self, data: bytes | bytearray) -> tuple[list[bytes], int]:
        """Return pieces of the body, and how many bytes were used; refuse malformed chunks.

        Pass the unused bytes again, followed by what arrives later.
        """
        pieces: list[bytes] = []
        at = 0
        self.is_waiting = False
        for _ in range(MOST_AT_ONCE):
            before, place = at, self._place
            at = getattr(self, f"_{place}")(data, at, pieces)
            if self.is_over:
                break
            if at == before and place == self._place:
                self.is_waiting = True
                break
        return pieces, at

    def _size(self, data: bytes | bytearray, at: int, _: list[bytes]) -> int:
        line = _SIZE.match(data, at, at + _MOST_LINE)
        if line is None:
            end = data.find(b"\n", at, at + _MOST_LINE)
            if end >= 0 or len(data) - at >= _MOST_LINE:
                raise Refusal("malformed_request", "the body is not made of chunks")
            return at
        self._left = int(line[1], 16)
        self._place = "data" if self._left else "trailers"
        return line.end()

    def _data(self, data: bytes | bytearray, at: int, pieces: list[bytes]) -> int:
        piece = bytes(data[at : at + self._left])
        if piece:
            pieces.append(piece)
            self._left -= len(piece)
        if not self._left:
            self._place = "end"
        return at + len(piece)

    def _end(self, data: bytes | bytearray, at: int, _: list[bytes]) -> int:
        end = bytes(data[at : at + 2])
        if not b"\r\n".startswith(end):
            raise Refusal("malformed_request", "a chunk is longer than it says")
        if len(end) < 2:  # noqa: PLR2004 - CR and LF
            return at
        self._place = "size"
        return at + 2

    def _trailers(self, data: bytes | bytearray, at: int, _: list[bytes]) -> int:
        """Check trailers and drop them: they must not pass for headers."""
        if data.startswith(b"\r\n", at):
            self.is_over = True
            return at + 2
        end = data.find(b"\r\n\r\n", at, at + self._bounds.fields + 2)
        if end >= 0:
            names = {name for name, _ in read_fields(bytes(data[at:end]), self._bounds)}
            if names & _FRAMING:
                raise Refusal("malformed_request", "the length of the body is ambiguous")
            self.is_over = True
            return end + 4
        check_begun_fields(data, at, self._bounds)
        return at
