"""Every route, every kind of caller, every visibility, against the table of who may do what."""

# ruff: noqa: SLF001 - tests look behind the service

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from agent_cores.session.service.auth.api_keys import split_key
from agent_cores.session.service.routes import ROUTES
from agent_cores.session.testing.wrapping import CountingProvider
from tests.service.requests_of import FIRST_ID, OF_SESSION, Ready, other_requests_of, requests_of
from tests.service.tokens import ISSUER, token
from tests.service.wire import Caller, Reply, Wire

RANKS = {None: 0, "viewer": 1, "editor": 2, "owner": 3}

NEEDED = {
    "GET S": "viewer",
    "PATCH S": "editor",
    "DELETE S": "owner",
    "POST S/messages": "editor",
    "GET S/messages": "viewer",
    "GET S/messages/{seq}": "viewer",
    "PATCH S/messages/{seq}": "owner",
    "DELETE S/messages/{seq}": "owner",
    "POST S/messages/delete": "owner",
    "POST S/rewind": "owner",
    "POST S/replace": "owner",
    "POST S/pop": "owner",
    "GET S/grants": "viewer",
    "PUT S/grants": "owner",
    "POST S/grants/revoke": "viewer",
    "PUT S/visibility": "owner",
    "PUT S/owner": "owner",
    "POST S/archive": "owner",
    "POST S/unarchive": "owner",
    "POST S/renew": "owner",
    "POST S/fork": "viewer",
    "POST S/turn": "editor",
    "PUT S/turn/{turn}": "editor",
    "DELETE S/turn/{turn}": "editor",
    "GET C": "viewer",
    "POST C": "editor",
    "DELETE C": "owner",
    "GET C/items": "viewer",
    "POST C/items": "editor",
    "GET C/items/{item_id}": "viewer",
    "DELETE C/items/{item_id}": "owner",
}
"""The least role for the request of each route: message 1 is the owner's, the grant one's own."""

Maker = Callable[[Wire], Awaitable[Caller]]


def acting(user_id: str, **headers: str) -> Maker:
    async def make(wire: Wire) -> Caller:
        return await wire.caller(user_id, **headers)

    return make


async def other_namespace(wire: Wire) -> Caller:
    return Caller(wire.service, "olga", await wire.key(namespace="other"), {})


async def expired_key(wire: Wire) -> Caller:
    key = await wire.key(expires_at=wire.clock() + timedelta(seconds=10))
    return Caller(wire.service, "olga", key, {})


async def revoked_key(wire: Wire) -> Caller:
    caller = Caller(wire.service, "olga", await wire.key(), {})
    assert (await caller("GET", "/v1/me")).status == 200
    parts = split_key(caller.headers["Authorization"].removeprefix("Bearer "))
    assert parts is not None
    await wire.keys.revoke(parts[0])
    return caller


async def not_acting(wire: Wire) -> Caller:
    return Caller(wire.service, "olga", await wire.key("read", "write", user_id="olga"), {})


async def fixed_user(wire: Wire) -> Caller:
    return Caller(wire.service, None, await wire.key("read", "write", user_id="olga"), {})


async def good_token(wire: Wire) -> Caller:
    return Caller(wire.service, None, token(wire.clock(), sub="olga"), {})


async def expired_token(wire: Wire) -> Caller:
    text = token(wire.clock(), sub="olga", exp=int(wire.clock().timestamp()) + 5)
    return Caller(wire.service, None, text, {})


async def unlisted_token(wire: Wire) -> Caller:
    return Caller(wire.service, None, token(wire.clock(), sub="olga", namespace="other"), {})


async def nobody(wire: Wire) -> Caller:
    return Caller(wire.service, None, None, {})


ROLES: dict[str, tuple[Maker, str, str | None]] = {
    "owner": (acting("olga"), "olga", "owner"),
    "owner by a key of one user": (fixed_user, "olga", "owner"),
    "owner by a token": (good_token, "olga", "owner"),
    "editor": (acting("ed"), "ed", "editor"),
    "viewer": (acting("vic"), "vic", "viewer"),
    "group member": (acting("gus", **{"X-User-Groups": "team"}), "gus", "viewer"),
    "expired grant": (acting("xena"), "xena", None),
    "stranger": (acting("sam"), "sam", None),
}
REFUSED: dict[str, tuple[Maker, int, str]] = {
    "expired key": (expired_key, 401, "unauthenticated"),
    "revoked key": (revoked_key, 401, "unauthenticated"),
    "key that may not act": (not_acting, 403, "access_denied"),
    "expired token": (expired_token, 401, "unauthenticated"),
    "token of an unlisted namespace": (unlisted_token, 401, "unauthenticated"),
    "nobody": (nobody, 401, "unauthenticated"),
    "other namespace": (other_namespace, 404, "session_not_found"),
}


async def prepared(wire: Wire, visibility: str, session_id: str) -> None:
    """Make the session: olga's, with one message, a turn, and who may see it."""
    olga = await wire.caller("olga")
    path = f"/v1/sessions/{session_id}"
    await olga("POST", "/v1/sessions", {"id": session_id, "public": visibility == "public"})
    if visibility != "private":
        soon = (wire.clock() + timedelta(seconds=10)).isoformat()
        for subject, role, end in (
            ("ed", "editor", None),
            ("vic", "viewer", None),
            ("group:team", "viewer", None),
            ("xena", "editor", soon),
        ):
            grant = {"subject": subject, "role": role, "expires_at": end}
            assert (await olga("PUT", f"{path}/grants", grant)).status == 200
    first = {"role": "user", "content": "hello", "id": FIRST_ID}
    await olga("POST", f"{path}/messages", {"messages": [first]})
    await olga("POST", f"{path}/turn", {"turn": "t", "lease_seconds": 300})


def short(name: str) -> str:
    return name.replace("/v1/sessions/{id}", "S").replace("/v1/conversations/{id}", "C")


def role_in(visibility: str, role: str | None) -> str | None:
    if role == "owner":
        return role
    if visibility == "private":
        return None
    return role or ("viewer" if visibility == "public" else None)


def test_the_tables_have_every_route_and_every_kind_of_caller() -> None:
    assert {short(route.name) for route in OF_SESSION} == set(NEEDED)
    ready = requests_of("x") + other_requests_of("x")
    assert {one.name for one in ready} == {route.name for route in ROUTES}
    assert {*ROLES, *REFUSED} >= {
        "owner",
        "editor",
        "viewer",
        "group member",
        "stranger",
        "other namespace",
        "expired grant",
        "expired key",
        "revoked key",
        "key that may not act",
        "expired token",
        "token of an unlisted namespace",
        "nobody",
    }


@pytest.fixture
async def tokens_wire() -> Wire:
    return Wire(jwt_issuers=(ISSUER,))


@pytest.mark.parametrize("visibility", ["private", "shared", "public"])
@pytest.mark.parametrize("who", ROLES)
async def test_a_role_opens_what_the_table_says(
    tokens_wire: Wire, who: str, visibility: str
) -> None:
    make, user_id, granted = ROLES[who]
    role = role_in(visibility, granted)
    caller = await make(tokens_wire)
    for number in range(len(requests_of(user_id))):
        await prepared(tokens_wire, visibility, f"s{number}")
    tokens_wire.clock.advance(20)
    for number, ready in enumerate(requests_of(user_id)):
        reply = await send(caller, ready, f"s{number}")
        needed = NEEDED[short(ready.name)]
        said = reply.status if reply.status < 400 else reply.code
        if role is None:
            assert said == "session_not_found", ready.name
        elif RANKS[role] < RANKS[needed]:
            assert said == "access_denied", ready.name
        else:
            assert said in ready.route.responses, (ready.name, reply)
        if "context" in reply.body.decode() and ready.name == "GET /v1/sessions/{id}":
            assert RANKS[role] >= RANKS["editor"]
    for ready in other_requests_of(user_id):
        reply = await send(caller, ready, "")
        if ready.route.right in {"admin", "operator"}:
            assert (reply.status, reply.code) == (403, "access_denied"), ready.name
        else:
            assert reply.status in ready.route.responses, (ready.name, reply)


@pytest.mark.parametrize("visibility", ["private", "shared", "public"])
@pytest.mark.parametrize("who", REFUSED)
async def test_a_credential_that_does_not_count_opens_nothing(
    tokens_wire: Wire, who: str, visibility: str
) -> None:
    make, status, code = REFUSED[who]
    caller = await make(tokens_wire)
    await prepared(tokens_wire, visibility, "it")
    tokens_wire.clock.advance(20)
    tokens_wire.steps.now += 5
    for ready in requests_of("olga"):
        for session_id in ("it", "missing"):
            reply = await send(caller, ready, session_id)
            tokens_wire.steps.now += 1
            assert (reply.status, reply.code) == (status, code), ready.name
    for ready in other_requests_of("olga"):
        reply = await send(caller, ready, "")
        tokens_wire.steps.now += 1
        if ready.route.right == "open":
            assert reply.status == 200, ready.name
        elif who == "other namespace" and ready.route.right not in {"admin", "operator"}:
            assert reply.status in ready.route.responses, ready.name
            assert "it" not in [session["id"] for session in reply.json().get("data", ())]
        else:
            refusal = (403, "access_denied") if who == "other namespace" else (status, code)
            assert (reply.status, reply.code) == refusal, ready.name


@pytest.mark.parametrize("rights", [("read",), ("write",), ("admin",), ("read", "admin"), ()])
async def test_a_right_that_is_missing_is_told_without_a_look(
    wire: Wire, rights: tuple[str, ...]
) -> None:
    await prepared(wire, "public", "it")
    caller = Caller(wire.service, "olga", await wire.key(*rights, "act-as"), {})
    assert (await caller("GET", "/v1/me")).status == 200
    counting = CountingProvider(wire.manager._runtime.storage)
    wire.manager._runtime.engine.storage = wire.manager._runtime.storage = counting
    for ready in requests_of("olga") + other_requests_of("olga"):
        if ready.route.right in {"open", "any", *rights}:
            continue
        replies = [await send(caller, ready, session_id) for session_id in ("it", "missing")]
        assert [reply.code for reply in replies] == ["access_denied"] * 2, ready.name
        assert replies[0].body == replies[1].body
    assert not counting.calls


async def send(caller: Caller, ready: Ready, session_id: str) -> Reply:
    return await caller(ready.route.method, ready.path(session_id), ready.body)
