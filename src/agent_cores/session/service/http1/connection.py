"""``Connection``: one HTTP/1.1 connection, which handles one request at a time.

Memory does not grow with what a caller sends: heads and trailers have bounds, and a body is not
read until it is needed. While a request is in flight or its response is unread, at most one read's
worth of the next requests is held. ``Acceptor`` enforces the deadlines of all connections.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import unquote

from agent_cores.session.service.http1.exchange import Exchange
from agent_cores.session.service.http1.head import read_head
from agent_cores.session.service.http1.write_buffer import WriteBuffer
from agent_cores.session.service.request.budget import FREE, too_much
from agent_cores.session.service.responses import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_cores.session.service.http1.head import Bounds, Head
    from agent_cores.session.service.problems import Refusal
    from agent_cores.session.service.request.budget import Budget, Share

NEVER = float("inf")
_MIB, _UNSENT_BYTES = 1_048_576, 65_536
LAST_SECONDS = 1.0  # for the first request of a connection that a stopping server has accepted
_LINGER_SECONDS = 2.0
_STALLED_SECONDS = 1.0  # a stopping server waits no longer for a caller who reads nothing


class Shared(Protocol):
    """What the connections of a process share. Times are in seconds; 0 is unlimited."""

    loop: asyncio.AbstractEventLoop
    budget: Budget
    bounds: Bounds
    app_state: dict[str, Any]
    offers_whole: bool
    keep_alive_seconds: float
    head_seconds: float
    send_seconds: float

    def enter(self, connection: Connection) -> Refusal | None:
        """Register a new connection; return a refusal if there are too many."""

    def leave(self, connection: Connection) -> None:
        """Unregister a closed connection."""

    def start(self, exchange: Exchange, scope: dict[str, Any]) -> None:
        """Start the application on a request."""

    def count(self) -> None:
        """Count a finished request."""

    def common_lines(self) -> bytes:
        """Return the header lines that every response has, such as the date."""

    def refusal(self, error: Exception, head: bytes) -> bytes:
        """Return the complete response to a malformed request; ``head`` is what has arrived."""

    def has_something(self, transport: asyncio.Transport) -> bool:
        """Whether bytes have arrived that the loop has not read yet."""


class Connection(asyncio.Protocol):
    """Speaks HTTP/1.1 with one caller."""

    def __init__(self, acceptor: Shared) -> None:
        self._acceptor = acceptor
        self._loop = acceptor.loop
        self.budget: Budget = acceptor.budget
        self.write: Callable[[bytes], None]
        self.came: bytes | bytearray = b""
        self._exchange: Exchange | None = None
        self._share: Share | None = None
        self._is_reading = True
        self._is_unsent = self._has_ended = self._is_lingering = self._has_begun = False
        self._waiters: list[asyncio.Future[None]] = []
        self._is_new = True
        self._unsent_before = -1
        self._looked_at = 0.0
        self.is_stopping: bool = False
        self.deadline: float = NEVER

    # Callbacks of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept a connection, or refuse it if there are too many."""
        stream = cast("asyncio.Transport", transport)
        stream.set_write_buffer_limits(high=_UNSENT_BYTES)
        self._transport = stream
        self._buffer = WriteBuffer(stream, self._loop)
        self.write = self._buffer.write
        self._server = _address(stream.get_extra_info("sockname"))
        self._client = _address(stream.get_extra_info("peername"))
        self._await_request()
        refusal = self._acceptor.enter(self)
        if refusal is not None:
            self.refuse(refusal)

    def data_received(self, data: bytes) -> None:
        """Buffer the bytes, and process what is complete."""
        if self._is_lingering:
            return
        if not self.came:
            self.came = data
        else:
            if isinstance(self.came, bytes):
                self.came = bytearray(self.came)
            self.came += data
        self._advance()

    def eof_received(self) -> bool:
        """Finish the request that the caller sent before closing its side, then close."""
        exchange = self._exchange
        if self._is_lingering or exchange is None or not exchange.has_whole_body:
            self._buffer.flush()
            return False
        self._has_ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything."""
        del exc
        self._acceptor.leave(self)
        self.came = b""
        if self._share is not None:
            self._share.give_back()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Note that the caller is not reading, and set the deadline for that."""
        self._is_unsent = True
        size = self._transport.get_write_buffer_size()
        self._end_in(self._acceptor.send_seconds * (1 + size // _MIB))

    def resume_writing(self) -> None:
        """Continue: the caller has read most of the response."""
        self._is_unsent = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._transport.is_closing():
            return
        exchange = self._exchange
        if self._is_lingering or (exchange is not None and exchange.is_answered):
            self._end_in(_LINGER_SECONDS)
        elif exchange is not None:
            self.deadline = NEVER
        else:
            self._await_request()

    # Receiving

    def _advance(self) -> None:
        """Process as much as possible of what has arrived."""
        try:
            while self.came and not self._is_lingering and not self._transport.is_closing():
                exchange = self._exchange
                if exchange is None:
                    if self._is_unsent or not self._begin():
                        break
                elif exchange.has_whole_body:
                    break
                else:
                    self._read_body(exchange)
                    if exchange.has_more_at_hand:
                        self._loop.call_soon(self._advance)
                        self._read(on=False)
                        return
                    if not exchange.has_whole_body:
                        break
                    if exchange.is_answered:
                        self._exchange = None
                        self._await_request()
        except Exception as error:  # noqa: BLE001 - every failure gets a response
            self.refuse(error)
        self.regulate()

    def _read_body(self, exchange: Exchange) -> None:
        taken = exchange.read(self.came)
        self.came = self.came[taken:] if taken < len(self.came) else b""

    def _begin(self) -> bool:
        """Start the next request; return false if its head is incomplete."""
        found = read_head(self.came, self._acceptor.bounds)
        if found is None:
            if self._has_ended:
                self._buffer.close()
            elif not self._has_begun:
                self._has_begun = True
                self._end_in(self._acceptor.head_seconds)
            return False
        self._has_begun = self._is_new = False
        head, end = found
        self.came = self.came[end:] if end < len(self.came) else b""
        exchange = self._exchange = Exchange(self, head, self._acceptor.bounds)
        if self._acceptor.keep_alive_seconds == 0:
            exchange.keeps_alive = False
        self.deadline = NEVER
        self._acceptor.start(exchange, self._scope(head, exchange))
        return True

    def _scope(self, head: Head, exchange: Exchange) -> dict[str, Any]:
        path = head.path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.0" if head.is_1_0 else "1.1",
            "server": self._server,
            "client": self._client,
            "scheme": "http",
            "root_path": "",
            "headers": list(head.said.fields),
            "state": self._acceptor.app_state.copy(),
            "method": head.method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": head.path,
            "query_string": head.query,
            "extensions": {WHOLE: exchange.extension()} if self._acceptor.offers_whole else {},
        }

    def regulate(self) -> None:
        """Resume or pause reading: read only while there is a use for more bytes."""
        if len(self.came) > FREE or self._share is not None:
            self._count()
        exchange = self._exchange
        if self._has_ended:
            on = False
        elif self._is_lingering:
            on = True
        elif exchange is None:
            on = not self._is_unsent
        elif exchange.has_whole_body:
            on = not self.came
        else:
            on = exchange.wants_more
        self._read(on=on)

    def _count(self) -> None:
        """Count the unprocessed bytes, one read at most, which add up over all connections.

        If they exceed the budget the connection closes, after the response to a request in flight.
        """
        share = self._share = self._share or self.budget.share()
        share.give_back()
        if share.take(len(self.came)):
            return
        self.came = b""
        exchange = self._exchange
        if exchange is None or not exchange.has_whole_body:
            self.refuse(too_much())
        else:
            exchange.keeps_alive = False

    def _read(self, *, on: bool) -> None:
        if on is self._is_reading or self._transport.is_closing():
            return
        self._is_reading = on
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # Sending

    def common_lines(self) -> bytes:
        """Return the header lines that every response has, such as the date."""
        return self._acceptor.common_lines()

    def unsent(self) -> asyncio.Future[None] | None:
        """Return a future to await until the caller has read what was sent, or ``None``."""
        if not self._is_unsent or self._transport.is_closing():
            return None
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        return waiter

    def finish(self, exchange: Exchange) -> None:
        """Continue after a response: with the next request, or by closing."""
        self._acceptor.count()
        if exchange is not self._exchange or self._transport.is_closing():
            return
        if not exchange.keeps_alive:
            may_send = bool(self.came) or not self._is_reading or not exchange.has_whole_body
            self._hang_up(lingers=may_send)
        elif exchange.has_whole_body:
            self._exchange = None
            self._await_request()
        else:
            if not self._is_unsent:
                self._end_in(_LINGER_SECONDS)
            self.regulate()

    def _await_request(self) -> None:
        if not self._is_unsent and not self._has_begun:
            self._end_in(self._acceptor.keep_alive_seconds or self._acceptor.head_seconds)
        if self.came:
            self._loop.call_soon(self._advance)
        elif self.is_stopping or self._has_ended:
            self._hang_up(lingers=False)
        else:
            self.regulate()

    def _end_in(self, seconds: float) -> None:
        self.deadline = self._loop.time() + seconds if seconds else NEVER

    def refuse(self, error: Exception) -> None:
        """Refuse a malformed request, or one without a response yet, and close."""
        if self._transport.is_closing():
            return
        exchange, self._exchange = self._exchange, None
        if exchange is None or not exchange.is_started:
            head = b"" if exchange is not None else bytes(self.came)
            self.write(self._acceptor.refusal(error, head))
        if exchange is not None:
            exchange.leave()
        self._hang_up(lingers=True)

    def _hang_up(self, *, lingers: bool) -> None:
        """Close once everything is sent.

        Closing at once would reset the connection of a caller who is still sending, and lose the
        response: what arrives is dropped for a moment.
        """
        self._buffer.flush()
        self.came = b""
        if not self._is_unsent:
            self._end_in(_LINGER_SECONDS)
        if not lingers or not self._transport.can_write_eof() or self._has_ended:
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:  # the caller has reset the connection
            self._transport.abort()
            return
        self._is_lingering = True
        self._read(on=True)

    def abort(self) -> None:
        """Close immediately."""
        self._transport.abort()

    def shutdown(self) -> None:
        """Finish the request in flight and close; a stopping server calls this."""
        self.is_stopping = True
        if self._exchange is not None or self._is_lingering:
            return
        if self.came or self._is_new:
            seconds = _LINGER_SECONDS if self.came else LAST_SECONDS
            self.deadline = min(self.deadline, self._loop.time() + seconds)
        else:
            self.close_if_idle()

    # Deadlines

    @property
    def is_idle(self) -> bool:
        """Whether no request has begun and no response is being sent."""
        is_busy = self._exchange is not None or self.came or self._is_unsent
        return not is_busy and not self._transport.is_closing()

    def check(self, now: float) -> None:
        """Close the connection if it is past its deadline, or delays a stopping server."""
        size = self._transport.get_write_buffer_size()
        if now >= self.deadline:
            if size or self._is_lingering:
                self._transport.abort()
            elif not self.is_idle or not self._has_something_to_read():
                self._buffer.close()
        elif self.is_stopping and now - self._looked_at >= _STALLED_SECONDS:
            self._looked_at = now
            before, self._unsent_before = self._unsent_before, size
            if before == size > 0:
                self._transport.abort()

    def close_if_idle(self) -> bool:
        """Close an idle connection; return false if a request has arrived on it."""
        if self._has_something_to_read():
            return False
        self._hang_up(lingers=False)
        return True

    def _has_something_to_read(self) -> bool:
        """Whether a request has arrived that the loop has not read yet: it must not be lost."""
        return self._is_reading and self._acceptor.has_something(self._transport)


def _address(found: Any) -> tuple[str, int] | None:  # noqa: ANN401 - in the system's format
    if isinstance(found, tuple) and len(found) >= 2:  # noqa: PLR2004 - IPv6 addresses have four
        return str(found[0]), int(found[1])
    return None
