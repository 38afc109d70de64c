"""``Response``, and how it is sent: in one call if the server supports it, else in two.

ASGI sends the head and the body of a response as two messages, and a server checks every header.
Nearly all responses here differ in only three places. So a server may offer the extension ``WHOLE``
in the scope: it then takes complete responses in their final bytes, and hands over request bodies
that have arrived completely. docs/decisions/0012 measures what that saves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import msgspec

from agent_cores.session.models.representation import hides
from agent_cores.session.service.problems import problem_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from starlette.types import Scope, Send

_encode = msgspec.json.Encoder().encode
WHOLE = "agent_sessions.whole"
"""The name of the extension. A server offers it only where nothing wraps the service."""


class Whole(TypedDict):
    """The extension that a server offers.

    ``answer`` takes status, header lines and body, and whether to close the connection afterwards.
    It returns a future to await until the caller has read the response, or ``None``. ``body``
    returns the request's body, once; ``None`` means that it is incomplete, so receive it in parts.
    The server counts the bodies that it holds, see ``Budget``.
    """

    answer: Callable[..., Awaitable[None] | None]
    body: Callable[[], bytes | None]


def offered(scope: Scope) -> Whole | None:
    """Return the extension, if the server offers it."""
    extensions = scope.get("extensions")
    return extensions.get(WHOLE) if extensions else None


_JSON = b"application/json"
_NO_CONTENT = 204
_HTML = b"text/html; charset=utf-8"
_EVERY = [
    (b"cache-control", b"no-store"),
    (b"vary", b"Authorization, X-User-Id"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_POLICY = (
    b"content-security-policy",
    b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
)
_PAGE_POLICY = (
    _POLICY[0],
    _POLICY[1] + b"; form-action 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"
    b"; img-src data:",
)
"""The only page: scripts, styles and requests from and to this service, pictures in its styles."""
_SAME = b"".join(b"%b: %b\r\n" % header for header in (*_EVERY, _POLICY))
_PAGE = b"".join(b"%b: %b\r\n" % header for header in (*_EVERY, _PAGE_POLICY))
_LINES = _SAME + b"x-request-id: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
_PAGE_LINES = _PAGE + b"x-request-id: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
_LINES_WITHOUT_BODY = _SAME + b"x-request-id: %b\r\n"
_CLOSE = (b"connection", b"close")
_WITHOUT_CONNECTION = {"2", "3"}
"""The versions of HTTP that forbid the header ``Connection``."""


@hides("body")
class Response(msgspec.Struct):
    """Status, body, and the headers beyond those that every response has."""

    status: int
    body: bytes = b""
    headers: list[tuple[bytes, bytes]] = msgspec.field(default_factory=list)
    content_type: bytes = _JSON


def problem_response(error: Exception, names: Mapping[str, str], at: datetime) -> Response:
    """Return the response that reports an error; see ``problem_of``."""
    status, headers, problem = problem_of(error, names, at)
    extra = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Response(status, _encode(problem), extra, b"application/problem+json")


def head_lines(answer: Response, request_id: bytes) -> bytes:
    """Return the header lines except ``Connection``, which the server adds."""
    if answer.status == _NO_CONTENT:
        lines = _LINES_WITHOUT_BODY % request_id
    else:
        form = _PAGE_LINES if answer.content_type == _HTML else _LINES
        lines = form % (request_id, answer.content_type, len(answer.body))
    for header in answer.headers:
        if header == _CLOSE:
            continue
        line = b"%b: %b\r\n" % header
        if line.count(b"\n") != 1 or line.count(b"\r") != 1:
            raise ValueError("a header is one line")
        lines += line
    return lines


async def send_response(
    answer: Response, request_id: bytes, scope: Scope, send: Send, *, closes: bool = False
) -> None:
    """Send a response, and wait until it is read. The request id must be valid in a header.

    ``closes``: the caller is told to send its next request over another connection.
    """
    closes = closes or _CLOSE in answer.headers
    whole = offered(scope)
    if whole is not None:
        body = b"" if answer.status == _NO_CONTENT else answer.body
        waits_for = whole["answer"](
            answer.status, head_lines(answer, request_id), body, closes=closes
        )
        if waits_for is not None:
            await waits_for
        return
    policy = _PAGE_POLICY if answer.content_type == _HTML else _POLICY
    headers = [*_EVERY, policy, (b"x-request-id", request_id)]
    headers += [header for header in answer.headers if header != _CLOSE]
    if closes and scope.get("http_version") not in _WITHOUT_CONNECTION:
        headers.append(_CLOSE)
    if answer.status != _NO_CONTENT:
        headers += [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
        ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
