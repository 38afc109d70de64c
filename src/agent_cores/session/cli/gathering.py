"""``GatheringProtocol``: the server's HTTP protocol, which sends what one turn of the loop answers.

uvicorn writes the head of an answer as soon as it has it, and then the body. Each write wakes the
one who waits for it, and under load it is that program which the processor then turns to, in the
middle of the next request. So answers are kept until the requests at hand are done, and go out one
after another; where there is but one, it goes at once. Bodies and answers that are there as a whole
go between server and service as such.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from agent_cores.session.service.answering import WHOLE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

MOST_KEPT = 65_536
"""How many bytes of one connection are kept; more goes out at once."""


class GatheringProtocol(HttpToolsProtocol):
    """Speaks HTTP through a transport that gathers.

    For ``agent-sessions serve``: what it hands over whole goes past anything that stands between it
    and the service and wraps ``send`` or ``receive``.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection."""
        stream = cast("asyncio.Transport", transport)
        super().connection_made(stream)
        self.gathering = Gathering(stream, self.loop)
        self.transport = cast("asyncio.Transport", self.gathering)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if not cycle.access_log:  # which `send_whole` does not write
            request = ref(cycle)  # a weak one, since the cycle has the scope
            cycle.scope["extensions"] = {
                WHOLE: {"send": partial(send_whole, request), "body": partial(take_body, request)}
            }
        super()._start_asgi_task(cycle, app)

    def eof_received(self) -> None:
        """Send what was kept: the connection closes itself after this, and not through us."""
        self.gathering.flush()
        super().eof_received()


def send_whole(request: ref[RequestResponseCycle], status: int, head: bytes, body: bytes) -> bool:
    """Answer a request, as ``RequestResponseCycle.send`` does it for the two messages of ASGI.

    ``head`` is lines of headers. False: nothing was sent, since the answer has begun already or the
    caller reads too slowly. True is also for a caller who has gone.
    """
    cycle = request()
    if cycle is None or cycle.response_started or cycle.flow.write_paused:
        return False
    if cycle.disconnected:
        return True
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    lines = [STATUS_LINE[status]]
    for name, value in cycle.default_headers:
        lines += (name, b": ", value, b"\r\n")
    lines.append(head)
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    lines.append(b"\r\n")
    if cycle.scope["method"] != "HEAD":
        lines.append(body)
    cycle.transport.write(b"".join(lines))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def take_body(request: ref[RequestResponseCycle]) -> bytes | None:
    """Return the body of a request if it is all there, as ``RequestResponseCycle.receive`` does.

    Not to a caller who waits to be told to go on: that is told by ``receive``.
    """
    cycle = request()
    if cycle is None or cycle.more_body or cycle.waiting_for_100_continue:
        return None
    if cycle.disconnected or cycle.response_complete:
        return None
    cycle.flow.resume_reading()
    cycle.message_event.clear()
    body, cycle.body = bytes(cycle.body), bytearray()
    return body


class Gathering:
    """A transport that keeps what is written until the loop has done what it has at hand."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._kept: list[bytes] = []
        self._size = 0
        self.is_closing: Callable[[], bool] = transport.is_closing

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else a transport has
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep the data for a moment."""
        if not data:  # the body of an answer that has none
            return
        if not self._kept:
            self._loop.call_soon(self.flush)
        self._kept.append(data)
        self._size += len(data)
        if self._size > MOST_KEPT:
            self.flush()

    def flush(self) -> None:
        """Send what was kept; nobody is there any more to get it if the connection is closed."""
        kept, self._kept, self._size = self._kept, [], 0
        if kept and not self._transport.is_closing():
            self._transport.write(b"".join(kept))

    def close(self) -> None:
        """Send what was kept and hang up."""
        self.flush()
        self._transport.close()
