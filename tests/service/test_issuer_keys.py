"""Keys of issuers: read from a file or a URL, kept, and read again."""

# ruff: noqa: ANN401 - tests look behind the service, and send what no type allows

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from agent_cores.session.service import jwt_issuers as module
from agent_cores.session.service.jwt_issuers import Issuer
from tests.service.tokens import ISSUER, asked, claims, public_issuer
from tests.service.wire import Wire

OLD = RSAKey.generate_key(2048, {"kid": "old"})
NEW = RSAKey.generate_key(2048, {"kid": "new"})


class KeyServer(ThreadingHTTPServer):
    """An issuer's server of keys, on loopback: ``body`` is its answer, ``None`` a failure."""

    body: bytes | None = None
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
        if self.server.moved_to:
            self.send_response(302)
            self.send_header("Location", self.server.moved_to)
            self.server.moved_to = ""
            self.end_headers()
            return
        self.send_response(500 if self.server.body is None else 200)
        self.end_headers()
        self.wfile.write(self.server.body or b"")

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
    for body in (b"", b"{", b"[]", b'{"keys": 5}', b'{"keys": [{"kty": "x"}]}'):
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
