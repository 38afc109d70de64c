"""Operators over HTTP: which keys may, in whose name, in which namespace; the audit log."""

from __future__ import annotations

import logging

import pytest

from agent_cores.session.errors import ConfigurationError
from tests.service.tokens import ISSUER, token
from tests.service.wire import Caller, Wire

pytestmark = pytest.mark.anyio
S = "/v1/sessions"
ALL = "/v1/operator/sessions"
CONSOLE = {"X-Operator": "console"}


async def operator_of(wire: Wire, *rights: str, **fields: str) -> Caller:
    key = await wire.key(*(rights or ("read", "write", "operator")), **fields)
    return Caller(wire.service, None, key, CONSOLE)


async def test_an_operator_acts_as_the_owner(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session(context={'a': 1})}"
    operator = await operator_of(wire)
    session = (await operator("GET", path)).json()
    assert (session["access_role"], session["context"]) == ("owner", {"a": 1})
    body = {"messages": [{"role": "user", "content": "x"}]}
    [own] = (await operator("POST", f"{path}/messages", body)).json()["data"]
    named = await operator("POST", f"{path}/messages", body, headers={"X-User-Id": "support"})
    assert (own["author_id"], named.json()["data"][0]["author_id"]) == ("console", "support")
    assert (await operator("DELETE", path)).status == 204
    assert (await operator("GET", path)).code == "session_not_found"


@pytest.mark.parametrize("size", [1, 40_000], ids=["short", "long"])
async def test_an_operator_imports_messages(wire: Wire, size: int) -> None:
    operator = await operator_of(wire, "read", "write", "operator")
    said = {"role": "user", "content": "x" * size, "id": "m", "metadata": {"a": 1}}
    imported = {**said, "author_id": "bob", "created_at": "2024-01-01T00:00:00.000Z"}
    body = {"messages": [imported, {**imported, "id": "n", "author_id": None}]}
    created = await operator("POST", S, {"id": "new", **body})
    assert created.status == 201, created.json()
    path = f"{S}/{await operator.new_session()}/messages"
    assert (await operator("POST", path, body)).status == 201
    replaced = await operator("POST", path.replace("messages", "replace"), {**body, "after_seq": 0})
    assert replaced.status == 200, replaced.json()
    for where in (path, f"{S}/new/messages"):
        one, two = (await operator("GET", where)).json()["data"]
        assert {name: one[name] for name in imported} == imported
        assert (two["author_id"], two["created_at"]) == ("console", imported["created_at"])


async def test_only_the_right_makes_an_operator(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}"
    fixed = await wire.key("read", "write", user_id="eve")
    for key in (await wire.key(), await wire.key("read", "write", "admin", "act-as"), fixed):
        for headers in (CONSOLE, {**CONSOLE, "X-User-Id": "ann"}):
            reply = await Caller(wire.service, None, key, headers)("GET", path)
            assert (reply.status, reply.code) == (403, "access_denied")
    reader = await operator_of(wire, "read", "operator")
    assert (await reader("GET", path)).status == 200
    assert (await reader("DELETE", path)).code == "access_denied"
    lister = await operator_of(wire, "operator")
    assert (await lister("GET", path)).code == "access_denied"
    assert (await lister("GET", ALL, headers={"X-Owner-Id": "ann"})).status == 200


async def test_a_token_is_no_operator() -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    text = token(wire.clock(), sub="olga")
    assert (await Caller(wire.service, None, text, {})("GET", S)).status == 200
    reply = await Caller(wire.service, None, text, CONSOLE)("GET", S)
    assert (reply.status, reply.code) == (403, "access_denied")


async def test_without_the_header_a_key_is_no_operator(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}"
    acting = Caller(wire.service, "eve", await wire.key("read", "act-as", "operator"), {})
    assert (await acting("GET", path)).code == "session_not_found"
    assert (await acting("GET", path, headers=CONSOLE)).status == 200
    assert (await acting("GET", path)).code == "session_not_found"
    nobody = Caller(wire.service, None, await wire.key("read", "operator"), {})
    assert (await nobody("GET", path)).code == "malformed_request"
    assert (await nobody("GET", path, headers={"X-User-Id": "ann"})).code == "access_denied"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Operator": "a b"},
        {"X-Operator": ""},
        {"X-Operator": "group:x"},
        {"X-User-Groups": "team"},
        {"X-User-Id": "group:x"},
    ],
)
async def test_headers_of_an_operator_are_checked(wire: Wire, headers: dict[str, str]) -> None:
    operator = await operator_of(wire)
    reply = await operator("GET", S, headers=headers)
    assert (reply.status, reply.code) == (400, "malformed_request")


async def test_an_operator_keeps_to_the_namespace_of_the_key(wire: Wire) -> None:
    ann = await wire.caller("ann")
    session_id = await ann.new_session(public=True)
    other = await operator_of(wire, namespace="other")
    assert (await other("GET", f"{S}/{session_id}")).code == "session_not_found"
    assert (await other("GET", ALL, headers={"X-Owner-Id": "ann"})).json()["data"] == []


async def test_the_sessions_of_an_owner_are_listed_and_counted(wire: Wire) -> None:
    name = "用户/ä"
    owner = await wire.caller(name)
    for number in range(3):
        wire.clock.advance(1)
        await owner.new_session(metadata={"n": number}, context={"c": number})
    operator = await operator_of(wire)
    headers = {"X-Owner-Id": "%E7%94%A8%E6%88%B7%2F%C3%A4"}
    path = f"{ALL}?include=context&include=last_message&limit=2"
    page = (await operator("GET", path, headers=headers)).json()
    assert [session["context"] for session in page["data"]] == [{"c": 2}, {"c": 1}]
    assert [session["messages"] for session in page["data"]] == [[], []]
    rest = f"{ALL}?cursor={page['next_cursor']}"
    assert len((await operator("GET", rest, headers=headers)).json()["data"]) == 1
    count = (await operator("GET", f"{ALL}/count", headers=headers)).json()
    assert count == {"sessions": 3, "complete": True, "next_cursor": None}
    one = f"{ALL}/count?metadata=%7B%22n%22%3A1%7D&created_after=2020-01-01T00:00:00Z"
    assert (await operator("GET", one, headers=headers)).json()["sessions"] == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("metadata=x", "/metadata"),
        ("metadata=[]", "/metadata"),
        ("metadata=%7B%22n%22:1,%22n%22:2%7D", "/metadata"),
        ("metadata=%7B%22title%22:1%7D", "/metadata/title"),
        ("created_after=yesterday", "/created_after"),
        ("active_after=2026-01-01T00:00:00", "/active_after"),
        ("include=all", "/include"),
        ("limit=0", "/limit"),
    ],
)
async def test_a_query_of_an_operator_is_checked(wire: Wire, query: str, field: str) -> None:
    operator = await operator_of(wire)
    reply = await operator("GET", f"{ALL}?{query}", headers={"X-Owner-Id": "ann"})
    assert (reply.status, reply.json()["errors"][0]["field"]) == (422, field)


async def test_a_revoked_key_is_no_operator_any_more(wire: Wire) -> None:
    operator = await operator_of(wire)
    assert (await operator("GET", S)).status == 200
    key_id = operator.headers["Authorization"].split("_")[1]
    await wire.keys.revoke(key_id)
    wire.steps.now += 6
    assert (await operator("GET", S)).code == "unauthenticated"


async def test_each_request_of_an_operator_is_a_line_of_the_audit_log(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    ann = await wire.caller("ann")
    session_id = await ann.new_session()
    operator = await operator_of(wire)
    key_id = operator.headers["Authorization"].split("_")[1]
    with caplog.at_level(logging.INFO, "agent_cores.session.audit"):
        await ann("GET", f"{S}/{session_id}")
        await operator("GET", f"{S}/{session_id}")
        await operator("DELETE", f"{S}/missing")
        await operator("GET", f"{ALL}?limit=0", headers={"X-Owner-Id": "ann"})
        created = (await operator("POST", S, {})).json()["id"]
        await operator("POST", S, {"id": session_id})
    audit = [record for record in caplog.records if record.name == "agent_cores.session.audit"]
    fields = ("operator", "key", "verb", "session_id", "outcome")
    assert [tuple(getattr(record, field) for field in fields) for record in audit] == [
        ("console", key_id, "get_session", session_id, "done"),
        ("console", key_id, "delete_session", "missing", "session_not_found"),
        ("console", key_id, "list_sessions", None, "invalid_input"),
        ("console", key_id, "create_session", created, "done"),
        ("console", key_id, "create_session", session_id, "session_exists"),
    ]


async def test_a_key_that_reads_has_a_user_or_may_act(wire: Wire) -> None:
    with pytest.raises(ConfigurationError):
        await wire.key("read", "admin")
    assert await wire.key("read", "operator")


async def test_the_name_of_an_operator_passes_for_no_other_part_of_the_line(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    operator = await operator_of(wire)
    key_id = operator.headers["Authorization"].split("_")[1]
    with caplog.at_level(logging.INFO, "agent_cores.session.audit"):
        await operator("GET", S, headers={"X-Operator": "alice%20(key%20other)%E2%80%A8"})
    [line] = [record for record in caplog.records if record.name == "agent_cores.session.audit"]
    name = r"'alice (key other)\u2028'"
    assert line.getMessage().startswith(f"operator {name} (key {key_id}) in default: ")
