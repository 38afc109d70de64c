"""A service under test, called without a socket, and the callers who call it."""

# ruff: noqa: ANN401, SLF001 - tests look behind the service, and send what no type allows

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import msgspec

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.service import Service, ServiceSettings
from agent_cores.session.service.auth.api_keys import (
    ApiKey,
    StoredKeys,
    hashed,
    key_text,
    new_secret,
)
from agent_cores.session.testing.clock import ManualClock

Headers = dict[str, str]


class Reply(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        problem = self.json()
        code: str = problem.get("error", problem)["code"]  # OpenAI's shape has it inside
        return code


class Steps:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Wire:
    """One service on one memory store."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.steps = Steps()
        self.manager = SessionManager(
            "memory", settings=SessionSettings(cleanup_interval=0), clock=self.clock
        )
        self.service = self.another(**settings)
        runtime = self.manager._runtime
        self.keys = StoredKeys(runtime.storage, self.clock)

    def another(self, **settings: Any) -> Service:
        """Return another service on the same store, like another worker."""
        return Service(self.manager, ServiceSettings(**settings), now=self.steps)

    async def key(self, *rights: str, **fields: Any) -> str:
        """Create a key and return it."""
        key_id, secret = new_secret()
        given = rights or ("read", "write", "act-as")
        key = ApiKey(
            id=key_id,
            name="test",
            secret_hash=hashed(secret),
            rights=given,
            created_at=self.clock(),
            **{"namespace": "default", **fields},
        )
        await self.keys.add(key)
        return key_text(key_id, secret)

    async def caller(self, user_id: str | None, key: str = "", **headers: str) -> Caller:
        """Return a caller with a key that may act for any user, or with the given key."""
        return Caller(self.service, user_id, key or await self.key(), headers)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Headers | None = None,
        service: Service | None = None,
        **scope: Any,
    ) -> Reply:
        """Send one request."""
        return await request(service or self.service, method, path, body, headers=headers, **scope)


class Caller:
    """A caller that sends requests."""

    def __init__(
        self, service: Any, user_id: str | None, key: str | None, headers: Headers
    ) -> None:
        self.service = service
        self.user_id = user_id
        self.headers = dict(headers)
        if key is not None:
            self.headers["Authorization"] = f"Bearer {key}"
        if user_id is not None:
            self.headers["X-User-Id"] = quote(user_id, safe="")

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Headers | None = None,
        **scope: Any,
    ) -> Reply:
        """Send one request."""
        given = {**self.headers, **(headers or {})}
        return await request(self.service, method, path, body, headers=given, **scope)

    async def new_session(self, **body: Any) -> str:
        """Create a session and return its id."""
        reply = await self("POST", "/v1/sessions", body)
        assert reply.status == 201, reply
        session_id: str = reply.json()["id"]
        return session_id

    async def say(self, session_id: str, content: str = "hello", **fields: Any) -> Reply:
        """Append one message."""
        body = {"messages": [{"role": "user", "content": content}], **fields}
        return await self("POST", f"/v1/sessions/{session_id}/messages", body)


async def request(
    service: Any,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: Headers | None = None,
    **scope: Any,
) -> Reply:
    """Send one request to an ASGI application."""
    given = dict(headers or {})
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    if raw:
        given.setdefault("Content-Type", "application/json")
        if "Transfer-Encoding" not in given:
            given["Content-Length"] = str(len(raw))
    bare, _, query = path.partition("?")
    started: dict[str, Any] = {}
    chunks: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            chunks.append(message.get("body", b""))

    await service(
        {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": bare,
            "raw_path": bare.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 5000),
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in given.items()],
            **scope,
        },
        scope.get("receive", receive),
        send,
    )
    names = {k.decode(): v.decode() for k, v in started["headers"]}
    return Reply(started["status"], names, b"".join(chunks))
