"""ETags, and what ``If-Match`` does with them."""

# ruff: noqa: SLF001 - tests look behind the service, and send what no type allows

from __future__ import annotations

import asyncio
import re

import pytest

from tests.service.pausing import PausingProvider
from tests.service.wire import Wire

S = "/v1/sessions"


async def test_an_etag_stands_for_one_state_of_one_session(wire: Wire) -> None:
    ann = await wire.caller("ann")
    await ann.new_session(id="it")
    path = f"{S}/it"
    tag = (await ann("GET", path)).headers["etag"]
    changed = await ann("PATCH", path, {"metadata_updates": {"a": 1}}, {"If-Match": tag})
    assert changed.status == 200
    stale = await ann("PATCH", path, {"metadata_updates": {"a": 2}}, {"If-Match": tag})
    assert (stale.status, stale.code) == (412, "revision_mismatch")
    assert stale.json()["values"] == {"expected": 1, "actual": 2}
    bare = await ann("PATCH", path, {"metadata_updates": {"a": 3}}, {"If-Match": '"2"'})
    assert bare.json()["revision"] == 3
    await ann.say("it")
    moved_on = await ann("PATCH", path, {}, {"If-Match": bare.headers["etag"]})
    assert moved_on.status == 200, "a plain append changes no revision"


async def test_every_answer_that_is_a_session_has_its_etag(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/it"
    for method, where, body in (
        ("POST", S, {"id": "it"}),
        ("POST", S, {"id": "it", "if_exists": "return"}),
        ("PATCH", path, {"metadata_updates": {"a": 1}}),
        ("POST", f"{path}/archive", {}),
        ("POST", f"{path}/unarchive", {}),
        ("POST", f"{path}/renew", {"ttl_seconds": 60}),
        ("PUT", f"{path}/visibility", {"visibility": "public"}),
        ("POST", f"{path}/rewind", {"to_seq": 0}),
        ("POST", f"{path}/fork", {}),
        ("PUT", f"{path}/owner", {"owner_id": "ben", "keep_role": "editor"}),
    ):
        reply = await ann(method, where, body)
        assert reply.status < 300, (where, reply)
        session = reply.json()
        assert re.fullmatch(
            rf'"\d+\.{session["revision"]}\.{session["last_seq"]}"', reply.headers["etag"]
        )
        now = await ann("GET", f"{S}/{session['id']}")
        assert now.headers["etag"] == reply.headers["etag"], where


async def test_if_match_of_any_session_asks_for_nothing_but_that_it_exists(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}"
    star = {"If-Match": "*"}
    assert (await ann("PATCH", path, {"metadata_updates": {"a": 1}}, star)).json()["revision"] == 2
    assert (await ann("PATCH", f"{S}/nope", {}, star)).code == "session_not_found"
    for headers in ({"If-Match": "*", "if-match": "*"}, {"If-Match": '*, "1"'}):
        assert (await ann("PATCH", path, {}, headers)).code == "malformed_request"
    assert (await ann("DELETE", path, None, star)).status == 204


@pytest.mark.parametrize("seen", [True, False], ids=["cached", "read"])
async def test_an_etag_of_a_deleted_session_does_not_fit_its_namesake(
    wire: Wire, seen: bool
) -> None:
    ann = await wire.caller("ann")
    await ann.new_session(id="it")
    tag = (await ann("GET", f"{S}/it")).headers["etag"]
    await ann("DELETE", f"{S}/it")
    await ann.new_session(id="it")
    if seen:
        await ann("GET", f"{S}/it")
    for method, path, body in (
        ("PATCH", "", {"metadata_updates": {"a": 1}}),
        ("POST", "/messages", {"messages": [{"role": "user", "content": "x"}]}),
        ("POST", "/rewind", {"to_seq": 0}),
        ("PUT", "/visibility", {"visibility": "public"}),
        ("PUT", "/owner", {"owner_id": "ben"}),
        ("DELETE", "", None),
    ):
        reply = await ann(method, f"{S}/it{path}", body, {"If-Match": tag})
        assert (reply.status, reply.code) == (412, "revision_mismatch"), path


async def test_a_namesake_made_between_look_and_write_is_not_touched() -> None:
    wire = Wire()
    ann = await wire.caller("ann")
    await ann.new_session(id="it")
    tag = (await ann("GET", f"{S}/it")).headers["etag"]
    runtime = wire.manager._runtime
    pausing = PausingProvider(runtime.storage, lambda change: bool(change.metadata))
    runtime.engine.storage = pausing
    pausing.arm()
    late = asyncio.create_task(
        ann("PATCH", f"{S}/it", {"metadata_updates": {"a": 1}}, {"If-Match": tag})
    )
    await pausing.reached.wait()
    await ann("DELETE", f"{S}/it")
    await ann.new_session(id="it")
    pausing.go.set()
    assert (await late).code == "revision_mismatch"
    assert (await ann("GET", f"{S}/it")).json()["metadata"] == {}


@pytest.mark.parametrize(
    "value", ["abc", '"a"', '"1.2"', 'W/"1.2.3"', '"1", "2"', "", '"0"', '"01"', '"1.0.1"', '"²"']
)
async def test_an_if_match_that_is_no_etag_of_ours_is_malformed(wire: Wire, value: str) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}"
    assert (await ann("PATCH", path, {}, {"If-Match": value})).code == "malformed_request"


async def test_if_match_is_refused_where_it_would_not_be_looked_at(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}"
    for method, tail in (("POST", "/archive"), ("PUT", "/grants"), ("POST", "/turn")):
        reply = await ann(method, path + tail, {}, {"If-Match": '"1"'})
        assert reply.code == "malformed_request"
