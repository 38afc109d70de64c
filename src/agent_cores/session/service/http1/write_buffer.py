"""``WriteBuffer``: a transport that sends together what one iteration of the event loop writes.

Every write to a socket wakes the client that waits for it, and on a busy machine the processor
switches to that client in the middle of the next request. So responses are kept until the requests
that have already arrived are handled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

MAX_BUFFERED = 65_536
"""How many bytes of one connection are kept; more goes out at once."""
LARGE = 262_144
"""What is written in one piece from here on is not copied to go with what was kept."""


class WriteBuffer:
    """A transport that keeps what is written until the next iteration of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._kept: list[bytes] = []
        self._size = 0
        self.is_closing: Callable[[], bool] = transport.is_closing

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else a transport has
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the data in the next iteration of the loop, or at once if it is large."""
        if not data:  # the body of an answer that has none
            return
        if len(data) >= LARGE:
            self.flush()
            if not self._transport.is_closing():
                self._transport.write(data)
            return
        if not self._kept:
            self._loop.call_soon(self.flush)
        self._kept.append(data)
        self._size += len(data)
        if self._size > MAX_BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Send what was kept; drop it if the connection is closed."""
        kept, self._kept, self._size = self._kept, [], 0
        if kept and not self._transport.is_closing():
            self._transport.write(b"".join(kept))

    def close(self) -> None:
        """Send what was kept and hang up."""
        self.flush()
        self._transport.close()
