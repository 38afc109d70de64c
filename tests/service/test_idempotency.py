"""A request that is repeated under its Idempotency-Key changes nothing."""

# ruff: noqa: SLF001 - tests look behind the service, and send what no type allows

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_cores.session.testing.wrapping import CountingProvider
from tests.service.pausing import PausingProvider
from tests.service.wire import Reply, Wire

S = "/v1/sessions"
K = {"Idempotency-Key": "9c1f1f5e-6f7e-4b0c-9a77-1f6b7c1d2e3f"}


def replayed(reply: Reply) -> bool:
    return reply.headers.get("idempotent-replayed") == "true"


async def test_a_create_is_made_once_and_answered_as_it_stands_now(wire: Wire) -> None:
    ann = await wire.caller("ann")
    body = {"title": "a", "metadata": {"x": 1, "y": 2}}
    first = await ann("POST", S, body, K)
    assert (first.status, replayed(first)) == (201, False)
    session_id = first.json()["id"]
    await ann("PATCH", f"{S}/{session_id}", {"metadata_updates": {"title": "b"}})
    again = await ann("POST", S, {"metadata": {"y": 2, "x": 1}, "title": "a"}, K)
    assert (again.status, replayed(again)) == (201, True)
    assert (again.json()["id"], again.json()["title"]) == (session_id, "b")
    assert again.headers["location"] == first.headers["location"]
    assert len((await ann("GET", S)).json()["data"]) == 1


async def test_another_body_or_caller_is_another_request(wire: Wire) -> None:
    ann = await wire.caller("ann")
    first = await ann("POST", S, {"title": "a"}, K)
    other = await ann("POST", S, {"title": "b"}, K)
    assert (other.status, other.code) == (422, "idempotency_mismatch")
    key = ann.headers["Authorization"].removeprefix("Bearer ")
    for caller in (await wire.caller("ben", key), await wire.caller("ann")):
        made = await caller("POST", S, {"title": "a"}, K)
        assert (made.status, replayed(made)) == (201, False)
        assert made.json()["id"] != first.json()["id"]


async def test_a_create_under_a_chosen_id_tells_its_repetition(wire: Wire) -> None:
    ann = await wire.caller("ann")
    assert not replayed(await ann("POST", S, {"id": "it"}, K))
    assert replayed(await ann("POST", S, {"id": "it"}, K))
    taken = await ann("POST", S, {"id": "it", "title": "x"}, K)
    assert (taken.status, taken.code) == (409, "session_exists")
    returned = await ann("POST", S, {"id": "it", "if_exists": "return"}, K)
    assert (returned.status, replayed(returned)) == (200, False)


async def test_a_replay_with_if_exists_keeps_its_status(wire: Wire) -> None:
    ann = await wire.caller("ann")
    body = {"id": "it", "if_exists": "return"}
    assert (await ann("POST", S, body, K)).status == 201
    again = await ann("POST", S, body, K)
    assert (again.status, replayed(again)) == (201, True)


async def test_a_session_that_is_no_longer_readable_is_not_shown_again(wire: Wire) -> None:
    ann, ben = await wire.caller("ann"), await wire.caller("ben")
    first = await ann("POST", S, {}, K)
    path = f"{S}/{first.json()['id']}"
    await ann("PUT", f"{path}/owner", {"owner_id": "ben"})
    again = await ann("POST", S, {}, K)
    assert (again.status, again.code) == (409, "session_exists")
    await ben("DELETE", path)
    anew = await ann("POST", S, {}, K)
    assert (anew.status, replayed(anew)) == (201, False)


async def test_after_the_end_of_the_session_the_key_makes_a_new_one(wire: Wire) -> None:
    ann = await wire.caller("ann")
    first = await ann("POST", S, {"ttl_seconds": 5}, K)
    wire.clock.advance(5)
    anew = await ann("POST", S, {"ttl_seconds": 5}, K)
    assert (anew.status, replayed(anew)) == (201, False)
    assert anew.json()["created_at"] > first.json()["created_at"]


async def test_an_append_is_written_once(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}/messages"
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": ["b"]}],
        "context_updates": {"n": 1},
        "expected_last_seq": 0,
    }
    first = await ann("POST", path, body, K)
    again = await ann("POST", path, {**body, "context_updates": {"n": 2}}, K)
    assert (first.status, again.status) == (201, 201)
    assert (replayed(first), replayed(again)) == (False, True)
    assert first.json()["data"] == again.json()["data"]
    session = (await ann("GET", path.removesuffix("/messages"))).json()
    assert (session["message_count"], session["context"]) == (2, {"n": 1})


async def test_a_repetition_that_names_the_etag_brings_no_removed_message_back(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}"
    tag = (await ann("GET", path)).headers["etag"]
    body = {"messages": [{"role": "user", "content": "a"}]}
    headers = {**K, "If-Match": tag}
    first = await ann("POST", f"{path}/messages", body, headers)
    again = await ann("POST", f"{path}/messages", body, headers)
    assert (first.status, again.status, replayed(again)) == (201, 201, True)
    assert (
        first.headers["etag"] == again.headers["etag"] == (await ann("GET", path)).headers["etag"]
    )
    assert (await ann("DELETE", f"{path}/messages/1")).status == 204
    late = await ann("POST", f"{path}/messages", body, headers)
    assert (late.status, late.code) == (412, "revision_mismatch")
    page = await ann("GET", f"{path}/messages")
    assert page.json()["data"] == []
    assert page.headers["etag"] == (await ann("GET", path)).headers["etag"]


async def test_a_repetition_may_order_its_keys_anew(wire: Wire) -> None:
    ann = await wire.caller("ann")
    created = await ann("POST", "/v1/sessions", {"metadata": {"a": {"x": 1, "y": 2}, "b": 1}}, K)
    again = await ann("POST", "/v1/sessions", {"metadata": {"b": 1, "a": {"y": 2, "x": 1}}}, K)
    assert (created.status, replayed(again)) == (201, True)
    path = f"{S}/{created.json()['id']}/messages"
    part, same_part = {"type": "t", "in": {"a": 1, "b": 2}}, {"in": {"b": 2, "a": 1}, "type": "t"}
    message = {"role": "tool", "content": [part], "metadata": {"k": 1, "l": part}}
    same = {"metadata": {"l": same_part, "k": 1}, "content": [same_part], "role": "tool"}
    first = await ann("POST", path, {"messages": [message]}, K)
    again = await ann("POST", path, {"messages": [same]}, K)
    assert (first.status, again.status, replayed(again)) == (201, 201, True)
    assert again.json() == first.json()
    other = {**same, "metadata": {"l": same_part, "k": 1.0}}
    assert (await ann("POST", path, {"messages": [other]}, K)).status == 422


async def test_an_append_that_fits_only_in_part_writes_nothing(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}/messages"
    one, two, other = ({"role": "user", "content": c} for c in ("one", "two", "other"))
    await ann("POST", path, {"messages": [one, two]}, K)
    for messages in ([one, two, other], [one, other], [other]):
        reply = await ann("POST", path, {"messages": messages}, K)
        assert (reply.status, reply.code) == (422, "idempotency_mismatch")
    assert (await ann("GET", path)).json()["last_seq"] == 2
    assert replayed(await ann("POST", path, {"messages": [one]}, K))
    await ann("DELETE", f"{path}/2")
    gone = await ann("POST", path, {"messages": [one, two]}, K)
    assert (gone.status, gone.code) == (422, "idempotency_mismatch")


async def test_a_key_holds_for_one_session(wire: Wire) -> None:
    ann = await wire.caller("ann")
    paths = [f"{S}/{await ann.new_session()}/messages" for _ in range(2)]
    body = {"messages": [{"role": "user", "content": "a"}]}
    ids = [(await ann("POST", path, body, K)).json()["data"][0]["id"] for path in paths]
    assert ids[0] != ids[1]


async def test_message_ids_of_ones_own_are_compared_as_ever(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}/messages"
    named = {"messages": [{"id": "m", "role": "user", "content": "a"}]}
    assert (await ann("POST", path, named)).status == 201
    assert (await ann("POST", path, named)).status == 201
    other = {"messages": [{"id": "m", "role": "user", "content": "b"}]}
    conflict = await ann("POST", path, other)
    assert (conflict.status, conflict.code) == (409, "conflict")


async def test_a_fork_is_made_once(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}/fork"
    first = await ann("POST", path, {"title": "a"}, K)
    again = await ann("POST", path, {"title": "a"}, K)
    assert (first.status, again.status, replayed(again)) == (201, 201, True)
    assert first.json()["id"] == again.json()["id"]
    other = await ann("POST", path, {"title": "b"}, K)
    assert other.code == "idempotency_mismatch"
    assert len((await ann("GET", S)).json()["data"]) == 2


async def test_a_key_with_a_chosen_id_holds_for_one_request(wire: Wire) -> None:
    ann = await wire.caller("ann")
    ben = await wire.caller("ben", ann.headers["Authorization"].removeprefix("Bearer "))
    one, two = await ann.new_session(public=True), await ann.new_session()
    assert (await ann("POST", f"{S}/{one}/fork", {"id": "f"}, K)).status == 201
    await ann("PUT", f"{S}/f/visibility", {"visibility": "public"})
    for caller, path in ((ann, f"{S}/{two}/fork"), (ann, S), (ben, f"{S}/{one}/fork")):
        taken = await caller("POST", path, {"id": "f"}, K)
        assert (taken.status, taken.code) == (409, "session_exists")
    assert replayed(await ann("POST", f"{S}/{one}/fork", {"id": "f"}, K))


async def test_a_fork_that_is_under_way_is_worth_another_try(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}/fork"
    runtime = wire.manager._runtime
    pausing = PausingProvider(runtime.storage, lambda change: change.hold is not None)
    runtime.engine.storage = pausing
    pausing.arm()
    first = asyncio.create_task(ann("POST", path, {}, K))
    await pausing.reached.wait()
    concurrent = await ann("POST", path, {}, K)
    assert (concurrent.status, concurrent.code) == (503, "session_moved")
    pausing.go.set()
    assert (await first).status == 201
    assert replayed(await ann("POST", path, {}, K))


@pytest.mark.parametrize("what", ["create", "append", "fork"])
async def test_of_two_at_once_one_is_carried_out(wire: Wire, what: str) -> None:
    """The first is held back before it is written, the second overtakes it."""
    ann = await wire.caller("ann")
    talk = await ann.new_session()
    said = {"messages": [{"role": "user", "content": "a"}]}
    path, body = {
        "create": (S, {"title": "a"}),
        "append": (f"{S}/{talk}/messages", said),
        "fork": (f"{S}/{talk}/fork", {"title": "a"}),
    }[what]
    runtime = wire.manager._runtime
    pausing = PausingProvider(runtime.storage, lambda _: True)
    runtime.engine.storage = pausing
    pausing.arm()
    held = asyncio.create_task(ann("POST", path, body, K))
    await pausing.reached.wait()
    second = await ann("POST", path, body, K)
    pausing.go.set()
    first = await held
    assert (first.status, second.status) == (201, 201)
    assert (replayed(first), replayed(second)) == (True, False)
    assert first.body == second.body
    listed = (await ann("GET", S)).json()["data"]
    assert len(listed) == (1 if what == "append" else 2)
    assert sum(session["message_count"] for session in listed) == (what == "append")


async def test_a_malformed_key_is_refused(wire: Wire) -> None:
    ann = await wire.caller("ann")
    for value in ("", "x" * 256, "é"):
        reply = await ann("POST", S, {}, {"Idempotency-Key": value})
        assert (reply.status, reply.code) == (400, "malformed_request")
    twice = await ann("POST", S, {}, {"Idempotency-Key": "a", "idempotency-key": "a"})
    assert (twice.status, twice.code) == (400, "malformed_request")


async def test_the_digest_is_not_shown_and_costs_no_extra_look(wire: Wire) -> None:
    ann = await wire.caller("ann")
    runtime = wire.manager._runtime
    await ann("GET", "/v1/me")
    counting = CountingProvider(runtime.storage)
    runtime.engine.storage = counting
    made = await ann("POST", S, {}, K)
    assert dict(counting.calls) == {"apply": 1}
    assert "digest" not in made.body.decode()


async def test_a_key_that_may_not_read_is_shown_what_a_create_shows(wire: Wire) -> None:
    writer = await wire.caller("ann", await wire.key("write", "act-as"))
    body = {"id": "it", "context": {"secret": 1}}
    first = await writer("POST", S, body, K)
    assert (first.status, set(first.json()) & {"context", "messages"}) == (201, set())
    forked = await writer("POST", f"{S}/it/fork", {}, K)
    assert set(forked.json()) == set(first.json())
    for path, given, headers in (
        (S, body, K),
        (S, {"id": "it", "if_exists": "return"}, {}),
        (S, {"id": "it", "if_exists": "return"}, {"Idempotency-Key": "other"}),
        (f"{S}/it/fork", {}, K),
    ):
        again = await writer("POST", path, given, headers)
        assert again.status in {200, 201}
        assert set(again.json()) == set(first.json())


async def test_what_a_create_gives_back_names_the_role_that_a_group_gives(wire: Wire) -> None:
    ann = await wire.caller("ann")
    await ann.new_session(id="it", context={"secret": 1})
    for subject, role in (("ben", "viewer"), ("group:team", "editor")):
        await ann("PUT", f"{S}/it/grants", {"subject": subject, "role": role})
    ben = await wire.caller("ben", **{"X-User-Groups": "team"})
    assert (await ben("POST", S, {"id": "it", "if_exists": "return"})).code == "session_exists"
    returned = await ben("POST", S, {"id": "it", "if_exists": "return_shared"})
    assert (returned.status, returned.json()["access_role"]) == (200, "editor")
