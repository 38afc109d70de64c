"""``Answer``, what goes back to a caller, and how: whole where the server takes it so, or in two.

ASGI sends the head of an answer and its body as two messages, and a server looks at every header.
Nearly all answers here differ in three places only, so a server may offer to take them as they go
over the wire, and to give a body that is there already: the extension ``WHOLE`` of the scope.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Scope, Send

WHOLE = "agent_sessions.whole"
"""The name of the extension. A server offers it only where nothing wraps the service."""


class Whole(TypedDict):
    """What a server offers.

    ``send`` takes status, headers and body of an answer; false: not now, send it in two. ``body``
    gives the body of the request, once; ``None``: it is not all there, ask for it piece by piece.
    """

    send: Callable[[int, bytes, bytes], bool]
    body: Callable[[], bytes | None]


def offered(scope: Scope) -> Whole | None:
    """Return what the server offers, if it does."""
    extensions = scope.get("extensions")
    return extensions.get(WHOLE) if extensions else None


_JSON = b"application/json"
_NO_CONTENT = 204
_EVERY = [(b"cache-control", b"no-store"), (b"vary", b"Authorization, X-User-Id")]
_HEAD = (
    b"".join(b"%b: %b\r\n" % header for header in _EVERY)
    + b"x-request-id: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
)


class Answer(msgspec.Struct):
    """Status, body and headers beside those that every response has."""

    status: int
    body: bytes = b""
    headers: list[tuple[bytes, bytes]] = msgspec.field(default_factory=list)
    content_type: bytes = _JSON


async def send_answer(answer: Answer, request_id: bytes, scope: Scope, send: Send) -> None:
    """Send an answer. The request id is one that may stand in a header."""
    whole = offered(scope)
    if whole is not None and not answer.headers and answer.status != _NO_CONTENT:
        head = _HEAD % (request_id, answer.content_type, len(answer.body))
        if whole["send"](answer.status, head, answer.body):
            return
    headers = [*_EVERY, (b"x-request-id", request_id), *answer.headers]
    if answer.status != _NO_CONTENT:
        headers += [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
        ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
