"""Raw streams of HTTP/1.1, read by the service's protocol and by h11: both must find the same.

``python -m tests.fuzz.raw_http [STREAMS [FIRST_SEED]]``; a seed makes the same stream each time.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
from typing import Any, NamedTuple, cast

import h11
import uvicorn.server

from agent_cores.session.service import ServiceSettings
from agent_cores.session.service.http1 import chunks
from agent_cores.session.service.http1.acceptor import Acceptor
from agent_cores.session.service.http1.connection import Connection
from agent_cores.session.service.request.budget import Budget

STREAMS = 100_000
_FRAMING = {b"content-length", b"transfer-encoding"}
_SETTINGS = ServiceSettings(max_url_bytes=512, max_header_bytes=2_048, max_header_count=20)


class Request(NamedTuple):
    """A request that was read. The headers exclude those about the body's length."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Found(NamedTuple):
    """The result of reading a stream."""

    requests: list[Request]
    refused: bool
    in_head: bool = False


# The streams


def stream(seed: int) -> tuple[bytes, list[int]]:
    """Return a stream and the offsets at which it is split."""
    rng = random.Random(seed)
    data = b"".join(_request(rng) for _ in range(rng.choice((1, 1, 2, 3, 5))))
    if rng.random() < 0.2:
        data = _spoiled(rng, data)
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 2, 8))))
    if rng.random() < 0.05:
        cuts = list(range(len(data)))
    return data, cuts


def _request(rng: random.Random) -> bytes:
    method = rng.choice(("GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"))
    method = rng.choice((method,) * 40 + ("G@T", ""))
    target = rng.choice(("/", "/a", "/a%20b?c=d", "/x?y", "http://here/a", "*"))
    target = rng.choice(
        (target,) * 100
        + ("/" + "a" * 520, "http://there/a", "here:80", "/a#b", "/\xe9", "/a b", "")
    )
    version = rng.choice(("1.1",) * 80 + ("1.0", "1.0", "2.0", "1.2", "0.9", "11"))
    lines = [f"{method} {target} HTTP/{version}"]
    lines += rng.choice((["Host: here"],) * 60 + (["Host: here"] * 2, [], ["host:\t here "]))
    body, framing = _body(rng)
    rest = framing + [rng.choice(rng.choice(_MORE)) for _ in range(rng.choice((0, 1, 2, 3)))]
    if rng.random() < 0.05:
        rest.append(rng.choice(_WRONG))
    rng.shuffle(rest)
    head = "\r\n".join([*lines, *rest, "", ""]).encode("latin-1")
    return head + body


_MORE = (
    ("Connection: close", "Connection: keep-alive", "connection: x, CLOSE"),
    ("Upgrade: websocket", "Upgrade: h2c"),
    (
        "Connection: Upgrade",
        "Connection: Upgrade, HTTP2-Settings",
        "Connection: keep-alive, Upgrade",
    ),
    ("Expect: 100-continue", "Expect: 100-Continue", "Expect: x"),
    ("X-User-Id: ann", "X-User-Id:ann", "X-User-Id: \t ann \t", "X-User-Id:"),
    ("Content-Type: application/json", "X: \xff\xfe", "X: a\tb", "Trailer: X-User-Id"),
    ("TE: trailers", "Via: 1.1 x", "X_Y: z", "X: " + "y" * 200),
)
_WRONG = (
    *("X : y", " X: y", "\tX: y", "X", ": y", "X\x00: y", "X: y\rZ: q", "X: y\nContent-Length: 3"),
    *("Content-Length: 3", "Content-Length: 0", "Transfer-Encoding: chunked", "X: \x01", "X: \x00"),
    *("Content-Length : 3", "Content-Length\t: 3", "Transfer-Encoding : chunked", "Host: there"),
    "X: " + "y" * 2_100,
)
_BODIES = (
    b"",
    b"{}",
    b"x" * 40,
    b"0\r\n\r\n",
    b"GET /inner HTTP/1.1\r\nHost: here\r\n\r\n",
    b"DELETE /v1/sessions/a HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n",
)


def _body(rng: random.Random) -> tuple[bytes, list[str]]:
    """Return a body, and headers that declare its length, rightly or not."""
    body = rng.choice(_BODIES)
    kind = rng.random()
    if kind < 0.15:
        return b"", []
    if kind < 0.55:
        return body, [f"Content-Length: {len(body)}"]
    if kind < 0.6:
        size = len(body)
        wrong = (f"+{size}", f"{size}, {size}", f"{size + 3}", f"-{size}", f"0{size}", f" {size}\t")
        text = rng.choice((*wrong, f"{size}_0", f"0x{size}", "", f"{size} {size}", "9" * 25))
        lines = [f"Content-Length: {text}"]
        return body, lines * rng.choice((1, 1, 2))
    coding = rng.choice(
        ("chunked",) * 40 + ("Chunked", " chunked ", "xchunked", "gzip, chunked", "")
    )
    coding = rng.choice((coding,) * 60 + ("chunked, identity", "identity", "\x0bchunked", "chunke"))
    lines = [f"Transfer-Encoding: {coding}"] * rng.choice((1,) * 40 + (2,))
    if rng.random() < 0.02:
        lines.append(f"Content-Length: {len(body)}")
    return _chunked(rng, body), lines


def _chunked(rng: random.Random, body: bytes) -> bytes:
    out = b""
    at = 0
    while at < len(body):
        size = rng.randint(1, max(1, len(body) - at))
        text = rng.choice(
            (f"{size:x}",) * 80 + (f"{size:X}", f"00{size:x}", f"{size:x} ", f"+{size:x}")
        )
        text += rng.choice(
            ("",) * 80 + (";a=b", ';a="b c"', ";\x01", f";{'e' * 300}", " ;x", ";a\rb")
        )
        end = rng.choice(("\r\n",) * 150 + ("\n", "\r", "", "\r\n\r\n"))
        out += text.encode("latin-1") + b"\r\n" + body[at : at + size] + end.encode()
        at += size
    out += rng.choice((b"0\r\n",) * 60 + (b"00\r\n", b"0;x\r\n", b"0\n", b"", b"0 \r\n", b"-0\r\n"))
    trailer = rng.choice(("X-User-Id: eve", "Authorization: x", "Content-Length: 5", "X : y", " f"))
    out += rng.choice((b"",) * 8 + (trailer.encode() + b"\r\n",))
    return out + rng.choice((b"\r\n",) * 60 + (b"", b"\n"))


def _spoiled(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        piece = bytes([rng.choice(b"\r\n\x00 \t:;,0159aG/\x7f\x80\xff")])
        how = rng.randrange(5)
        if how == 0:
            out[at:at] = piece
        elif how == 1:
            out[at : at + 1] = piece
        elif how == 2:
            del out[at : at + rng.choice((1, 1, 2, 20))]
        elif how == 3:
            out[at:at] = out[max(0, at - 30) : at]
        else:
            del out[at:]
    return bytes(out)


# The readers


def by_h11(data: bytes) -> Found:
    """Return the result of h11, which responds to each request at its end."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65_536)
    connection.receive_data(data)
    found: list[Request] = []
    request, body = h11.Request(method="GET", target="/", headers=[("host", "")]), b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append(_plain(request, body))
                answer = h11.Response(status_code=200, headers=[("Content-Length", "0")])
                connection.send(answer)
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return Found(found, refused=False)
                connection.start_next_cycle()
            else:
                return Found(found, refused=False, in_head=_is_in_head(connection))
    except h11.RemoteProtocolError:
        return Found(found, refused=True)


def _is_in_head(connection: h11.Connection) -> bool:
    return connection.their_state is h11.IDLE and connection.trailing_data[0] != b""


def _plain(request: h11.Request, body: bytes) -> Request:
    headers = [(bytes(name), bytes(value)) for name, value in request.headers]
    return Request(request.method.decode(), bytes(request.target), _without_framing(headers), body)


def _without_framing(headers: list[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name, value) for name, value in headers if name not in _FRAMING)


class Wire:
    """A transport without a network, and the application behind it."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_reading = True
        self.is_closed = False
        self.found: list[Request] = []

    async def app(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        self.found.append(
            Request(scope["method"], target, _without_framing(scope["headers"]), body)
        )
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
        )
        await send({"type": "http.response.body", "body": b""})

    def get_extra_info(self, name: str) -> None:
        del name

    def set_write_buffer_limits(self, high: int) -> None:
        del high

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        assert self.is_reading
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_reading
        self.is_reading = True

    def is_closing(self) -> bool:
        return self.is_closed

    def write(self, data: bytes) -> None:
        self.sent += data

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.is_closed = True

    abort = close


class Reader:
    """The service's protocol, over one acceptor for all streams."""

    def __init__(self) -> None:
        self._state = uvicorn.server.ServerState()
        self._acceptor = Acceptor(
            self._answer, _SETTINGS, Budget(_SETTINGS.most_buffered), self._state
        )
        self._wire = Wire()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        await self._wire.app(scope, receive, send)

    async def read(self, data: bytes, cuts: list[int]) -> Found:
        """Return the result of reading a stream that arrives in pieces."""
        wire = self._wire = Wire()
        connection = self._acceptor()
        connection.connection_made(cast("asyncio.Transport", wire))
        at = 0
        for end in [*cuts, len(data)]:
            if end == at:
                continue
            await self._settle(wire, connection)
            if wire.is_closed or not wire.is_reading:
                break
            connection.data_received(data[at:end])
            at = end
        await self._settle(wire, connection)
        if not wire.is_closed:
            connection.eof_received()
            await self._settle(wire, connection)
        connection.connection_lost(None)
        await asyncio.sleep(0)
        statuses = re.findall(rb"HTTP/1\.1 (\d\d\d)", wire.sent)
        return Found(wire.found, refused=any(status[:1] in b"45" for status in statuses))

    async def _settle(self, wire: Wire, connection: Connection) -> None:
        """Run the loop until nothing changes any more."""
        quiet, before = 0, (-1, -1, -1)
        while quiet < 6:
            await asyncio.sleep(0)
            now = (len(wire.sent), len(wire.found), len(connection.came))
            quiet, before = (quiet + 1 if now == before else 0), now


# The comparison

_STRICTER = (
    re.compile(rb"(?<!\r)\n|\r(?!\n)"),  # a bare LF or CR
    re.compile(rb"\n[ \t]"),  # a folded line
    re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"),
    re.compile(rb"HTTP/(?!1\.[01]\r)"),
    re.compile(rb"(?i)content-length.*content-length", re.DOTALL),
    re.compile(rb"(?i)content-length:[^\r]*,"),
    re.compile(
        rb"(?i)content-length.*transfer-encoding|transfer-encoding.*content-length", re.DOTALL
    ),
    re.compile(rb"(?i)HTTP/1\.0.*transfer-encoding", re.DOTALL),
    re.compile(rb"[A-Z@^-`a-z]+ (?!/|\* |(?i:https?)://here)\S* HTTP/"),  # not a path of this host
    re.compile(rb"(?m)^[^\r\n]+ [^ \r\n]*#"),
    re.compile(rb"\S{512}"),  # beyond the limits that are set here
    re.compile(rb"(?m)^[^\r\n]{254}"),
    re.compile(rb"[!-~]{33} \S+ HTTP/"),
    re.compile(rb"[0-9]{19}"),
)


def difference(data: bytes, ours: Found, theirs: Found) -> str | None:
    """Return how our result differs from that of h11; None if it does not."""
    wanted = theirs.requests
    for number, request in enumerate(ours.requests):
        if number >= len(wanted):
            return f"request {number} is none: {request}"
        if not _same(request, wanted[number]):
            return f"request {number} is {request}, not {wanted[number]}"
    if len(ours.requests) < len(wanted) and not ours.refused:
        return f"{wanted[len(ours.requests)]} was not found"
    if theirs.refused or theirs.in_head:  # a malformed head is rejected before its end
        return None
    if ours.refused and not (
        any(one.search(data) for one in _STRICTER)
        or any(map(_names_another_host, wanted[len(ours.requests) :]))
        or (len(wanted) == len(ours.requests) and b"://" in data)  # a request that has not ended
    ):
        return "a stream without a fault was refused"
    return None


def _names_another_host(request: Request) -> bool:
    named = re.match(rb"(?i)https?://([^/?]*)", request.target)
    return (
        named is not None
        and named[1].lower() != dict(request.headers).get(b"host", named[1]).lower()
    )


def _same(ours: Request, theirs: Request) -> bool:
    path = re.sub(rb"^(?i:https?://[^/?]*)(?=[/?]|$)", b"", theirs.target).removesuffix(b"?")
    target = path if path.startswith((b"/", b"*")) else b"/" + path
    return ours.target == target and ours[:1] + ours[2:] == theirs[:1] + theirs[2:]


async def run(first: int, count: int) -> tuple[dict[str, int], list[str]]:
    """Read that many streams; return the counts of results, and the failures."""
    reader, wrong = Reader(), []
    went = {"requests": 0, "refused": 0, "stricter": 0}
    for seed in range(first, first + count):
        data, cuts = stream(seed)
        chunks.MOST_AT_ONCE = 3 if seed % 2 else 2_000
        ours, theirs = await reader.read(data, cuts), by_h11(data)
        found = difference(data, ours, theirs)
        if found is not None:
            wrong.append(f"seed {seed}: {found}")
        went["requests"] += len(ours.requests)
        went["refused"] += ours.refused
        went["stricter"] += ours.refused and not theirs.refused
    return went, wrong


def main() -> int:
    """Read the streams that the command line requests."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else STREAMS
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    went, wrong = asyncio.run(run(first, count))
    sys.stdout.write(f"{count} streams: {went}; {len(wrong)} read differently from h11\n")
    sys.stdout.writelines(f"{line}\n" for line in wrong[:20])
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
