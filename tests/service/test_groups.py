"""Groups over the wire: how many there may be, and what they cost."""

# ruff: noqa: SLF001 - tests look behind the service, and send what no type allows

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.service import Service, ServiceSettings
from tests.service.tokens import ISSUER, asked, token
from tests.service.wire import Caller, Wire

S = "/v1/sessions"


def names(count: int) -> str:
    return ",".join(f"g{number}" for number in range(count))


async def test_more_groups_than_the_bound_are_refused_by_name(wire: Wire) -> None:
    ann = await wire.caller("ann")
    for count, status in ((256, 200), (257, 400), (9_036, 400)):
        reply = await ann("GET", "/v1/me", headers={"X-User-Groups": names(count)})
        assert reply.status == (431 if count > 9_000 else status)
    reply = await ann("GET", "/v1/me", headers={"X-User-Groups": names(257)})
    assert reply.code == "malformed_request"
    detail = reply.json()["detail"]
    assert "257 groups, at most 256" in detail
    assert "SESSION_MAX_GROUPS" in detail
    commas = await ann("GET", "/v1/me", headers={"X-User-Groups": "," * 20_000})
    assert "20001 groups" in commas.json()["detail"]


async def test_a_token_of_more_groups_than_the_bound_is_refused_by_name() -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    few, many = (
        token(wire.clock(), groups=[f"g{number}" for number in range(count)])
        for count in (256, 257)
    )
    assert (await asked(wire, few)).status == 200
    reply = await asked(wire, many)
    assert reply.status == 401
    assert "257 groups, at most 256 (SESSION_MAX_GROUPS)" in reply.json()["detail"]


async def test_the_bound_is_a_setting(wire: Wire) -> None:
    settings = SessionSettings(cleanup_interval=0, max_groups=300)
    manager = SessionManager(wire.manager._runtime.storage, settings=settings, clock=wire.clock)
    service = Service(manager, ServiceSettings(), now=wire.steps)
    ann = await wire.caller("ann")
    session_id = await ann.new_session()
    await ann("PUT", f"{S}/{session_id}/grants", {"subject": "group:g299", "role": "viewer"})
    bob = Caller(service, "bob", await wire.key(), {"X-User-Groups": names(300)})
    assert (await bob("GET", f"{S}/{session_id}")).status == 200
    listed = await bob("GET", f"{S}?shared=true")
    assert [one["id"] for one in listed.json()["data"]] == [session_id]
    assert (await bob("GET", S, headers={"X-User-Groups": names(301)})).status == 400


@pytest.mark.parametrize("length", [3, 120])
async def test_many_users_of_many_groups_take_little_memory(wire: Wire, length: int) -> None:
    key = await wire.key()
    groups = ",".join(f"{number}".ljust(length, "x") for number in range(256))
    ann = Caller(wire.service, "ann", key, {})
    await ann("GET", S)
    gc.collect()
    tracemalloc.start()
    for number in range(300):
        user: Any = {"X-User-Id": f"user{number}", "X-User-Groups": groups}
        assert (await ann("GET", S, headers=user)).status == 200
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 3_000_000, "10 KB a user at most"


async def test_a_shared_listing_by_all_groups_holds_each_session_once(wire: Wire) -> None:
    ann = await wire.caller("ann")
    for number in range(60):
        session_id = await ann.new_session()
        for group in {number, number % 3, 255}:
            grant = {"subject": f"group:g{group}", "role": "viewer"}
            await ann("PUT", f"{S}/{session_id}/grants", grant)
    bob = await wire.caller("bob", **{"X-User-Groups": names(256)})
    page = (await bob("GET", f"{S}?shared=true&limit=100")).json()["data"]
    assert len({one["id"] for one in page}) == len(page) == 60
    grants = (await bob("GET", f"{S}/{page[0]['id']}")).json()["grants"]
    assert len(grants) >= 2, "those of the caller's groups"
