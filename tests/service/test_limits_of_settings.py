"""What a request may hold follows the settings, in what is taken and in what is described."""

from __future__ import annotations

from typing import Any

import pytest

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.service.auth.api_keys import StoredKeys
from tests.service.wire import Caller, Wire

S = "/v1/sessions"


def wire_with(**settings: Any) -> Wire:  # noqa: ANN401 - fields of SessionSettings
    wire = Wire()
    wire.manager = SessionManager(
        "memory", settings=SessionSettings(cleanup_interval=0, **settings), clock=wire.clock
    )
    wire.service = wire.another()
    wire.keys = StoredKeys(wire.manager._runtime.storage, wire.clock)  # noqa: SLF001
    return wire


async def append(ann: Caller, session_id: str, count: int) -> int:
    said = [{"role": "user", "content": "x"}] * count
    return (await ann("POST", f"{S}/{session_id}/messages", {"messages": said})).status


@pytest.mark.parametrize("most", [3, 5_000])
async def test_an_append_holds_as_many_messages_as_the_setting_says(most: int) -> None:
    wire = wire_with(max_append_messages=most, max_page_items=2_000, max_name_bytes=600)
    ann = await wire.caller("ann")
    session_id = await ann.new_session()
    assert await append(ann, session_id, most) == 201
    assert await append(ann, session_id, most + 1) == 422
    path = f"{S}/{session_id}"
    page = (await ann("GET", f"{path}/messages?limit=2000&after_seq=0")).json()
    assert len(page["data"]) == min(most, 2_000)
    assert (await ann("GET", f"{path}/messages?limit=2001")).status == 422
    assert (await ann("GET", f"{path}?message_limit=2001")).status == 422
    assert (await ann("GET", f"{S}?limit=2000")).status == 200
    shared = {"subject": "b" * 600, "role": "viewer"}
    assert (await ann("PUT", f"{path}/grants", shared)).status == 200
    shared["subject"] += "b"
    assert (await ann("PUT", f"{path}/grants", shared)).status == 422
    await wire.service.aclose()


async def test_the_description_says_what_the_settings_say() -> None:
    wire = wire_with(max_append_messages=5_000, max_page_items=3_000, max_name_bytes=600)
    described = (await wire.request("GET", "/v1/openapi.json")).json()
    schemas = described["components"]["schemas"]
    assert schemas["AppendMessages"]["properties"]["messages"]["maxItems"] == 5_000
    assert schemas["NewMessage"]["properties"]["role"]["maxLength"] == 600
    assert schemas["ShareSession"]["properties"]["subject"]["maxLength"] == 600
    parameters = described["paths"][S]["get"]["parameters"]
    bounds = {parameter["name"]: parameter.get("schema") for parameter in parameters}
    assert bounds["limit"]["maximum"] == 3_000
    assert bounds["X-User-Id"]["pattern"].endswith("{1,600}$")
    await wire.service.aclose()
