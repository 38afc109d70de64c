"""This project's HTTP/1.1 server in the event loop of a test, and raw bytes to and from it."""

# ruff: noqa: ANN401 - applications and settings of any kind

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn.server

from agent_cores.session.service import ServiceSettings
from agent_cores.session.service.http1.acceptor import Acceptor
from agent_cores.session.service.request.budget import Budget


class Served:
    """A server for one test: its address and its state."""

    def __init__(self, app: Any, **settings: Any) -> None:
        self.settings = ServiceSettings(**settings)
        self.state: Any = uvicorn.server.ServerState()
        self.state.default_headers = [(b"date", b"today")]
        self.budget = getattr(app, "budget", None) or Budget(self.settings.most_buffered)
        self.acceptor = Acceptor(app, self.settings, self.budget, self.state)
        self.port = 0

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def said(self, *pieces: bytes) -> bytes:
        """Send pieces, and return everything received until the server closes the connection."""
        reader, writer = await self.open()
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.02 if len(pieces) > 1 else 0)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()


@asynccontextmanager
async def served(app: Any, **settings: Any) -> AsyncIterator[Served]:
    """Serve on a port of this machine until the end of the block."""
    serving = Served(app, **settings)
    server = await asyncio.get_running_loop().create_server(serving.acceptor, "127.0.0.1", 0)
    serving.port = server.sockets[0].getsockname()[1]
    try:
        yield serving
    finally:
        server.close()
        connections: set[Any] = set(serving.state.connections)
        for connection in connections:
            connection.abort()
        await asyncio.sleep(0)


def request(
    method: str = "POST",
    path: str = "/",
    body: bytes = b"{}",
    *headers: str,
    close: bool = False,
) -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}", *headers]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


def statuses(answer: bytes) -> list[int]:
    """Return the status of each response in what was received."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


class Recorder:
    """Records each request, and responds with its body or with a given response."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.requests.append((scope["method"], scope["path"], body))
        self.headers.append(scope["headers"])
        await answered(send, body)


async def answered(send: Any, body: bytes, status: int = 200) -> None:
    """Respond by the two messages of ASGI."""
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
