"""What browsers are told: which pages may call the service, and what they may do with answers."""

from __future__ import annotations

import pytest

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.service import ServiceSettings
from tests.service.http1 import served
from tests.service.wire import Wire

PAGE = "https://app.example.com"
OTHER = "https://evil.example.com"
S = "/v1/sessions"
PREFLIGHT = {"Access-Control-Request-Method": "POST"}


@pytest.fixture
def open_wire() -> Wire:
    """Return a service that two pages may call."""
    return Wire(cors_origins=(PAGE, "http://localhost:3000"))


def cors(headers: dict[str, str]) -> set[str]:
    return {name for name in headers if name.startswith("access-control-")}


async def test_a_listed_page_may_call(open_wire: Wire) -> None:
    ann = await open_wire.caller("ann", Origin=PAGE)
    made = await ann("POST", S, {})
    assert made.status == 201
    assert made.headers["access-control-allow-origin"] == PAGE
    exposed = made.headers["access-control-expose-headers"].lower().split(", ")
    assert {"etag", "x-request-id", "idempotent-replayed", "location", "retry-after"} <= {*exposed}
    assert "access-control-allow-credentials" not in made.headers
    assert "Origin" in made.headers["vary"]
    refused = await ann("GET", f"{S}/nope")  # which the page has to be able to read too
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (404, PAGE)
    anonymous = await open_wire.request("GET", S, headers={"Origin": PAGE})
    assert (anonymous.status, anonymous.headers["access-control-allow-origin"]) == (401, PAGE)


async def test_a_preflight_is_answered_without_a_credential(open_wire: Wire) -> None:
    reply = await open_wire.request("OPTIONS", S, headers={"Origin": PAGE, **PREFLIGHT})
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert "PATCH" in reply.headers["access-control-allow-methods"]
    allowed = reply.headers["access-control-allow-headers"].lower()
    for name in ("authorization", "content-type", "if-match", "idempotency-key", "x-user-id"):
        assert name in allowed


@pytest.mark.parametrize("origin", [OTHER, "null", f"{PAGE}.evil.com", PAGE.upper(), "", "*"])
async def test_no_other_page_may(open_wire: Wire, origin: str) -> None:
    headers = {"Origin": origin}
    asked = await open_wire.request("OPTIONS", S, headers={**headers, **PREFLIGHT})
    assert not cors(asked.headers)
    ann = await open_wire.caller("ann", **headers)
    reply = await ann("GET", S)
    assert not cors(reply.headers)
    assert "Origin" in reply.headers["vary"]  # a cache must not give it to the page that may


async def test_it_is_off_unless_it_is_set(wire: Wire) -> None:
    ann = await wire.caller("ann", Origin=PAGE)
    assert not cors((await ann("GET", S)).headers)
    asked = await wire.request("OPTIONS", S, headers={"Origin": PAGE, **PREFLIGHT})
    assert (asked.status, asked.code) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    "wrong", ["*", "null", "app.example.com", f"{PAGE}/", f"{PAGE}/a", "https://*.example.com", ""]
)
def test_origins_are_origins(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="CORS_ORIGINS"):
        ServiceSettings(cors_origins=(wrong,))


def test_origins_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_SERVICE_CORS_ORIGINS", f"{PAGE}, http://localhost:3000  # ours")
    assert ServiceSettings.load().cors_origins == (PAGE, "http://localhost:3000")


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/v1/openapi.json", S, "/nowhere"])
async def test_every_answer_says_how_it_may_be_used(wire: Wire, path: str) -> None:
    headers = (await wire.request("GET", path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert ("style-src" in policy) == (path == "/docs")


async def test_users_are_taken_as_a_browser_encodes_them(wire: Wire) -> None:
    """``encodeURIComponent`` leaves ``-_.!~*'()`` as they are."""
    key = await wire.key()
    headers = {
        "Authorization": f"Bearer {key}",
        "X-User-Id": "o'neil(x)!*~",
        "X-User-Groups": "a'b,(c)",
    }
    reply = await wire.request("GET", "/v1/me", headers=headers)
    assert reply.json()["user_id"] == "o'neil(x)!*~"
    assert reply.json()["groups"] == ["a'b", "(c)"]


@pytest.mark.parametrize(
    ("line", "more", "status"),
    [
        ("GET /" + "x" * 9_000 + " HTTP/1.1", "", 414),
        ("GET / HTTP/1.1", "X-Long: " + "x" * 40_000, 431),
        ("GET / HTTP/1.1", "Content-Length: 1\r\nContent-Length: 2", 400),
    ],
)
@pytest.mark.parametrize("origin", [PAGE, OTHER])
async def test_a_listed_page_may_read_why_its_request_was_malformed(
    open_wire: Wire, line: str, more: str, status: int, origin: str
) -> None:
    head = f"{line}\r\nHost: here\r\nOrigin: {origin}\r\n{more}\r\n\r\n".encode()
    async with served(open_wire.service, cors_origins=(PAGE,)) as server:
        said = (await server.said(head)).lower()
    assert said.startswith(f"http/1.1 {status} ".encode())
    assert (b"access-control-allow-origin: " + PAGE.encode() in said) is (origin == PAGE)
    assert b"vary: origin\r\n" in said
