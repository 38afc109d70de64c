"""What server and service hand over as a whole is what ASGI's messages would have made of it."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.service.http1.exchange import Exchange
from agent_cores.session.service.responses import Response, offered, send_response
from tests.service.http1 import request, served

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio
LARGE = 1_000_000
EXPECTANT = (
    b"POST / HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nConnection: close\r\n"
    b"Content-Length: 2\r\n\r\n"
)


class Echo:
    """Answers with the body, and notes whether it could be had whole."""

    def __init__(self, *, whole: bool = True) -> None:
        self.whole: list[bool] = []
        self._uses_it = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._uses_it:
            del scope["extensions"]
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
        if scope["path"] == "/last":
            headers = [(b"connection", b"close")]
        await send_response(Response(status, body, headers), b"id-1", scope, send)


@pytest.mark.parametrize(
    "pieces",
    [
        [request(close=True)],
        [request("HEAD", body=b"", close=True)],
        [request(path="/tagged", close=True)],
        [request(path="/nothing", close=True)],
        [request(path="/last")],
        [request() + request(path="/tagged") + request(close=True)],
        [request(body=b"x" * LARGE, close=True)],
        [request(close=True)[:-1], b"}"],
        [b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}"],
        [EXPECTANT, b"{}"],
        [EXPECTANT + b"{}"],
    ],
    ids=lambda pieces: pieces[0][:16].decode("latin-1"),
)
async def test_an_answer_is_the_same_by_either_way(pieces: list[bytes]) -> None:
    whole, plain = Echo(), Echo(whole=False)
    async with served(whole) as server:
        answer = await server.said(*pieces)
    async with served(plain) as server:
        expected = await server.said(*pieces)
    assert sorted(answer.split(b"\r\n")) == sorted(expected.split(b"\r\n"))
    assert answer.startswith((b"HTTP/1.1 20", b"HTTP/1.1 100"))
    assert not any(plain.whole)


@pytest.mark.parametrize(("version", "said"), [("1.1", 1), ("2", 0)])
async def test_another_server_is_told_to_close_where_the_protocol_can_say_so(
    version: str, said: int
) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_response(Response(200), b"id", {"http_version": version}, send, closes=True)
    assert sent[0]["headers"].count((b"connection", b"close")) == said


async def test_bodies_are_had_whole_if_they_came_with_the_head() -> None:
    echo = Echo()
    async with served(echo) as server:
        await server.said(request(close=True))
        await server.said(request(close=True)[:-1], b"}")
    assert echo.whole == [True, False]


async def test_a_request_leaves_nothing_for_the_collector() -> None:
    async with served(Echo()) as server:
        await server.said(request() + request(close=True))
        await asyncio.sleep(0.01)
        gc.collect()
        gc.disable()
        try:
            await server.said(*[request()] * 3, request(close=True))
            await asyncio.sleep(0.01)
            left = [found for found in gc.get_objects() if isinstance(found, Exchange)]
        finally:
            gc.enable()
    assert not left


async def test_a_header_cannot_bring_another() -> None:
    async def split(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await send_response(Response(200, b"", [(b"location", b"/\r\nx: y")]), b"id", scope, send)

    async with served(split) as server:
        answer = await server.said(request(close=True))
    assert answer.startswith(b"HTTP/1.1 500")
    assert b"\r\nx: y" not in answer
