"""Refusals below ``/v1/conversations``: OpenAI's shape, and what clients may retry."""

# ruff: noqa: ANN401, SLF001 - tests look behind the service, and send what no type allows

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.service.openai.errors import is_conversation_path
from agent_cores.session.service.request.view import RequestView
from agent_cores.session.service.routes import conversations
from agent_cores.session.testing.wrapping import CountingProvider
from tests.service.test_conversations import CALL, HELLO, C, add, error, listed
from tests.service.tokens import ISSUER, token
from tests.service.wire import Caller, Wire


async def new_place(caller: Caller) -> str:
    return f"{C}/{(await caller('POST', C, {})).json()['id']}"


WRONG_ITEMS: list[tuple[Any, str]] = [
    ([], "items"),
    ([HELLO] * 21, "items"),
    ([1], "items[0]"),
    ([HELLO, {}], "items[1].type"),
    ([{"type": 5}], "items[0].type"),
    ([{"type": None, "role": "user", "content": "x"}], "items[0].type"),
    ([{"type": "item_reference", "id": "x"}], "items[0].type"),
    ([{"type": "a b"}], "items[0].type"),
    ([{"role": "user"}], "items[0].content"),
    ([{"role": "user", "content": 5}], "items[0].content"),
    ([{"role": "user", "content": ["x"]}], "items[0].content"),
    ([{"role": "user", "content": [{}]}], "items[0].content"),
    ([{"role": "user", "content": [{"type": None}]}], "items[0].content"),
    ([{"role": "user", "content": [{}], "long": "x" * 70_000}], "items[0].content"),
    ([{"role": 5, "content": "x"}], "items[0].role"),
    ([{"role": "", "content": "x"}], "items[0].role"),
    ([{**CALL, "id": 5}], "items[0].id"),
    ([{**CALL, "id": ""}], "items[0].id"),
    ([{**CALL, "id": "a/b"}], "items[0].id"),
    ([{**CALL, "id": "x" * 256}], "items[0].id"),
]


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(("items", "param"), WRONG_ITEMS, ids=str)
async def test_wrong_items_are_refused_by_name(
    wire: Wire, items: Any, param: str, long: bool
) -> None:
    ann = await wire.caller("ann")
    place = await new_place(ann)
    if long and items and len(items) < 20:
        items = [*items, {"role": "user", "content": "x" * 40_000}]
    reply = await ann("POST", f"{place}/items", {"items": items})
    found = error(reply)
    assert (reply.status, found["type"], found["code"]) == (
        400,
        "invalid_request_error",
        "invalid_input",
    )
    assert found["param"] == param
    assert (await listed(ann, place))["data"] == []


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": 1},
        {"a": None},
        {"k" * 65: "v"},
        {"a": "v" * 513},
        {f"{i}": "v" for i in range(17)},
        [],
        "x",
    ],
    ids=lambda value: str(value)[:20],
)
async def test_metadata_past_its_bounds_is_refused(wire: Wire, metadata: Any) -> None:
    ann = await wire.caller("ann")
    place = await new_place(ann)
    for reply in (
        await ann("POST", C, {"metadata": metadata}),
        await ann("POST", place, {"metadata": metadata}),
    ):
        found = error(reply)
        assert (reply.status, found["code"], found["param"]) == (400, "invalid_input", "metadata")
        assert "$" not in found["message"]
    assert error(await ann("POST", place, {}))["code"] == "invalid_input"


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "order=up", "nope=1", "limit=1&limit=2"]
)
async def test_a_wrong_query_is_refused(wire: Wire, query: str) -> None:
    ann = await wire.caller("ann")
    reply = await ann("GET", f"{await new_place(ann)}/items?{query}")
    assert (reply.status, error(reply)["code"]) == (400, "invalid_input")


async def test_every_refusal_before_the_route_has_the_shape_too(wire: Wire) -> None:
    ann = await wire.caller("ann")
    place = await new_place(ann)
    nobody = Caller(wire.service, None, None, {})
    reader = Caller(wire.service, "ann", await wire.key("read", "act-as"), {})
    long = b'{"items":[{"role":"user","content":"%b"}]}' % (b"x" * 20_000_000)
    typed = {"Content-Type": "text/plain"}
    refused = [
        (401, "unauthenticated", await nobody("GET", place)),
        (403, "access_denied", await reader("POST", f"{place}/items", {"items": [HELLO]})),
        (404, "session_not_found", await ann("GET", f"{C}/conv_none")),
        (404, "not_found", await ann("GET", f"{place}/nope")),
        (405, "method_not_allowed", await ann("PUT", place, {})),
        (406, "not_acceptable", await ann("GET", place, None, {"Accept": "text/html"})),
        (413, "payload_too_large", await ann("POST", f"{place}/items", long)),
        (415, "unsupported_media_type", await ann("POST", C, b"{}", typed)),
        (400, "malformed_request", await ann("POST", C, b"{")),
        (400, "malformed_request", await ann("POST", C, b'{"metadata":{"a":"b","a":"c"}}')),
        (431, "headers_too_large", await ann("GET", place, None, {"X": "y" * 70_000})),
    ]
    for status, code, reply in refused:
        assert (reply.status, error(reply)["code"]) == (status, code)
    limited = wire.another(requests_per_second=0.001)
    again = Caller(limited, "ann", await wire.key(), {})
    replies = [await again("GET", place) for _ in range(200)]
    last = error(replies[-1])
    assert (replies[-1].status, last["type"]) == (429, "rate_limit_error")
    assert "retry-after" in replies[-1].headers


async def test_a_path_that_only_looks_alike_keeps_the_other_shape(wire: Wire) -> None:
    ann = await wire.caller("ann")
    assert set((await ann("GET", "/v1/conversationsx")).json()) > {"code", "detail"}
    assert not is_conversation_path("/v1/conversation")


async def test_an_expired_conversation_is_a_plain_404(wire: Wire) -> None:
    ann = await wire.caller("ann")
    place = await new_place(ann)
    wire.clock.advance(86_400)
    for reply in (await ann("GET", place), await ann("GET", f"{place}/items")):
        assert (reply.status, error(reply)["code"]) == (404, "session_expired")


async def test_a_repeated_write_whose_items_have_ids_is_stored_once(wire: Wire) -> None:
    ann = await wire.caller("ann")
    place = await new_place(ann)
    items = [{**CALL, "id": "fc_1"}, {**HELLO, "id": "msg_1"}]
    first = await add(ann, place, *items)
    assert await add(ann, place, *items) == first
    assert await add(ann, place, *first) == first
    assert (await listed(ann, place))["data"] == first


async def test_an_id_that_holds_something_else_is_a_conflict_not_to_retry(wire: Wire) -> None:
    ann = await wire.caller("ann")
    place = await new_place(ann)
    stored = await add(ann, place, {**CALL, "id": "fc_1"})
    for items in (
        [{**CALL, "id": "fc_1", "name": "other"}],
        [{**CALL, "id": "fc_1"}, HELLO],  # perhaps repeated: adding the rest could double it
    ):
        reply = await ann("POST", f"{place}/items", {"items": items})
        assert (reply.status, error(reply)["code"]) == (409, "conflict")
        assert reply.headers["x-should-retry"] == "false"
    assert (await listed(ann, place))["data"] == stored
    twice = await ann("POST", f"{place}/items", {"items": [{**CALL, "id": "a"}] * 2})
    assert twice.status == 400


async def test_an_archived_conversation_refuses_writes_for_good(wire: Wire) -> None:
    ann = await wire.caller("ann")
    place = await new_place(ann)
    await ann("POST", f"{place.replace(C, '/v1/sessions')}/archive")
    reply = await ann("POST", f"{place}/items", {"items": [HELLO]})
    assert (reply.status, error(reply)["code"]) == (409, "session_archived")
    assert reply.headers["x-should-retry"] == "false"


async def test_an_idempotency_key_makes_any_write_repeatable(wire: Wire) -> None:
    ann = await wire.caller("ann")
    key = {"Idempotency-Key": "k1"}
    body = {"items": [HELLO, CALL], "metadata": {"a": "b"}}
    replies = [await ann("POST", C, body, key) for _ in range(2)]
    assert [reply.headers.get("idempotent-replayed") for reply in replies] == [None, "true"]
    made = [reply.json() for reply in replies]
    assert made[0] == made[1]
    other = await ann("POST", C, {"items": []}, key)
    assert (other.status, error(other)["code"]) == (409, "idempotency_mismatch")
    place = f"{C}/{made[0]['id']}"
    begun = (await listed(ann, place))["data"]
    assert len(begun) == 2
    added = [await ann("POST", f"{place}/items", {"items": [HELLO]}, key) for _ in range(2)]
    assert added[0].json() == added[1].json()
    assert added[1].headers["idempotent-replayed"] == "true"
    assert (await listed(ann, place))["data"] == [*begun, *added[0].json()["data"]]
    other = await ann("POST", f"{place}/items", {"items": [{**HELLO, "content": "x"}]}, key)
    assert (other.status, error(other)["code"]) == (409, "idempotency_mismatch")
    assert other.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("unknown", [True, False])
async def test_a_write_that_may_be_stored_is_only_retried_if_that_is_harmless(
    wire: Wire, unknown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await wire.caller("ann")
    place = await new_place(ann)

    async def fails(*_: Any, **__: Any) -> None:
        raise StorageUnavailableError("gone", outcome_unknown=unknown)

    monkeypatch.setattr(wire.manager._runtime.engine, "apply", fails)
    for item, headers, may_double in (
        (HELLO, {}, True),
        ({**HELLO, "id": "msg_1"}, {}, False),
        (HELLO, {"Idempotency-Key": "k"}, False),
    ):
        reply = await ann("POST", f"{place}/items", {"items": [item]}, headers)
        assert (reply.status, error(reply)["type"]) == (503, "server_error")
        told_not_to = reply.headers.get("x-should-retry") == "false"
        assert told_not_to == (unknown and may_double)


async def test_a_token_adds_only_items_of_its_roles() -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    ben = Caller(wire.service, None, token(wire.clock(), sub="ben"), {})
    place = await new_place(ben)
    for item in (
        {"role": "assistant", "content": "x"},
        CALL,
        {**CALL, "role": "user"},
        {"type": "function_call_output", "role": "user"},
    ):
        reply = await ben("POST", f"{place}/items", {"items": [item]})
        assert (reply.status, error(reply)["code"]) == (403, "access_denied")
        assert (await ben("POST", C, {"items": [item]})).status == 403
    assert (await ben("POST", f"{place}/items", {"items": [HELLO]})).status == 200
    await wire.service.aclose()


async def test_a_page_costs_the_same_wherever_it_begins(wire: Wire) -> None:
    ann = await wire.caller("ann")
    place = await new_place(ann)
    items = [item for _ in range(10) for item in await add(ann, place, *[HELLO] * 20)]
    counting = CountingProvider(wire.manager._runtime.storage)
    wire.manager._runtime.engine.storage = wire.manager._runtime.storage = counting
    for query, reads in (
        ("", 1),
        ("order=asc", 1),
        (f"after={items[100]['id']}", 2),
        (f"order=asc&after={items[100]['id']}", 2),
    ):
        counting.calls.clear()
        await listed(ann, place, query)
        assert counting.calls["read"] == reads, (query, counting.calls)


async def test_replaced_metadata_survives_concurrent_changes(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await wire.caller("ann")
    place = await new_place(ann)
    look_at = RequestView.look_at

    async def slowly(*args: Any) -> Any:  # as a store does, so that all read before one writes
        found = await look_at(*args)
        await asyncio.sleep(0.001)
        return found

    monkeypatch.setattr(RequestView, "look_at", slowly)
    given = [{f"k{i}": "v", "who": f"{i}"} for i in range(40)]
    replies = await asyncio.gather(*(ann("POST", place, {"metadata": one}) for one in given))
    assert {reply.status for reply in replies} == {200}
    assert (await ann("GET", place)).json()["metadata"] in given


async def test_metadata_that_others_keep_changing_may_be_replaced_later(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await wire.caller("ann")
    place = await new_place(ann)
    update, numbers = RequestView.update_session, itertools.count()

    async def late(*args: Any, **options: Any) -> Any:
        others = {"n": next(numbers)}
        await wire.manager.update_session(place.removeprefix(f"{C}/"), "ann", others)
        return await update(*args, **options)

    monkeypatch.setattr(RequestView, "update_session", late)
    monkeypatch.setattr(conversations, "_RETRY_SECONDS", 0.02)
    reply = await ann("POST", place, {"metadata": {"a": "b"}})
    assert (reply.status, error(reply)["code"]) == (503, "overloaded")
    assert reply.headers["retry-after"] == "1"
    assert "x-should-retry" not in reply.headers
