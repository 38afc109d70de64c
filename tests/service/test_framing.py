"""How bytes become requests: what is refused, and what is no request of its own."""

# ruff: noqa: ANN401 - applications as ASGI has them

from __future__ import annotations

from typing import Any

import pytest

from tests.service.http1 import Recorder, answered, request, served, statuses

UPGRADES = [
    (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
    ),
    ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    ("Connection: upgrade", "Upgrade: "),
    ("Connection: Upgrade",),
    ("Upgrade: h2c",),
]
INNER = b"DELETE /inner HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.mark.parametrize("headers", UPGRADES, ids=lambda headers: headers[-1])
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "CONNECT"])
async def test_an_upgrade_is_ignored_and_the_body_stays_a_body(
    headers: tuple[str, ...], method: str
) -> None:
    app = Recorder()
    async with served(app) as server:
        first = request(method, "/a", INNER, *headers)
        answer = await server.said(first + request("GET", "/b", b"", close=True))
        in_pieces = await server.said(
            first[:-9], first[-9:] + request("GET", "/b", b"", close=True)
        )
    assert statuses(answer) == statuses(in_pieces) == [200, 200]
    assert app.requests == [(method, "/a", INNER), ("GET", "/b", b"")] * 2


async def test_the_first_of_two_is_answered_before_what_is_no_request() -> None:
    app = Recorder()
    async with served(app) as server:
        answer = await server.said(request(path="/a") + b"garbage\r\n\r\n")
    assert statuses(answer) == [200, 400]
    assert answer.count(b"connection: close") == 1
    assert app.requests == [("POST", "/a", b"{}")]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 300, 414),
        (b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: here\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: here\r\nX: " + b"a" * 2_000, 431),
        (b"GET / HTTP/1.1\r\nHost: here\r\n" + b"a: b\r\n" * 20, 431),
        (b"GET / HTTP/1.1\r\nHost: here\r\n" + b"a:\r\n" * 15 + b"\r\n", 431),
        (
            b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "
            + b"a" * 999,
            431,
        ),
        (
            b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 300,
            400,
        ),
        (b"\x16\x03\x01", 400),
        (b"GET / HTTP/1.1\nHost: here\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: here\n\n", 400),
        (b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
    ids=lambda value: value[-12:] if isinstance(value, bytes) else None,
)
async def test_what_is_too_long_is_refused_before_it_ends(sent: bytes, status: int) -> None:
    bounds = {"max_url_bytes": 200, "max_header_bytes": 800, "max_header_count": 10}
    app = Recorder()
    async with served(app, **bounds) as server:
        answer = await server.said(sent)
        slowly = await server.said(sent[:100], sent[100:150], sent[150:])
    assert statuses(answer) == statuses(slowly) == [status]
    assert b"connection: close\r\n" in answer
    assert app.requests == []


async def test_the_bounds_of_a_head_are_allowed_themselves() -> None:
    head = b"GET /%b HTTP/1.1\r\nHost: here\r\nX: %b\r\nConnection: close\r\n\r\n"
    full = head % (b"a" * 199, b"b" * (800 - len("Host: here\r\nX: \r\nConnection: close\r\n")))
    app = Recorder()
    async with served(app, max_url_bytes=200, max_header_bytes=800, max_header_count=3) as server:
        assert statuses(await server.said(full)) == [200]
        assert statuses(
            await server.said(*(full[at : at + 7] for at in range(0, 210, 7)), full[210:])
        ) == [200]
        assert statuses(await server.said(full.replace(b"X: ", b"X: c"))) == [431]
        assert statuses(await server.said(full.replace(b"/aaa", b"/aaaa"))) == [414]


async def test_trailers_are_no_headers() -> None:
    app = Recorder()
    chunked = (
        b"POST /a HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\nX-User-Id: ann\r\n\r\n"
        b"2\r\n{}\r\n0\r\nX-User-Groups: admins\r\nAuthorization: Bearer x\r\n\r\n"
    )
    async with served(app) as server:
        answer = await server.said(chunked + request(path="/b", close=True))
    assert statuses(answer) == [200, 200]
    assert app.requests == [("POST", "/a", b"{}"), ("POST", "/b", b"{}")]
    for headers in app.headers:
        assert not {b"x-user-groups", b"authorization"} & {name for name, _ in headers}


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2",
        b"Content-Length: 2\r\nContent-Length: 2",
        b"Content-Length: 2\r\nContent-Length: 3",
        b"Content-Length: 2, 2",
        b"Content-Length: +2",
        b"Content-Length: 2_0",
        b"Content-Length : 2",
        b"Content-Length: 2\r\n folded: x",
        b"Content-Length:\r\n 2",
        b"Content-Length: 2\nX: y",
        b"Content-Length: 2\rX: y",
        b"X: \x00\r\nContent-Length: 2",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: identity, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: \x0bchunked",
        b"Host: there",
    ],
)
async def test_what_could_be_read_in_two_ways_is_refused(head: bytes) -> None:
    app = Recorder()
    async with served(app) as server:
        whole = b"POST /a HTTP/1.1\r\nHost: here\r\n%b\r\n\r\n{}" % head
        assert statuses(await server.said(whole))[0] in {400, 501}
    assert app.requests == []


async def test_chunks_for_http_1_0_and_a_request_without_a_host_are_refused() -> None:
    app = Recorder()
    async with served(app) as server:
        old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        assert statuses(await server.said(old)) == [400]
        assert statuses(await server.said(b"GET / HTTP/1.1\r\n\r\n")) == [400]
        assert statuses(await server.said(b"GET http://there/ HTTP/1.1\r\nHost: here\r\n\r\n")) == [
            400
        ]
        assert app.requests == []
        assert statuses(await server.said(b"GET http://here/x HTTP/1.0\r\nHost: here\r\n\r\n")) == [
            200
        ]
    assert app.requests == [("GET", "/x", b"")]


async def test_a_caller_who_has_not_been_told_to_go_on_sends_no_body_to_be_taken_for_one() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await answered(send, b"", 401)

    async with served(refuse) as server:
        answer = await server.said(
            b"POST / HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 39\r\n\r\n",
            INNER,
        )
    assert statuses(answer) == [401]
    assert b"connection: close" in answer
