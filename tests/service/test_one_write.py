"""More in one write over HTTP: creates with messages, appends that create, metadata beside."""

from __future__ import annotations

import pytest

from tests.service.tokens import ISSUER, token
from tests.service.wire import Caller, Reply, Wire

S = "/v1/sessions"
SAID = {"messages": [{"role": "user", "content": "x"}]}
K = {"Idempotency-Key": "9c1f1f5e-6f7e-4b0c-9a77-1f6b7c1d2e3f"}


def replayed(reply: Reply) -> bool:
    return reply.headers.get("idempotent-replayed") == "true"


async def test_a_create_with_messages_is_made_once(wire: Wire) -> None:
    ann = await wire.caller("ann")
    body = {**SAID, "context": {"k": 1}, "title": "t"}
    first = await ann("POST", S, body, K)
    assert (first.status, first.json()["last_seq"]) == (201, 1)
    again = await ann("POST", S, body, K)
    assert (again.status, replayed(again)) == (201, True)
    other = await ann("POST", S, {**body, "messages": []}, K)
    assert (other.status, other.code) == (422, "idempotency_mismatch")
    path = f"{S}/{first.json()['id']}?message_limit=5"
    read = (await ann("GET", path)).json()
    assert [message["content"] for message in read["messages"]] == ["x"]
    assert read["context"] == {"k": 1}


async def test_an_append_creates_what_is_missing_and_is_repeatable(wire: Wire) -> None:
    ann = await wire.caller("ann")
    body = {
        **SAID,
        "create": {"title": "t", "tags": ["x"], "metadata": {"a": 1}, "ttl_seconds": 60},
        "context_updates": {"k": 1},
        "metadata_updates": {"a": None, "b": 2},
        "expected_last_seq": 0,
    }
    first = await ann("POST", f"{S}/new/messages", body, K)
    assert (first.status, first.json()["last_seq"], first.json()["revision"]) == (201, 1, 1)
    again = await ann("POST", f"{S}/new/messages", body, K)
    assert (again.status, replayed(again)) == (201, True)
    assert again.json()["data"] == first.json()["data"]
    session = (await ann("GET", f"{S}/new")).json()
    assert (session["title"], session["tags"], session["metadata"]) == ("t", ["x"], {"b": 2})
    assert (session["ttl_seconds"], session["context"]) == (60, {"k": 1})
    assert session["message_count"] == 1


@pytest.mark.parametrize("size", [10, 30_000])
async def test_a_wrong_shape_is_told_also_where_there_is_no_session(wire: Wire, size: int) -> None:
    ann, eve = await wire.caller("ann"), await wire.caller("eve")
    await ann("POST", f"{S}/talk/messages", {**SAID, "create": True})
    wrong: tuple[tuple[str, dict[str, object]], ...] = (
        ("/create/colour", {**SAID, "create": {"colour": 1, "title": "x" * size}}),
        ("/create", {**SAID, "create": "x" * size}),
        ("/create/tags", {**SAID, "create": {"tags": ["a"], "metadata": {"tags": ["x" * size]}}}),
        ("/messages", {"messages": [], "create": {"title": "x" * size}}),
    )
    for caller in (ann, eve):
        for field, body in wrong:
            for session_id in ("talk", "new"):
                reply = await caller("POST", f"{S}/{session_id}/messages", body)
                assert reply.status == 422, reply
                assert field.startswith(reply.json()["errors"][0]["field"])
        reply = await caller("POST", f"{S}/new/messages", {"messages": []})
        assert reply.status == 404


async def test_a_long_body_carries_what_a_short_one_does(wire: Wire) -> None:
    ann = await wire.caller("ann")
    long = "x" * 30_000
    body = {
        "messages": [{"role": "user", "content": long}],
        "create": {"metadata": {"a": long}},
        "metadata_updates": {"b": "c"},
    }
    assert (await ann("POST", f"{S}/new/messages", body)).status == 201
    session = (await ann("GET", f"{S}/new")).json()
    assert (session["metadata"], session["message_count"]) == ({"a": long, "b": "c"}, 1)
    created = await ann("POST", S, {"messages": body["messages"], "metadata": {"a": long}})
    assert (created.status, created.json()["message_count"]) == (201, 1)
    said = b'[{"role":"user","content":"x"}]'
    twice = b'{"messages":' + said + b',"create":{"title":"a","title":"' + b"x" * 30_000 + b'"}}'
    reply = await ann("POST", f"{S}/new/messages", twice)
    assert (reply.status, reply.code) == (400, "malformed_request")


@pytest.mark.parametrize("size", [1, 30_000], ids=["short", "long"])
async def test_the_metadata_of_a_new_session_may_be_as_deep_as_any(wire: Wire, size: int) -> None:
    ann = await wire.caller("ann")
    most = wire.manager.runtime.limits.json_depth
    for deep, status in ((most - 1, 201), (most, 422)):
        tower = b"[" * deep + b"]" * deep
        said = b'[{"role":"user","content":"%b"}]' % (b"x" * size)
        body = b'{"messages":%b,"create":{"metadata":{"a":%b}}}' % (said, tower)
        reply = await ann("POST", f"{S}/talk/messages", body)
        assert reply.status == status, (deep, reply.json())
        assert (await ann("DELETE", f"{S}/talk")).status == (204 if status == 201 else 404)


async def test_what_is_expected_of_a_session_creates_none(wire: Wire) -> None:
    ann = await wire.caller("ann")
    for body, headers in (
        ({**SAID, "create": True, "expected_last_seq": 1}, {}),
        ({**SAID, "create": True, "turn": "t"}, {}),
        ({**SAID, "create": True}, {"If-Match": '"1"'}),
        ({**SAID, "create": True}, {"If-Match": "*"}),
    ):
        reply = await ann("POST", f"{S}/new/messages", body, headers)
        assert reply.status == 404, reply
    assert (await ann("GET", S)).json()["data"] == []


async def test_a_credential_that_may_not_choose_ids_creates_nothing_by_an_append(
    wire: Wire,
) -> None:
    ann = await wire.caller("ann")
    await ann("POST", f"{S}/talk/messages", {**SAID, "create": True})
    key = await wire.key("read", "write", user_id="ann")
    alone = Caller(wire.service, None, key, {})
    for session_id in ("talk", "new"):
        path = f"{S}/{session_id}/messages"
        reply = await alone("POST", path, {**SAID, "create": True})
        assert (reply.status, reply.code) == (403, "access_denied")
    assert (await alone("POST", f"{S}/talk/messages", SAID)).status == 201


async def test_a_token_creates_with_the_roles_it_may_append() -> None:
    wire = Wire(jwt_issuers=(ISSUER,), client_ids=True)
    ann = Caller(wire.service, None, token(wire.clock()), {})
    for role, status in (("assistant", 403), ("user", 201)):
        body = {"messages": [{"role": role, "content": "x"}]}
        assert (await ann("POST", S, body)).status == status
        reply = await ann("POST", f"{S}/{role}/messages", {**body, "create": True})
        assert reply.status == status
    assert len((await ann("GET", S)).json()["data"]) == 2
    await wire.service.aclose()


async def test_an_existing_session_is_opened_with_one_read(wire: Wire) -> None:
    ann, ben = await wire.caller("ann"), await wire.caller("ben")
    body = {"id": "talk", "title": "t", "if_exists": "return", **SAID}
    assert (await ann("POST", S, body)).status == 201
    opened = await ann("POST", S, {**body, "title": "other"})
    assert (opened.status, opened.json()["title"], opened.json()["last_seq"]) == (200, "t", 1)
    assert opened.headers["etag"]
    assert (await ben("POST", S, body)).code == "session_exists"
