"""CORS: which web pages may call the service. None, unless their origin is listed.

A page sends its own ``Authorization`` header. Cookies and other browser credentials are never
allowed, so no page can act with a login of the user's from elsewhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.service.responses import Response

if TYPE_CHECKING:
    from agent_cores.session.service.headers import Headers

_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_VARY = (b"vary", b"Origin")
_EXPOSED = (
    b"access-control-expose-headers",
    b"ETag, X-Request-Id, Idempotent-Replayed, Location, Retry-After, Had-Grant, X-Should-Retry",
)
_TAKEN = (
    b"Authorization",
    b"Content-Type",
    b"Idempotency-Key",
    b"If-Match",
    b"X-Operator",
    b"X-Owner-Id",
    b"X-Request-Id",
    b"X-User-Id",
    b"X-User-Groups",
    # What OpenAI's client for JavaScript sends along.
    b"OpenAI-Organization",
    b"OpenAI-Project",
    b"X-Stainless-Arch",
    b"X-Stainless-Helper-Method",
    b"X-Stainless-Lang",
    b"X-Stainless-OS",
    b"X-Stainless-Package-Version",
    b"X-Stainless-Retry-Count",
    b"X-Stainless-Runtime",
    b"X-Stainless-Runtime-Version",
    b"X-Stainless-Timeout",
)
_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b", ".join(_TAKEN),
    ),
    (b"access-control-max-age", b"600"),
]


def check_origins(origins: tuple[str, ...]) -> None:
    """Refuse ``*``, and anything that no browser sends as an ``Origin``."""
    for origin in origins:
        if _ORIGIN.fullmatch(origin) is None:
            raise ConfigurationError(
                "SESSION_SERVICE_CORS_ORIGINS holds origins as browsers send them, such as"
                " https://app.example.com or http://localhost:3000, separated by commas;"
                " * is not allowed"
            )


class Cors:
    """The allowed origins."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def preflight(self, method: str, headers: Headers) -> Response | None:
        """Return the response to a browser's preflight request."""
        asks = headers.values(b"access-control-request-method")
        if method != "OPTIONS" or not asks or not headers.values(b"origin") or not self._origins:
            return None
        return Response(204, headers=list(_PREFLIGHT) if self._allowed(headers) else [])

    def mark(self, answer: Response, headers: Headers) -> None:
        """Add the headers that let the calling page read a response."""
        if not self._origins:
            return
        origin = self._allowed(headers)
        answer.headers.append(_VARY)
        if origin is not None:
            answer.headers += [(b"access-control-allow-origin", origin), _EXPOSED]

    def _allowed(self, headers: Headers) -> bytes | None:
        given = headers.values(b"origin")
        return given[0] if len(given) == 1 and given[0] in self._origins else None
