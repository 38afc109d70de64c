"""``Call``: one request while the service handles it."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from agent_cores.session.inputs import LARGEST_NUMBER
from agent_cores.session.service.problems import Refusal, ShapeError
from agent_cores.session.service.request.bodies import (
    check_short,
    is_short,
    read_long,
    read_short,
)
from agent_cores.session.service.request.canonical import canonical
from agent_cores.session.service.request.checks import check_media_type, too_large
from agent_cores.session.service.request.idempotency import IdempotencyKey, key_text
from agent_cores.session.service.request.json_scan import RepeatedKeyError, check_keys
from agent_cores.session.service.request.preconditions import etag, expected
from agent_cores.session.service.request.view import RequestView
from agent_cores.session.service.responses import Response, offered
from agent_cores.session.wire.conversion import session_shape
from agent_cores.session.wire.problems import token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Message as AsgiMessage
    from starlette.types import Receive, Scope

    from agent_cores.session import models
    from agent_cores.session.manager import SessionManager
    from agent_cores.session.service.auth.principal import Principal
    from agent_cores.session.service.headers import Headers
    from agent_cores.session.service.request.time_slices import TimeSlices
    from agent_cores.session.service.routing import Route
    from agent_cores.session.service.settings import ServiceSettings
    from agent_cores.session.wire.health import NotReady

T = TypeVar("T")
encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_MOST_FIELDS = 200


class CallerGoneError(Exception):
    """The caller disconnected before the body was complete, so nobody waits for a response."""


class Call:
    """One request. The route's handler reads it and returns a ``Response``.

    ``path`` contains the path parameters; ``session_id`` is the first of them, unless the request
    makes a session, whose id it then is.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        route: Route,
        path: list[str],
        headers: Headers,
        *,
        manager: SessionManager,
        settings: ServiceSettings,
        why_not_ready: Callable[[], Awaitable[NotReady | None]],
        slices: TimeSlices,
        most_bytes: int,
        request_id: str,
    ) -> None:
        self.scope = scope
        self.route = route
        self.manager = manager
        self.settings = settings
        self.why_not_ready = why_not_ready
        self.slices = slices
        self.most_bytes = most_bytes
        self.request_id = request_id
        self.path = path
        self.session_id: str = path[0] if path else ""
        self.headers = headers
        self.principal: Principal
        self.admitted: Principal | None = None
        self.credential: str | None = None
        self.user_id: str = ""
        self.raw: bytes = b""
        self.waited: bool = False
        self.is_repeatable = True
        """Whether the request, sent again after a lost response, has no second effect."""
        self.erased_user: str | None = None
        self.is_complete = True
        """Whether the call has done all of its work, for the audit log."""
        self._receive = receive
        self._read: Any = None
        """A long body after decoding, or its ``ShapeError``."""
        self._view: RequestView | None = None

    @property
    def view(self) -> RequestView:
        """The manager, limited to the caller's namespace and groups."""
        view = self._view
        if view is None:
            principal = self.principal
            view = self._view = RequestView.of(
                self.manager,
                principal.namespace,
                principal.groups,
                principal.until,
                principal.operator,
            )
        return view

    @property
    def address(self) -> str:
        """The caller's address, as far as the server knows it."""
        client = self.scope.get("client")
        return client[0] if client else ""

    def recognize(self, credential: str) -> None:
        """Record the key or issuer of the verified credential."""
        self.credential = credential

    def admit(self, principal: Principal) -> None:
        """Record who is calling."""
        self.principal = self.admitted = principal
        self.credential = principal.source
        self.user_id = principal.user_id or ""

    def read_headers(self) -> None:
        """Read the headers that the route uses; refuse malformed ones, the same for every id."""
        given = self.headers.values(b"if-match")
        self.expected: dict[str, Any] = expected(given) if self.route.if_match else {}
        self.must_exist: bool = [value.strip() for value in given] == [b"*"]
        if given and not self.route.if_match and self.route.right == "write":
            raise Refusal("malformed_request", "If-Match is not accepted here")
        text = None
        if self.route.idempotent:
            text = key_text(self.headers.values(b"idempotency-key"))
        self.key: IdempotencyKey | None = (
            None
            if text is None
            else IdempotencyKey(self.principal, self.route.name, self.session_id, text)
        )

    async def read_body(self) -> None:
        """Read the body within its size and time limits, and check that it is JSON.

        ``waited`` is set if the body had not fully arrived: the credential may have expired since.
        """
        whole = offered(self.scope)
        body = None if whole is None else whole["body"]()
        if body is not None:
            self.raw = self._bounded(body, 0)
        else:
            await self._receive_body()
        if self.raw:
            check_media_type(self.headers)
            if not is_short(self.raw):
                limits = self.manager.runtime.limits
                reading = read_long(self.route.request, self.raw, limits)
                self._read = await self.slices.run(reading)
                self.waited = True

    async def _receive_body(self) -> None:
        self.waited = True
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.settings.body_timeout or None):
                more = True
                while more:
                    message = await self._receive()
                    chunks.append(self._chunk(message, size))
                    size += len(chunks[-1])
                    more = message.get("more_body", False)
        except TimeoutError as error:
            raise Refusal(
                "overloaded", "the body did not arrive in time", headers={"Connection": "close"}
            ) from error
        self.raw = b"".join(chunks)

    def _chunk(self, message: AsgiMessage, before: int) -> bytes:
        """Return the next part of the body; ``before`` is how many bytes came before it."""
        if message["type"] == "http.disconnect":
            raise CallerGoneError
        return self._bounded(message.get("body", b""), before)

    def _bounded(self, chunk: bytes, before: int) -> bytes:
        if before + len(chunk) > self.most_bytes:
            raise too_large(self.most_bytes)
        return chunk

    def body(self) -> Any:  # noqa: ANN401 - the type that the route declares
        """Return the body as the route's type; raise ``ShapeError`` if it has another shape."""
        if self.route.request is None:
            return None
        read = self._read
        if read is None:
            return read_short(self.route.request, self.raw or b"{}")
        if isinstance(read, ShapeError):
            # A new error: the raised one gets a traceback that refers to this call, so keeping it
            # would create a reference cycle that holds the body.
            raise ShapeError(read.field, read.problem)
        return read

    async def digest(self) -> str | None:
        """Return the digest of key and body, ignoring whitespace; ``None`` without a key."""
        if self.key is None:
            return None
        in_order = await self.slices.run(canonical(self.raw or b"{}", "sorted"))
        return self.key.digest(in_order.json)

    def check_syntax(self) -> None:
        """Refuse a body that is not JSON. A long body was already checked while it was read."""
        if self._read is None:
            check_short(self.raw or b"{}")

    def query(self) -> dict[str, Any]:
        """Return the query parameters that the route declares; raise ``ShapeError`` for others."""
        text = self.scope.get("query_string", b"")
        if not text:
            return {}
        try:
            pairs = parse_qsl(
                text.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_MOST_FIELDS,
            )
        except (ValueError, UnicodeError) as error:
            raise ShapeError("query", "not a query string of UTF-8") from error
        values: dict[str, Any] = {}
        for name, value in pairs:
            kind = self.route.query.get(name)
            if kind is None:
                raise ShapeError(token(name), "no such parameter")
            if kind in {"texts", "includes"}:
                values.setdefault(name, []).append(value)
            elif name in values:
                raise ShapeError(name, "given twice")
            else:
                values[name] = _converted(name, value, kind)
        return values

    def session(
        self, session: models.Session, status: int = 200, headers: dict[str, str] | None = None
    ) -> Response:
        """Return a session as a response."""
        extra = [(b"etag", etag(session.metadata).encode())]
        extra += [
            (name.lower().encode(), value.encode()) for name, value in (headers or {}).items()
        ]
        return Response(status, encode(session_shape(session)), extra)

    def json(self, value: object, status: int = 200) -> Response:
        """Return any other shape as a response."""
        return Response(status, encode(value))


def _converted(name: str, value: str, kind: str) -> Any:  # noqa: ANN401 - depends on kind
    if kind in {"integer", "few"}:
        if _INTEGER.fullmatch(value) is None or abs(int(value)) > LARGEST_NUMBER:
            raise ShapeError(name, "a whole number")
        return int(value)
    if kind == "flag":
        if value not in {"true", "false"}:
            raise ShapeError(name, "true or false")
        return value == "true"
    if kind == "time":
        return _time(name, value)
    if kind == "object":
        return _object(name, value)
    return value


def _time(name: str, value: str) -> datetime:
    try:
        return msgspec.convert(value, datetime)
    except msgspec.MsgspecError as error:
        raise ShapeError(name, "an RFC 3339 time") from error


def _object(name: str, value: str) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(value, type=dict[str, Any])
        check_keys(value.encode())
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ShapeError(name, "a JSON object") from error
    except RepeatedKeyError as error:
        raise ShapeError(name, "a JSON object that names no key twice") from error
    return decoded
