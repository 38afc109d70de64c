"""``Gathering``: a transport that sends together what one turn of the loop answers.

Each write wakes the one who waits for it, and under load it is that program which the processor
then turns to, in the middle of the next request. So answers are kept until the requests at hand
are done, and go out one after another; where there is but one, it goes at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

MOST_KEPT = 65_536
"""How many bytes of one connection are kept; more goes out at once."""
LARGE = 262_144
"""What is written in one piece from here on is not copied to go with what was kept."""


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
        if len(data) >= LARGE:
            self.flush()
            if not self._transport.is_closing():
                self._transport.write(data)
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
