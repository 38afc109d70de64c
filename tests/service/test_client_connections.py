"""How the client reaches a service: TLS, a proxy, headers for a gateway."""

# ruff: noqa: ANN401 - tests give what no type allows

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, assert_type

import pytest

from agent_cores.session import SessionManager, get_session_manager
from agent_cores.session.client import SessionClient, SyncSessionClient
from agent_cores.session.errors import ConfigurationError, StorageUnavailableError
from tests.service.certificates import Authority

ME = json.dumps({"namespace": "team", "rights": ["read"], "user_id": "ann"}).encode()
HERE = "http://127.0.0.1:1"


@asynccontextmanager
async def answering(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """Listen on a free port and answer every request; give the port and what was sent."""
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(ME), ME)
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


async def test_an_authority_of_ones_own_is_trusted_if_it_is_given(tmp_path: Path) -> None:
    authority = Authority()
    async with answering(authority.server(tmp_path)) as (port, heads):
        client = SessionClient(
            f"https://127.0.0.1:{port}", "key", ssl_context=authority.trusted(), retries=0
        )
        await client.initialize()
        assert client.namespace == "team"
        await client.shutdown()
    assert len(heads) == 1


@pytest.mark.parametrize("trusts", ["the system", "another"])
async def test_a_certificate_that_is_not_trusted_is_called_that(
    tmp_path: Path, trusts: str
) -> None:
    context = None if trusts == "the system" else Authority().trusted()
    async with answering(Authority().server(tmp_path)) as (port, heads):
        client = SessionClient(f"https://127.0.0.1:{port}", "hunter2", ssl_context=context)
        with pytest.raises(
            StorageUnavailableError, match=r"certificate .* is not trusted"
        ) as error:
            await client.create_session("ann")
        await client.shutdown()
    assert error.value.outcome_unknown is False
    assert "ssl_context" in str(error.value)
    assert "did not answer" not in str(error.value)
    assert "hunter2" not in str(error.value)
    assert not heads  # and the key was not sent


async def test_what_does_not_speak_tls_is_called_that() -> None:
    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = SessionClient(f"https://127.0.0.1:{port}", "key", retries=0)
        with pytest.raises(StorageUnavailableError, match="TLS with the session service failed"):
            await client.create_session("ann")
        await client.shutdown()


async def test_a_proxy_is_used_if_it_is_given_and_only_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with answering() as (proxy, asked), answering() as (port, heads):
        client = SessionClient(
            "http://sessions.example", "key", proxy=f"http://u:p@127.0.0.1:{proxy}"
        )
        await client.initialize()
        await client.shutdown()
        assert asked[0].startswith("GET http://sessions.example/v1/me ")
        assert "Proxy-Authorization: Basic" in asked[0]
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy}")
        client = SessionClient(f"http://127.0.0.1:{port}", "key")
        await client.initialize()
        await client.shutdown()
    assert (len(asked), len(heads)) == (1, 1)


async def test_a_proxy_that_is_not_there_is_named() -> None:
    client = SessionClient("http://sessions.example", "key", proxy="http://u:hunter2@127.0.0.1:1")
    with pytest.raises(StorageUnavailableError, match="the proxy did not answer") as error:
        await client.create_session("ann")
    assert "hunter2" not in str(error.value)
    await client.shutdown()


async def test_headers_are_sent_with_every_request() -> None:
    async with answering() as (port, heads):
        client = SessionClient(f"http://127.0.0.1:{port}", "key", headers={"X-Gateway": "open"})
        await client.initialize()
        await client.shutdown()
    assert "X-Gateway: open\r\n" in heads[0]
    assert "Authorization: Bearer key\r\n" in heads[0]


@pytest.mark.parametrize("kind", [SessionClient, SyncSessionClient])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ssl_context", True),
        ("ssl_context", "ca.pem"),
        ("proxy", "socks5://host"),
        ("proxy", "http://"),
        ("proxy", 5),
        ("headers", [("a", "b")]),
        ("headers", {"Authorization": "Bearer x"}),
        ("headers", {"x-user-id": "eve"}),
        ("headers", {"X-A": "b\r\nX-User-Id: eve"}),
        ("headers", {"X A": "b"}),
        ("headers", {"X-A": 5}),
    ],
)
def test_options_of_the_connection_are_checked(kind: Any, name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        kind(HERE, "key", **{name: value})


def test_the_accessor_is_typed_as_what_it_returns() -> None:
    """``make check`` looks at the types, this at the objects."""
    client = get_session_manager(HERE, api_key="key")
    assert_type(client, SessionClient)
    assert isinstance(client, SessionClient)
    manager = get_session_manager("memory")
    assert_type(manager, SessionManager)
    assert not isinstance(manager, SessionClient)
    assert_type(SyncSessionClient(HERE, "key", headers={"X-A": "b"}), SyncSessionClient)
