"""``Exchange``: one request and its response, in ASGI messages or in one piece."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from agent_cores.session.service.http1.chunks import Chunks
from agent_cores.session.service.request.budget import too_much

if TYPE_CHECKING:
    from starlette.types import Message

    from agent_cores.session.service.http1.head import Bounds, Head
    from agent_cores.session.service.request.budget import Budget

STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_GO_AHEAD = b"HTTP/1.1 100 Continue\r\n\r\n"
_UNREAD = 16_384
"""How many bytes of a body are buffered before the application asks for them, and delivered at a
time. Otherwise a body of tiny chunks would become as many objects.
"""
_SKIPPED = 65_536
"""How much of an unread body is skipped; with more, the connection closes after the response."""
_LARGE = 16_384
"""Bodies from this size on are not copied to join their head."""
_WITHOUT_BODY = {204, 304}
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class Stream(Protocol):
    """What an exchange needs from its connection."""

    budget: Budget
    is_stopping: bool

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def common_lines(self) -> bytes:
        """Return the header lines that every response has."""

    def unsent(self) -> asyncio.Future[None] | None:
        """Return a future to await until the caller has read what was sent, or ``None``."""

    def regulate(self) -> None:
        """Resume or pause reading, depending on whether the exchange needs more."""

    def finish(self, exchange: Exchange) -> None:
        """Continue after a response: with the next request, or by closing."""

    def refuse(self, error: Exception) -> None:
        """Respond with an error and close the connection."""

    def abort(self) -> None:
        """Close the connection immediately."""


class Exchange:
    """Buffers a body until the application asks for it, and writes the response."""

    __slots__ = (
        "_body",
        "_chunked_answer",
        "_chunks",
        "_connection",
        "_ended",
        "_is_refused",
        "_is_waiting",
        "_left",
        "_sends_no_body",
        "_share",
        "_waiter",
        "_wants_go_ahead",
        "has_whole_body",
        "is_answered",
        "is_gone",
        "is_started",
        "keeps_alive",
    )

    def __init__(self, connection: Stream, head: Head, bounds: Bounds) -> None:
        self._connection = connection
        self._share = connection.budget.share()
        self._sends_no_body = head.method == "HEAD"
        said = head.said
        length = said.length
        self._wants_go_ahead = said.expects_go_ahead and length != 0
        self._chunks = Chunks(bounds) if length is None else None
        self._left = length or 0
        self._body: bytes | bytearray = b""
        self._waiter: asyncio.Future[None] | None = None
        self._is_waiting = False
        self._is_refused = False
        self._ended = False
        self._chunked_answer = not head.is_1_0
        self.has_whole_body: bool = length == 0
        self.keeps_alive: bool = said.keeps_alive
        self.is_started: bool = False
        self.is_answered: bool = False
        self.is_gone: bool = False

    # Receiving

    def read(self, data: bytes | bytearray) -> int:
        """Take the bytes that belong to the body; return how many. Refuse a malformed body."""
        if self._chunks is not None:
            pieces, taken = self._chunks.read(data)
            self.has_whole_body = self._chunks.is_over
            self._keep(b"".join(pieces))
        else:
            piece = bytes(data[: self._left])
            taken = len(piece)
            self._left -= taken
            self.has_whole_body = not self._left
            self._keep(piece)
        if self.has_whole_body or len(self._body) >= _UNREAD:
            self._wake()
        return taken

    def _keep(self, piece: bytes) -> None:
        if self.is_answered or self._is_refused:
            return
        if not self._share.take(len(piece)):
            self._is_refused = True
            self._body = b""
            self._wake()
        elif not self._body:
            self._body = piece
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += piece

    @property
    def has_more_at_hand(self) -> bool:
        """Whether :meth:`read` stopped only to let other tasks run."""
        return self._chunks is not None and not self._chunks.is_waiting and not self.has_whole_body

    @property
    def wants_more(self) -> bool:
        """Whether the body is incomplete, and more of it can be used now."""
        if self.has_whole_body:
            return False
        return self.is_answered or self._is_waiting or len(self._body) < _UNREAD

    def body(self) -> bytes | None:
        """Return the complete body, once, if it is here and needs no ``100 Continue``."""
        if not self.has_whole_body or self._wants_go_ahead or self._ended or self._is_refused:
            return None
        self._ended = True
        return self._taken()

    async def receive(self) -> Message:
        """Wait for the next part of the body and, after the last, for the caller to disconnect."""
        if self._wants_go_ahead and not self.is_started:
            self._wants_go_ahead = False
            self._connection.write(_GO_AHEAD)
        while True:
            if self._is_refused and not self.is_started:
                raise too_much()
            if self.is_gone or self.is_answered:
                return {"type": "http.disconnect"}
            if not self._ended and (self.has_whole_body or len(self._body) >= _UNREAD):
                self._ended = self.has_whole_body
                body = self._taken()
                return {"type": "http.request", "body": body, "more_body": not self._ended}
            await self._more()

    def _taken(self) -> bytes:
        body, self._body = self._body, b""
        return bytes(body)

    async def _more(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        self._is_waiting = True
        self._connection.regulate()
        try:
            await self._waiter
        finally:
            self._is_waiting = False
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def leave(self) -> None:
        """Note that the caller has disconnected."""
        self.is_gone = True
        self._body = b""
        self._wake()

    # Sending

    def answer(
        self, status: int, head: bytes, body: bytes, *, closes: bool = False
    ) -> asyncio.Future[None] | None:
        """Send a complete response; ``head`` is header lines.

        Returns a future to await until the caller has read it, or ``None``.
        """
        if self.is_started:
            raise RuntimeError("this request has been answered")
        if self.is_gone:
            return None
        lines = self._start(status, head, closes=closes)
        connection = self._connection
        if self._sends_no_body:
            body = b""
        if len(body) < _LARGE:
            connection.write(lines + body)
        else:
            connection.write(lines)
            connection.write(body)
        return self._finish()

    async def send(self, message: Message) -> None:
        """Send a part of a response, given as an ASGI message."""
        if self.is_gone:
            return
        if message["type"] == "http.response.start":
            if self.is_started:
                raise RuntimeError("this request has been answered")
            self._start_by_message(message)
            return
        if not self.is_started or self.is_answered:
            raise RuntimeError(f"{message['type']} comes after http.response.start, before its end")
        more = bool(message.get("more_body", False))
        self._write_part(message.get("body", b""), more=more)
        waits_for = self._connection.unsent() if more else self._finish()
        if waits_for is not None:
            await waits_for

    def _start_by_message(self, message: Message) -> None:
        status: int = message["status"]
        has_length, closes = False, False
        lines: list[bytes] = []
        for name, value in message.get("headers", ()):
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise RuntimeError("a header that cannot be sent")
            lowered = name.lower()
            if lowered == b"connection":
                closes = closes or b"close" in value.lower()
                continue
            if lowered == b"transfer-encoding":
                continue
            has_length = has_length or lowered == b"content-length"
            lines.append(b"%b: %b\r\n" % (lowered, value))
        self._sends_no_body = self._sends_no_body or status in _WITHOUT_BODY
        if has_length or self._sends_no_body:
            self._chunked_answer = False
        elif self._chunked_answer:
            lines.append(b"transfer-encoding: chunked\r\n")
        else:
            closes = True  # closing the connection ends the body
        self._connection.write(self._start(status, b"".join(lines), closes=closes))

    def _write_part(self, body: bytes, *, more: bool) -> None:
        if self._sends_no_body:
            return
        if not self._chunked_answer:
            self._connection.write(body)
            return
        part = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        self._connection.write(part if more else part + b"0\r\n\r\n")

    def _start(self, status: int, head: bytes, *, closes: bool) -> bytes:
        self.is_started = True
        if closes or not self._can_go_on() or self._connection.is_stopping:
            self.keeps_alive = False
        if not self.keeps_alive:
            head += b"connection: close\r\n"
        line = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        return b"%b%b%b\r\n" % (line, self._connection.common_lines(), head)

    def _can_go_on(self) -> bool:
        """Whether the next request can be reached: the rest of the body is small and is coming."""
        if self.has_whole_body:
            return True
        return self._chunks is None and self._left <= _SKIPPED and not self._wants_go_ahead

    def _finish(self) -> asyncio.Future[None] | None:
        self.is_answered = True
        self._body = b""
        self._wake()
        unsent = self._connection.unsent()
        self._connection.finish(self)
        return unsent

    def end(self) -> None:
        """Note that the application is done and no longer holds the body."""
        self._share.give_back()
        if self.is_answered or self.is_gone:
            return
        if self.is_started:
            self._connection.abort()
        else:
            self._connection.refuse(RuntimeError("no answer"))

    def extension(self) -> dict[str, Any]:
        """Return the extension that is offered beside ASGI's messages."""
        return {"answer": self.answer, "body": self.body}
