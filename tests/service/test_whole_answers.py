"""What server and service hand over as a whole is what ASGI's messages would have made of it."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import uvicorn
import uvicorn.server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from agent_cores.session.cli.gathering import GatheringProtocol
from agent_cores.session.service.answering import Answer, offered, send_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio
LARGE = 1_000_000
EXPECTANT = (
    b"POST / HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nConnection: close\r\n"
    b"Content-Length: 2\r\n\r\n"
)


class Echo:
    """Answers with the body, and notes whether it could be had whole."""

    def __init__(self) -> None:
        self.whole: list[bool] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extension = offered(scope)
        body = None if extension is None else extension["body"]()
        self.whole.append(body is not None)
        more = body is None
        body = body or b""
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        status = 204 if scope["path"] == "/nothing" else 201
        headers = [(b"etag", b'"1"')] if scope["path"] == "/tagged" else []
        await send_answer(Answer(status, body, headers), b"id-1", scope, send)


@asynccontextmanager
async def served(app: Echo, protocol: type[HttpToolsProtocol]) -> AsyncIterator[int]:
    """Serve on a port of this machine for as long as the block lasts."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    config.load()
    state = uvicorn.server.ServerState()
    state.default_headers = [(b"date", b"today")]
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config, state, {}), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def said(port: int, *pieces: bytes) -> bytes:
    """Send a request and return all that comes back until the other side hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.02 if len(pieces) > 1 else 0)
    answer = await reader.read()
    writer.close()
    return answer


def request(method: str = "POST", path: str = "/", body: bytes = b"{}", *, close: bool) -> bytes:
    connection = "Connection: close\r\n" if close else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: here\r\n{connection}Content-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


@pytest.mark.parametrize(
    "pieces",
    [
        [request(close=True)],
        [request("HEAD", body=b"", close=True)],
        [request(path="/tagged", close=True)],
        [request(path="/nothing", close=True)],
        [request(close=False) + request(path="/tagged", close=False) + request(close=True)],
        [request(body=b"x" * LARGE, close=True)],
        [request(close=True)[:-1], b"}"],
        [b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}"],
        [EXPECTANT, b"{}"],
        [EXPECTANT + b"{}"],
    ],
    ids=lambda pieces: pieces[0][:16].decode("latin-1"),
)
async def test_an_answer_is_the_same_byte_for_byte(pieces: list[bytes]) -> None:
    whole, plain = Echo(), Echo()
    async with served(whole, GatheringProtocol) as port:
        answer = await said(port, *pieces)
    async with served(plain, HttpToolsProtocol) as port:
        expected = await said(port, *pieces)
    assert answer == expected
    assert answer.startswith((b"HTTP/1.1 20", b"HTTP/1.1 100"))
    assert not any(plain.whole)


async def test_bodies_are_had_whole_if_they_came_with_the_head() -> None:
    echo = Echo()
    async with served(echo, GatheringProtocol) as port:
        await said(port, request(close=True))
        await said(port, request(close=True)[:-1], b"}")
    assert echo.whole == [True, False]


async def test_a_request_leaves_nothing_for_the_collector() -> None:
    async with served(Echo(), GatheringProtocol) as port:
        await said(port, request(close=False) + request(close=True))
        await asyncio.sleep(0.01)
        gc.collect()
        gc.disable()
        try:
            await said(port, *[request(close=False)] * 3, request(close=True))
            await asyncio.sleep(0.01)
            left = [found for found in gc.get_objects() if isinstance(found, RequestResponseCycle)]
        finally:
            gc.enable()
    assert not left
