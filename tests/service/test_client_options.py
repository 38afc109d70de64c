"""What a client is made with: checked when it is made, and where it leads."""

# ruff: noqa: ANN401 - tests give what no type allows

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from agent_cores.session.client import SessionClient, SyncSessionClient
from agent_cores.session.client.options import checked_url
from agent_cores.session.errors import ConfigurationError
from tests.service.served import Live
from tests.service.wire import Wire

HERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "ftp://host",
        "host:8080",
        "http://",
        "http:///path",
        "https://:8080",
        "http://host:80a80",
        "http://host:99999",
        "http://host:0",
        "http://user:hunter2@host",
        "http://user@host",
        "http://host?query=hunter2",
        "http://host/?",
        "http://host#fragment",
        "http://ho st",
        "http://host\n",
        "http://host\\path",
        "http://[::1",
        None,
        b"http://host",
    ],
)
@pytest.mark.parametrize("kind", [SessionClient, SyncSessionClient])
def test_an_address_that_leads_nowhere_is_refused(kind: Any, base_url: Any) -> None:
    with pytest.raises(ConfigurationError, match="base_url") as caught:
        kind(base_url, "key")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("api_key", [None, "", "a\nb", "a b", "schlüssel", b"key", 5])
def test_a_key_that_fits_no_header_is_refused(api_key: Any) -> None:
    with pytest.raises(ConfigurationError, match="api_key"):
        SessionClient(HERE, api_key)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", None),
        ("timeout", "5"),
        ("timeout", True),
        ("retries", -1),
        ("retries", 1.5),
        ("retries", None),
        ("retries", True),
        ("pool_size", 0),
        ("pool_size", "many"),
        ("groups_of", ["team"]),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ConfigurationError, match=name):
        SessionClient(HERE, "key", **options)


def test_addresses_are_taken_in_every_spelling() -> None:
    assert checked_url("HTTPS://Example.com/") == "https://example.com"
    assert checked_url("https://[::1]:8443/base//") == "https://[::1]:8443/base"
    assert checked_url("http://bücher.example/über") == ("http://xn--bcher-kva.example/%C3%BCber")


@pytest.mark.parametrize("end", ["", "/"])
async def test_a_service_under_a_path_is_reached(wire: Wire, end: str) -> None:
    live = Live(Starlette(routes=[Mount("/our sessions", app=wire.service)]))
    address = f"{await live.start()}/our sessions{end}".replace(" ", "%20")
    async with SessionClient(address.replace("http:", "HTTP:"), await wire.key()) as client:
        talk = await client.create_session("ann", session_id="a/b".replace("/", "%"))
        await client.add_message(talk, "ann", "user", "hi")
        assert (await client.get_session(talk, "ann")).metadata.last_seq == 1
    await live.stop()
