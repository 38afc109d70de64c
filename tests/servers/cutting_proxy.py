"""``CuttingProxy``: a proxy of a database server that counts round trips and loses responses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

_READY = b"Z\x00\x00\x00\x05"
"""How PostgreSQL ends a round trip; the next byte says whether a transaction is open."""


class CuttingProxy:
    """Passes bytes between clients and a server on this machine.

    ``lose_answer(marker)`` lets the next request with the marker reach the server, waits until it
    was executed, and cuts the connection instead of passing the response on;
    ``lose_request(marker)`` cuts before the server receives it. ``round_trips`` counts complete
    responses of PostgreSQL. ``exchanges`` counts, for any server, the round trips that follow one
    another: requests that are sent before a response to one of them arrived count once.
    ``answered`` counts the bytes of responses.
    ``farewell`` is the packet with which a client says goodbye. For a server that does not mark the
    end of a round trip, the proxy sends it after a request whose response is lost; the request is
    done when the server then closes the connection. ``fall_silent()`` keeps connections open,
    accepts new ones, and passes nothing on until ``go_on()``.
    """

    def __init__(self, port: int, *, farewell: bytes = b"") -> None:
        self.port = 0
        self.farewell = farewell
        self.round_trips = 0
        self.exchanges = 0
        self.answered = 0
        self.cuts = 0
        self._server_port = port
        self._marker: bytes | None = None
        self._passes_request = False
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lead_to(self, port: int) -> None:
        """Connect later clients to another server."""
        self._server_port = port

    def fall_silent(self) -> None:
        """Pass nothing on from now on."""
        self._speaks.clear()

    def go_on(self) -> None:
        """Pass on what was held back and everything after it."""
        self._speaks.set()

    async def speaks(self) -> None:
        """Wait until the proxy may pass data on."""
        await self._speaks.wait()

    def lose_answer(self, marker: bytes) -> None:
        """Cut the connection after the server has executed the next request with the marker."""
        self._marker, self._passes_request = marker, True

    def lose_request(self, marker: bytes) -> None:
        """Cut the connection before the next request with the marker."""
        self._marker, self._passes_request = marker, False

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        connection = _Connection(self, server_writer, writer)
        answers = asyncio.create_task(connection.pass_answers(server_reader))
        try:
            with suppress(ConnectionError):
                await connection.pass_requests(reader)
            await connection.finish(answers)
        finally:
            answers.cancel()
            for end in (writer, server_writer):
                end.close()
            self._tasks.discard(task)

    def takes(self, request: bytes) -> bool:
        """Whether this is the request to lose, or the one whose response to lose."""
        if self._marker is None or self._marker not in request:
            return False
        self._marker = None
        self.cuts += 1
        return True

    @property
    def passes_request(self) -> bool:
        """Whether the request that is cut reaches the server."""
        return self._passes_request


class _Connection:
    def __init__(self, proxy: CuttingProxy, server: StreamWriter, client: StreamWriter) -> None:
        self._proxy = proxy
        self._server = server
        self._client = client
        self._cut = False
        self._exchange = 0
        self._carried_out = asyncio.Event()

    async def pass_requests(self, reader: StreamReader) -> None:
        while data := await reader.read(1 << 16):
            await self._proxy.speaks()
            self._exchange = self._proxy.exchanges + 1
            if self._proxy.takes(data):
                self._cut = True
                if self._proxy.passes_request:
                    self._server.write(data + self._proxy.farewell)
                return
            self._server.write(data)

    async def pass_answers(self, reader: StreamReader) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                await self._proxy.speaks()
                self._proxy.exchanges = max(self._proxy.exchanges, self._exchange)
                self._proxy.answered += len(data)
                self._proxy.round_trips += data.count(_READY)
                if not self._cut:
                    self._client.write(data)
                elif _READY in data:
                    break
        self._carried_out.set()
        if not self._cut:
            self._client.close()  # as the server did

    async def finish(self, answers: asyncio.Task[None]) -> None:
        if self._cut and self._proxy.passes_request:
            await self._carried_out.wait()
        if not self._cut:
            return
        self._client.transport.abort()
