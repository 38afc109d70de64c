"""A session that the caller may not read cannot be told from one that does not exist."""

# ruff: noqa: SLF001 - tests look behind the service, and send what no type allows

from __future__ import annotations

from typing import Any

import pytest

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.service import Service, ServiceSettings
from agent_cores.session.testing.wrapping import CountingProvider
from tests.service.requests_of import OF_SESSION, requests_of
from tests.service.tokens import ISSUER, token
from tests.service.wire import Caller, Reply, Wire

HIDDEN, MISSING = "hidden-1", "missing-1"

WAYS: dict[str, tuple[dict[str, str], Any]] = {
    "as it should be": ({}, None),
    "with If-Match": ({"If-Match": '"1"'}, None),
    "with an ETag": ({"If-Match": '"1.1.1"'}, None),
    "with an Idempotency-Key": ({"Idempotency-Key": "k"}, None),
    "with a wrong shape": ({}, {"nope": 1}),
    "with broken JSON": ({}, b"{"),
    "with the wrong media type": ({"Content-Type": "text/plain"}, b"x"),
    "with an unknown parameter": ({}, "?nope=1"),
}


async def hidden(wire: Wire, kind: str) -> None:
    """Make a session that sam may not read."""
    olga = await wire.caller("olga")
    await olga("POST", "/v1/sessions", {"id": HIDDEN, "ttl_seconds": 60, "public": kind == "ended"})
    await olga.say(HIDDEN)
    await olga("POST", f"/v1/sessions/{HIDDEN}/turn", {"turn": "t", "lease_seconds": 300})
    if kind == "archived":
        await olga("POST", f"/v1/sessions/{HIDDEN}/archive")
    if kind == "shared with others":
        grant = {"subject": "group:team", "role": "editor"}
        await olga("PUT", f"/v1/sessions/{HIDDEN}/grants", grant)
    if kind == "ended":
        wire.clock.advance(60)


@pytest.mark.parametrize("kind", ["private", "archived", "shared with others", "ended"])
@pytest.mark.parametrize("way", WAYS)
async def test_status_body_headers_and_calls_are_the_same(wire: Wire, way: str, kind: str) -> None:
    await hidden(wire, kind)
    sam = await wire.caller("sam")
    await sam("GET", "/v1/me")
    counting = CountingProvider(wire.manager._runtime.storage)
    wire.manager._runtime.engine.storage = counting
    wire.manager._runtime.storage = counting
    headers, extra = WAYS[way]
    for ready in requests_of("sam"):
        seen: list[tuple[Any, ...]] = []
        for session_id in (HIDDEN, MISSING):
            counting.calls.clear()
            path = ready.path(session_id) + (extra if isinstance(extra, str) else "")
            body = ready.body if extra is None or isinstance(extra, str) else extra
            reply = await sam(ready.route.method, path, body, headers)
            assert session_id not in reply.body.decode()
            seen.append((*shown(reply), dict(counting.calls)))
        assert seen[0] == seen[1], ready.name
        assert 400 <= seen[0][0] < 500


@pytest.mark.parametrize("unreadable", ["%FF", "%ED%A0%80", "%00", "a%2Fb", "%2E%2E", "x" * 256])
async def test_an_id_that_no_session_can_have_is_missing_and_never_reaches_the_store(
    wire: Wire, unreadable: str
) -> None:
    sam = await wire.caller("sam")
    await sam("GET", "/v1/me")
    counting = CountingProvider(wire.manager._runtime.storage)
    wire.manager._runtime.engine.storage = counting
    for ready in requests_of("sam"):
        method = ready.route.method
        missing = await sam(method, ready.path(MISSING), ready.body)
        counting.calls.clear()
        reply = await sam(method, ready.path(unreadable), ready.body)
        assert shown(reply) == shown(missing), ready.name
        assert not counting.calls, ready.name


async def test_methods_that_are_not_there_say_the_same(wire: Wire) -> None:
    await hidden(wire, "private")
    sam = await wire.caller("sam")
    paths = {ready.route.path: ready for ready in requests_of("sam")}
    for ready in paths.values():
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            replies = [
                await sam(method, ready.path(session_id), {"nope": 1})
                for session_id in (HIDDEN, MISSING)
            ]
            assert shown(replies[0]) == shown(replies[1]), (method, ready.name)


async def test_messages_of_a_hidden_session_are_as_hidden(wire: Wire) -> None:
    await hidden(wire, "private")
    sam = await wire.caller("sam")
    for seq in (1, 2, 0, "x", 10**30):
        for route in (r for r in OF_SESSION if "{seq}" in r.path):
            answers = []
            for session_id in (HIDDEN, MISSING):
                path = route.path.replace("{id}", session_id).replace("{seq}", str(seq))
                answers.append(shown(await sam(route.method, path)))
            assert answers[0] == answers[1]
            assert answers[0][0] == 404


WRONG: dict[str, tuple[str, str, Any]] = {
    "a wrong shape": ("PATCH", "", {"nope": 1}),
    "a wrong query": ("DELETE", "?nope=1", None),
    "a wrong role": ("POST", "/messages", {"messages": [{"role": "a\nb", "content": "x"}]}),
    "a role it may not append": ("POST", "/messages", {"messages": [{"role": "t", "content": ""}]}),
    "no seq": ("DELETE", "/messages/0", None),
    "an id it may not choose": ("POST", "/fork", {"id": "mine"}),
    "an end out of range": (
        "PUT",
        "/grants",
        {"subject": "zoe", "role": "viewer", "expires_at": "9999-12-31T23:59:59-14:00"},
    ),
}


@pytest.mark.parametrize("way", ["taken away", "deleted"])
@pytest.mark.parametrize("wrong", WRONG)
async def test_what_went_away_in_another_worker_is_not_told_of_here(wrong: str, way: str) -> None:
    """This worker still has the header in its cache that says yes."""
    wire = Wire(jwt_issuers=(ISSUER,))
    storage = CountingProvider(wire.manager._runtime.storage)
    settings = SessionSettings(cleanup_interval=0)
    there = SessionManager(storage, settings=settings, clock=wire.clock)
    service = Service(there, ServiceSettings(jwt_issuers=(ISSUER,)), now=wire.steps)
    olga = await wire.caller("olga")
    ben = Caller(service, None, token(wire.clock(), sub="ben"), {})
    await hidden(wire, "private")
    await olga("PUT", f"/v1/sessions/{HIDDEN}/owner", {"owner_id": "ben", "keep_role": "editor"})
    assert (await ben("POST", f"/v1/sessions/{HIDDEN}/renew", {})).status == 200
    here = await wire.caller("ben")
    if way == "deleted":
        await here("DELETE", f"/v1/sessions/{HIDDEN}")
    else:
        await here("PUT", f"/v1/sessions/{HIDDEN}/owner", {"owner_id": "olga"})
    method, tail, body = WRONG[wrong]
    seen: list[tuple[Any, ...]] = []
    for session_id in (HIDDEN, MISSING):
        storage.calls.clear()
        reply = await ben(method, f"/v1/sessions/{session_id}{tail}", body)
        seen.append((*shown(reply), dict(storage.calls)))
    assert seen[0] == seen[1]
    assert seen[0][0] == 404


async def test_an_admin_key_cannot_tell_either(wire: Wire) -> None:
    await hidden(wire, "private")
    admin = Caller(wire.service, None, await wire.key("admin"), {})
    for ready in requests_of("sam"):
        replies = [
            await admin(ready.route.method, ready.path(session_id), ready.body)
            for session_id in (HIDDEN, MISSING)
        ]
        assert shown(replies[0]) == shown(replies[1])
        assert replies[0].code == "access_denied"


def shown(reply: Reply) -> tuple[Any, ...]:
    headers = {k: v for k, v in reply.headers.items() if k not in {"x-request-id", "date"}}
    return reply.status, headers, reply.body
