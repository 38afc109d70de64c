"""Keys of issuers: read from a file or a URL, kept, and read again."""

# ruff: noqa: ANN401, SLF001 - tests look behind the service, and send what no type allows

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.service.auth import issuer_keys as module
from agent_cores.session.service.auth import key_fetching
from agent_cores.session.service.auth.issuer import Issuer
from tests.service.tokens import ISSUER, asked, claims, public_issuer
from tests.service.wire import Wire

OLD = RSAKey.generate_key(2048, {"kid": "old"})
NEW = RSAKey.generate_key(2048, {"kid": "new"})


class KeyServer(ThreadingHTTPServer):
    """An issuer's server of keys, on loopback: ``body`` is its answer, ``None`` a failure."""

    body: bytes | None = None
    head = b""
    pause = 0.0
    moved_to = ""
    asked = 0

    def hold(self, *keys: RSAKey) -> None:
        self.body = json.dumps(KeySet(list(keys)).as_dict(private=False)).encode()

    @property
    def issuer(self) -> Issuer:
        return Issuer(
            issuer=ISSUER.issuer,
            audience=ISSUER.audience,
            algorithms=("RS256",),
            namespaces=("default",),
            jwks=f"http://127.0.0.1:{self.server_port}/jwks",
        )


class Answering(BaseHTTPRequestHandler):
    server: KeyServer

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.server.pause:
            self.drip()
            return
        if self.server.moved_to:
            self.send_response(302)
            self.send_header("Location", self.server.moved_to)
            self.server.moved_to = ""
            self.end_headers()
            return
        self.send_response(500 if self.server.body is None else 200)
        self.end_headers()
        self.wfile.write(self.server.body or b"")

    def drip(self) -> None:
        """Send the answer byte by byte, until nobody listens."""
        answer = self.server.head + (self.server.body or b"")
        with suppress(OSError):
            for place in range(len(answer)):
                self.wfile.write(answer[place : place + 1])
                time.sleep(self.server.pause)

    def do_CONNECT(self) -> None:
        """Refuse to be a proxy, and count who asked."""
        self.server.asked += 1
        self.send_error(403)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def key_server() -> Iterator[KeyServer]:
    with KeyServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server
        server.shutdown()


def signed(wire: Wire, key: RSAKey) -> str:
    return jwt.encode({"alg": "RS256", "kid": key.kid}, claims(wire.clock()), key)


async def test_keys_of_a_file_are_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(jwt_issuers=(public_issuer(tmp_path, [OLD], ("RS256",)),))
    tokens = [signed(wire, key) for key in (OLD, NEW)]
    assert [(await asked(wire, text)).status for text in tokens] == [200, 401]
    public_issuer(tmp_path, [OLD, NEW], ("RS256",))
    assert (await asked(wire, tokens[1])).status == 401, "keys are not fetched for every token"
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    assert [(await asked(wire, text)).status for text in tokens] == [200, 200]
    (tmp_path / "jwks.json").unlink()
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)
    assert (await asked(wire, tokens[0])).status == 200, "known keys outlive their source"


async def test_keys_of_a_url_are_fetched_once_and_rotated(
    key_server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_server.hold(OLD)
    wire = Wire(jwt_issuers=(key_server.issuer,))
    tokens = [signed(wire, key) for key in (OLD, NEW)]
    replies = await asyncio.gather(*(asked(wire, tokens[0]) for _ in range(5)))
    assert {reply.status for reply in replies} == {200}
    key_server.hold(NEW)
    assert [(await asked(wire, text)).status for text in tokens] == [200, 401]
    assert key_server.asked == 1
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    assert [(await asked(wire, text)).status for text in reversed(tokens)] == [200, 401]
    key_server.body = None
    assert (await asked(wire, tokens[1])).status == 200, "known keys outlive their source"


async def test_an_issuer_that_does_not_answer_is_not_asked_for_every_token(
    key_server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(jwt_issuers=(key_server.issuer,))
    text = signed(wire, OLD)
    replies = await asyncio.gather(*(asked(wire, text) for _ in range(5)))
    assert {(reply.status, reply.code) for reply in replies} == {(503, "storage_unavailable")}
    assert "retry-after" in replies[0].headers
    assert key_server.asked == 1
    key_server.hold(OLD)
    monkeypatch.setattr(module, "UNREAD_SECONDS", 0.0)
    assert (await asked(wire, text)).status == 200


async def test_what_is_no_set_of_keys_is_no_answer(key_server: KeyServer) -> None:
    wire = Wire(jwt_issuers=(key_server.issuer,))
    for body in (b"", b"{", b"[]", b'{"keys": 5}', b'{"keys": [{"kty": "x"}]}', b"[" * 100_000):
        key_server.body = body
        wire.service = wire.another(jwt_issuers=(key_server.issuer,))
        assert (await asked(wire, signed(wire, OLD))).code == "storage_unavailable", body


async def test_a_redirection_is_followed_only_to_a_safe_address(key_server: KeyServer) -> None:
    key_server.hold(OLD)
    wire = Wire(jwt_issuers=(key_server.issuer,))
    for host, status in (("localhost", 200), ("127.1", 503)):
        key_server.moved_to = f"http://{host}:{key_server.server_port}/keys"
        wire.service = wire.another(jwt_issuers=(key_server.issuer,))
        assert (await asked(wire, signed(wire, OLD))).status == status


UNUSABLE: dict[str, Any] = {
    "of an unknown kind": {"kty": "ML-DSA", "kid": "a"},
    "of an unknown curve": {**ECKey.generate_key("P-256").as_dict(private=False), "crv": "P-999"},
    "without a kind": {"kid": "a", "n": "AQAB", "e": "AQAB"},
    "with a number as its name": {**OLD.as_dict(private=False), "kid": 5},
    "with a list as its kind": {"kty": ["RSA"], "kid": "a"},
    "with half of its numbers": {"kty": "RSA", "kid": "a", "n": "AQAB"},
    "that is a secret": OctKey.generate_key(256, {"kid": "a"}).as_dict(private=True),
    "for secrets": {**OLD.as_dict(private=False), "use": "enc", "kid": "a"},
    "for other operations": {**OLD.as_dict(private=False), "key_ops": ["encrypt"], "kid": "a"},
    "that is none": None,
    "that is text": "key",
}


@pytest.mark.parametrize("kind", UNUSABLE)
async def test_a_key_of_no_use_is_passed_over(key_server: KeyServer, kind: str) -> None:
    keys = [UNUSABLE[kind], NEW.as_dict(private=False), UNUSABLE[kind]]
    key_server.body = json.dumps({"keys": keys}).encode()
    wire = Wire(jwt_issuers=(key_server.issuer,))
    assert (await asked(wire, signed(wire, NEW))).status == 200
    assert (await asked(wire, signed(wire, OLD))).status == 401


async def test_no_proxy_of_the_environment_is_asked_for_keys(
    key_server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_server.hold(OLD)
    with KeyServer(("127.0.0.1", 0), Answering) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.01,)).start()
        proxy.hold(NEW)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            for spelling in (name, name.lower()):
                monkeypatch.setenv(spelling, f"http://127.0.0.1:{proxy.server_port}")
        wire = Wire(jwt_issuers=(key_server.issuer,))
        assert [(await asked(wire, signed(wire, key))).status for key in (OLD, NEW)] == [200, 401]
        fields = issuer_fields(key_server) | {"jwks": "https://127.0.0.1:9/jwks"}
        wire.service = wire.another(jwt_issuers=(Issuer(**fields),))
        assert (await asked(wire, signed(wire, OLD))).status == 503
        assert proxy.asked == 0
        fields["jwks_proxy"] = f"http://127.0.0.1:{proxy.server_port}"
        wire.service = wire.another(jwt_issuers=(Issuer(**fields),))
        assert (await asked(wire, signed(wire, OLD))).status == 503
        assert proxy.asked == 1, "the one that the issuer's own setting names"
        proxy.shutdown()


def issuer_fields(key_server: KeyServer) -> dict[str, Any]:
    return {name: getattr(key_server.issuer, name) for name in Issuer.__struct_fields__}


@pytest.mark.parametrize("proxy", ["proxy.test:3128", "socks5://proxy.test"])
def test_a_proxy_that_is_no_proxy_of_http_is_refused(key_server: KeyServer, proxy: str) -> None:
    fields = issuer_fields(key_server) | {"jwks": "https://issuer.test/jwks", "jwks_proxy": proxy}
    with pytest.raises(ConfigurationError, match="jwks_proxy"):
        Issuer(**fields)


def test_a_proxy_may_not_stand_before_keys_that_are_not_encrypted(key_server: KeyServer) -> None:
    with pytest.raises(ConfigurationError, match="jwks_proxy"):
        Issuer(**issuer_fields(key_server) | {"jwks_proxy": "http://proxy.test:3128"})


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nA: "])
async def test_a_server_that_drips_is_left_in_time(
    key_server: KeyServer, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(key_fetching, "FETCH_SECONDS", 0.4)
    key_server.hold(OLD)
    key_server.head, key_server.pause = head, 0.02
    wire = Wire(jwt_issuers=(key_server.issuer,))
    started = time.monotonic()
    assert (await asked(wire, signed(wire, OLD))).status == 503
    assert time.monotonic() - started < 5
    fetching = [one for one in threading.enumerate() if one.name == "key-fetch"]
    for thread in fetching:
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive(), "the connection was cut"


async def test_a_set_of_keys_that_is_too_large_is_not_read(
    key_server: KeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_fetching, "MOST_BYTES", 1_000)
    key_server.hold(OLD)
    key_server.body = (key_server.body or b"") + b" " * 1_000
    (tmp_path / "jwks.json").write_bytes(key_server.body)
    of_file = issuer_fields(key_server) | {"jwks": str(tmp_path / "jwks.json")}
    for issuer in (key_server.issuer, Issuer(**of_file)):
        wire = Wire(jwt_issuers=(issuer,))
        assert (await asked(wire, signed(wire, OLD))).status == 503


def test_from_outside_no_redirection_leads_to_this_machine() -> None:
    redirects = key_fetching._SafeRedirects()
    outside = urllib.request.Request("https://issuer.test/jwks")
    answer = io.BytesIO()
    to: Any = (outside, answer, 302, "Found", {})
    with pytest.raises(ValueError, match="not https"):
        redirects.redirect_request(*to, "http://127.0.0.1:8000/jwks")
    assert answer.closed
    assert redirects.redirect_request(*to, "https://keys.test/jwks") is not None
