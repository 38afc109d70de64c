"""``WriteBuffer``: what is written to a connection is sent in the loop's next iteration.

Each write to a socket wakes the client that waits for it, and the processor switches to that client
before the other requests that have arrived are handled. Responses that wait one iteration leave
together. Decision 0010 has the measurement; the benchmark row is ``http``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

MAX_BUFFERED = 65_536
"""Bytes of one connection that wait at most; what exceeds them is sent at once."""
LARGE = 262_144
"""A piece of this many bytes is sent at once, since joining it to others would copy it."""


class WriteBuffer:
    """Collects writes to a transport until the next iteration of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send the data in the next iteration of the loop, or at once if it is large."""
        if not data:
            return
        if len(data) >= LARGE:
            self.flush()
            if not self._transport.is_closing():
                self._transport.write(data)
            return
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)
        self._size += len(data)
        if self._size > MAX_BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Send what waits; drop it if the connection is closed."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        if waiting and not self._transport.is_closing():
            self._transport.write(b"".join(waiting))

    def close(self) -> None:
        """Send what waits, then close the transport."""
        self.flush()
        self._transport.close()
