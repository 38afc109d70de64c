"""What holds for every request: headers, the order of checks, limits."""

# ruff: noqa: ANN401, SLF001 - tests look behind the service, and send what no type allows

from __future__ import annotations

import asyncio
import gzip
import json
import re
from typing import Any

import pytest

from tests.service.pausing import PausingProvider
from tests.service.wire import Caller, Wire

S = "/v1/sessions"


async def test_every_response_has_the_headers_that_every_response_has(wire: Wire) -> None:
    ann = await wire.caller("ann")
    for reply in (
        await ann("GET", S),
        await ann("GET", f"{S}/nope"),
        await wire.request("GET", S),
        await wire.request("GET", "/nowhere"),
        await ann("DELETE", f"{S}/{await ann.new_session()}"),
    ):
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["vary"] == "Authorization, X-User-Id"
        assert re.fullmatch(r"[0-9a-f]{16}", reply.headers["x-request-id"])
    given = await ann("GET", S, headers={"X-Request-Id": "from-proxy-1"})
    assert given.headers["x-request-id"] == "from-proxy-1"
    forged = await ann("GET", S, headers={"X-Request-Id": "a b"})
    assert forged.headers["x-request-id"] != "a b"


SAID = {"messages": [{"role": "user", "content": "x"}]}
BROKEN = b'{"messages": 5, "x": '


async def test_the_checks_come_in_their_order(wire: Wire) -> None:
    """Each request is wrong in every way that is left; the first way decides."""
    ann, ben = await wire.caller("ann"), await wire.caller("ben")
    read_only = Caller(wire.service, None, await wire.key("read", user_id="ann"), {})
    caller_of_none = Caller(wire.service, "a\x00", await wire.key("read", "act-as"), {})
    small = wire.another(max_body_bytes=2_000)
    path = f"{S}/{await ann.new_session()}/messages"
    await ann("PUT", path.replace("messages", "grants"), {"subject": "ben", "role": "viewer"})
    nobody = Caller(small, None, "ask_x_y", {})
    for caller in (nobody, read_only, caller_of_none, ann, ben):
        caller.service = small
    codes = [
        (await nobody("POST", path, b"[" * 3_000)).code,
        (await nobody("POST", path, BROKEN)).code,
        (await read_only("POST", path, BROKEN)).code,
        (await caller_of_none("POST", path, BROKEN)).code,
        (await ben("POST", path, BROKEN)).code,
        (await ben("PATCH", f"{S}/nope?nope=1", BROKEN)).code,
        (await ben("POST", path + "x", {"messages": 5})).code,
        (await ben("POST", f"{S}/nope/messages", {"messages": 5})).code,
        (await ben("POST", path, {"messages": 5})).code,
        (await ann("POST", path, {"messages": 5}, {"If-Match": '"9"'})).code,
        (await ann.say(path.split("/")[3], expected_last_seq=4)).code,
    ]
    assert codes == [
        "payload_too_large",
        "unauthenticated",
        "access_denied",
        "access_denied",
        "malformed_request",
        "malformed_request",
        "not_found",
        "session_not_found",
        "access_denied",
        "invalid_input",
        "last_seq_mismatch",
    ]


async def test_the_rate_comes_after_the_right_and_before_the_request_itself(wire: Wire) -> None:
    ann = await wire.caller("ann")
    reader = Caller(wire.service, None, await wire.key("read", user_id="ann"), {})
    ann.service = reader.service = wire.another(requests_per_second=1, max_body_bytes=2_000)
    assert [(await caller("GET", S)).status for caller in (ann, reader)] == [200, 200]
    codes = [
        (await ann("POST", S, b"[" * 3_000)).code,
        (await ann("POST", S, BROKEN, {"Authorization": "Bearer ask_x_y"})).code,
        (await reader("POST", S, BROKEN)).code,
        (await ann("POST", S, BROKEN)).code,
        (await ann("GET", f"{S}/nope", headers={"Accept": "text/html"})).code,
        (await ann("PATCH", f"{S}/nope", {}, {"If-Match": "x"})).code,
    ]
    wanted = ["payload_too_large", "unauthenticated", "access_denied"]
    assert codes == [*wanted, "rate_limited", "rate_limited", "rate_limited"]


async def test_an_id_that_breaks_the_limits_is_a_missing_one(wire: Wire) -> None:
    ann = await wire.caller("ann")
    for strange in ("a%2Fb", "%2E%2E", "%FF", "%00", "x" * 300, "a%5Cb"):
        reply = await ann("GET", f"{S}/{strange}")
        assert (reply.status, reply.code) == (404, "session_not_found"), strange
        assert (await ann("POST", f"{S}/{strange}/rewind", {})).code == "session_not_found"
    for wrong in ("a/b", "", "..", "x" * 256):
        assert (await ann("POST", S, {"id": wrong})).code == "invalid_input"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": [{"role": 1, "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user"}]}, "/messages/0"),
        ({"messages": [{"role": "user", "content": 5}]}, "/messages/0/content"),
        ({"messages": []}, "/messages"),
        ({"messages": [{"role": "user", "content": "x"}], "nope": 1}, ""),
        ([], ""),
        ({**SAID, "context_updates": {"a/b~c": "x" * 1_100_000}}, "/context_updates/a~1b~0c"),
        ({"messages": [{"role": "user", "content": "x", "seq": 1}]}, "/messages/0"),
        ({"messages": [{"role": "", "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "a\nb", "content": "x"}]}, "/messages/0/role"),
    ],
)
async def test_a_wrong_body_names_its_field(wire: Wire, body: Any, field: str) -> None:
    ann = await wire.caller("ann")
    reply = await ann("POST", f"{S}/{await ann.new_session()}/messages", body)
    assert (reply.status, reply.code) == (422, "invalid_input")
    assert reply.json()["errors"][0]["field"] == field
    assert reply.headers["content-type"] == "application/problem+json"


async def test_arguments_are_called_by_their_names_on_the_wire(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}"
    cases: list[tuple[str, str, Any, str]] = [
        ("POST", S, {"id": "a/b"}, "/id"),
        ("POST", S, {"title": "a", "metadata": {"title": "b"}}, "/title"),
        ("POST", S, {"tags": ["a"], "metadata": {"tags": ["b"]}}, "/tags"),
        ("POST", S, {"metadata": {"owner_id": "x"}}, "/metadata/owner_id"),
        ("PUT", f"{path}/grants", {"subject": "ann", "role": "viewer"}, "/subject"),
        ("PUT", f"{path}/owner", {"owner_id": "group:x"}, "/owner_id"),
        ("POST", f"{path}/fork", {"id": "a/b"}, "/id"),
        ("POST", f"{path}/turn", {"turn": "a\nb"}, "/turn"),
        ("GET", f"{S}?limit=x", None, "/limit"),
        ("GET", f"{S}?limit=1&limit=2", None, "/limit"),
        ("GET", f"{S}?limit=1001", None, "/limit"),
        ("GET", f"{S}?nope=1", None, "/nope"),
        ("GET", f"{S}?a%2Fb~c=1", None, "/a~1b~0c"),
        ("POST", S, {"context": {"a/b": "x" * 1_100_000}}, "/context/a~1b"),
        ("GET", f"{S}?tags=x", None, "/tags"),
        ("GET", f"{S}?tag=%00", None, "/tag"),
        ("GET", f"{S}?cursor=x", None, "/cursor"),
        ("GET", f"{S}?shared=1", None, "/shared"),
        ("GET", f"{S}?status=expired", None, "/status"),
        ("GET", f"{path}?nope=1", None, "/nope"),
        ("GET", f"{path}/messages?after_seq=1&before_seq=2", None, "/before_seq"),
        ("GET", f"{path}/messages?after_seq=-1", None, "/after_seq"),
        ("GET", f"{path}/messages?after_seq={2**63}", None, "/after_seq"),
        ("DELETE", f"{path}?force=true", None, "/force"),
        (
            "PUT",
            f"{path}/grants",
            {"subject": "b", "role": "viewer", "expires_at": "9999-12-31T23:59:59-14:00"},
            "/expires_at",
        ),
    ]
    for method, where, body, field in cases:
        reply = await ann(method, where, body)
        assert reply.status == 422, (method, where, reply)
        assert reply.json()["errors"][0]["field"] == field


async def test_paths_methods_and_media_types_that_are_not_there(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}"
    for nowhere in ("/", "/v1", "/v1/", "/v2/sessions", f"{S}/", f"{path}/nope", f"{path}/"):
        assert (await ann("GET", nowhere)).code == "not_found", nowhere
    wrong = await ann("PUT", path, {})
    assert (wrong.code, wrong.headers["allow"]) == (
        "method_not_allowed",
        "DELETE, GET, HEAD, PATCH",
    )
    assert (await ann("GET", path, headers={"Accept": "text/html"})).code == "not_acceptable"
    for accept in ("text/html, */*;q=0.1", "", " , "):
        assert (await ann("GET", path, headers={"Accept": accept})).status == 200
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await ann("PATCH", path, {}, form)).code == "unsupported_media_type"
    charset = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await ann("PATCH", path, {}, charset)).status == 200
    assert (await ann("HEAD", path)).status == 200


@pytest.mark.parametrize("raw", [b"{", b'{"a": NaN}', b"\xff", b'"\\ud800"', b"{} x"])
async def test_what_is_no_json_is_malformed(wire: Wire, raw: bytes) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}"
    reply = await ann("PATCH", path, raw)
    assert (reply.status, reply.code) == (400, "malformed_request")


async def test_json_too_deep_is_invalid(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}"
    for depth in (101, 5_000, 100_000):
        raw = b'{"metadata_updates": {"a": ' + b"[" * depth + b"]" * depth + b"}}"
        reply = await ann("PATCH", path, raw)
        assert (reply.status, reply.code) == (422, "invalid_input"), depth
        missing = await ann("PATCH", f"{S}/nope", raw)
        assert (missing.status, missing.code) == (404, "session_not_found"), depth


async def test_headers_that_are_too_many_or_too_long_are_refused(wire: Wire) -> None:
    ann = await wire.caller("ann")
    many = {f"X-{n}": "1" for n in range(101)}
    assert (await ann("GET", S, headers=many)).status == 431
    assert (await ann("GET", S, headers={"X-Long": "1" * 40_000})).code == "headers_too_large"
    assert (await ann("GET", f"{S}?cursor={'a' * 40_000}")).code == "headers_too_large"


async def test_a_body_is_bounded_whether_or_not_its_length_is_told(wire: Wire) -> None:
    ann = await wire.caller("ann")
    ann.service = wire.another(max_body_bytes=100)
    sized = await ann("POST", S, {"title": "x" * 100})
    chunked = await ann("POST", S, {"title": "x" * 100}, {"Transfer-Encoding": "chunked"})
    for reply in (sized, chunked):
        assert (reply.status, reply.code) == (413, "payload_too_large")
        assert reply.headers["connection"] == "close"


async def test_a_length_of_many_digits_is_too_long_and_no_number_malformed(wire: Wire) -> None:
    for length, status in (("9" * 5_000, 413), ("9" * 19, 413), ("1e3", 400), ("-1", 400)):
        headers = {"Content-Length": length}
        assert (await wire.request("POST", S, headers=headers)).status == status


async def test_a_body_that_does_not_arrive_is_given_up(wire: Wire) -> None:
    ann = await wire.caller("ann")
    ann.service = wire.another(body_timeout=0.01)

    async def never() -> Any:
        await asyncio.Event().wait()

    reply = await ann("POST", S, {"a": 1}, receive=never)
    assert (reply.status, reply.code) == (503, "overloaded")
    assert reply.headers["retry-after"] == "1"


async def test_a_caller_has_a_bound_a_second_and_others_their_own(wire: Wire) -> None:
    ann, ben = await wire.caller("ann"), await wire.caller("ben")
    ann.service = ben.service = wire.another(requests_per_second=2)
    assert [(await ann("GET", S)).status for _ in range(3)] == [200, 200, 429]
    late = await ann("GET", S)
    assert (late.code, late.headers["retry-after"]) == ("rate_limited", "1")
    assert (await ben("GET", S)).status == 200
    wire.steps.now += 0.5
    assert [(await ann("GET", S)).status for _ in range(2)] == [200, 429]


async def test_requests_at_once_are_bounded_for_a_caller_and_for_the_store() -> None:
    wire = Wire()
    ann, ben = await wire.caller("ann"), await wire.caller("ben")
    runtime = wire.manager._runtime
    pausing = PausingProvider(runtime.storage, lambda change: bool(change.create))
    runtime.engine.storage = pausing
    for bounds, who, wanted in (
        ({"max_in_flight_per_caller": 1}, ann, (429, "rate_limited")),
        ({"max_in_flight": 1}, ben, (503, "overloaded")),
    ):
        ann.service = ben.service = wire.another(**bounds)
        pausing.arm()
        first = asyncio.create_task(ann("POST", S, {}))
        await pausing.reached.wait()
        reply = await who("GET", S)
        assert (reply.status, reply.code) == wanted
        assert "retry-after" in reply.headers
        pausing.go.set()
        assert (await first).status == 201
        assert (await who("GET", S)).status == 200


async def test_failed_logins_are_bounded_and_lock_nobody_known_out(wire: Wire) -> None:
    ann = await wire.caller("ann")
    ann.service = wire.another(failed_logins_per_minute=3)
    assert (await ann("GET", S)).status == 200
    guesser = Caller(ann.service, "ann", "ask_ab_wrong", {})
    assert [(await guesser("GET", S)).status for _ in range(4)] == [401, 401, 401, 429]
    refused = await guesser("GET", S)
    assert (refused.code, int(refused.headers["retry-after"]) > 0) == ("rate_limited", True)
    assert (await ann("GET", S)).status == 200
    elsewhere = await guesser("GET", S, client=("127.0.0.2", 1))
    assert elsewhere.status == 401
    wire.steps.now += 21
    assert (await guesser("GET", S)).status == 401


async def test_a_body_is_json_in_utf8_as_it_stands_and_says_so(wire: Wire) -> None:
    ann = await wire.caller("ann")
    for wrong in ("text/plain", "application/json; charset=utf-16", "application/json;charset=x"):
        reply = await ann("POST", S, b"{}", headers={"Content-Type": wrong})
        assert (reply.status, reply.code) == (415, "unsupported_media_type"), wrong
    for right in ("application/json", "Application/JSON; charset=UTF-8", 'application/json;a="b"'):
        assert (await ann("POST", S, b"{}", headers={"Content-Type": right})).status == 201, right
    for coding in ("gzip", "br", "deflate, gzip", "nonsense"):
        reply = await ann("POST", S, gzip.compress(b"{}"), headers={"Content-Encoding": coding})
        assert (reply.status, reply.code) == (415, "unsupported_media_type"), coding
        assert reply.headers["accept-encoding"] == "identity"
    assert (await ann("POST", S, b"{}", headers={"Content-Encoding": "identity"})).status == 201


@pytest.mark.parametrize("room", [0, 20_000], ids=["short", "long"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"title":"a","title":"b"}',
        b'{"title":"a","ti\\u0074le":"b"}',
        b'{"title":null,"title":"b"}',
        b'{"metadata":{"a":{"b":1,"b":2}}}',
        b'{"metadata":{"a":[{"b":1,"c":":","b" :2}]}}',
        b'{"context":{"a":1,"\\u0061":1}}',
        b'{"context":{"a":{"b:\\"":1,"b:\\"":1}}}',
        b"\xef\xbb\xbf{}",
        b'{"title":"\xff"}',
        b'{"title":"\xed\xa0\x80"}',
        b'{"metadata":{"a":"\\ud800"}}',
        '{"title":"a"}'.encode("utf-16"),
        b'{"metadata":{"a":01}}',
        b'{"title":"a"}}',
    ],
)
async def test_what_is_no_json_or_names_a_key_twice_is_malformed(
    wire: Wire, body: bytes, room: int
) -> None:
    ann = await wire.caller("ann")
    reply = await ann("POST", S, body + b" " * room)
    assert (reply.status, reply.code) == (400, "malformed_request")


@pytest.mark.parametrize("room", [0, 20_000], ids=["short", "long"])
async def test_half_of_a_surrogate_pair_is_named_as_the_fault(wire: Wire, room: int) -> None:
    ann = await wire.caller("ann")
    reply = await ann("POST", S, b'{"title":"cut \\ud83d"}' + b" " * room)
    assert "half of a surrogate pair" in reply.json()["detail"]


@pytest.mark.parametrize("room", [0, 20_000], ids=["short", "long"])
async def test_keys_that_only_look_alike_are_taken(wire: Wire, room: int) -> None:
    ann = await wire.caller("ann")
    metadata = {"a": {"a": ":", "b": '":"', "\\": [{"a": 1}, {"a": 1}]}, 'c"': "\\", "d:": None}
    body = json.dumps({"metadata": metadata, "context": metadata, "title": '"title":'}).encode()
    reply = await ann("POST", S, body + b" " * room)
    assert reply.status == 201
    del metadata["d:"]  # a key set to null is left out
    assert reply.json()["metadata"] == metadata


async def test_a_body_is_no_longer_than_its_route_can_take(wire: Wire) -> None:
    ann = await wire.caller("ann")
    session = await ann.new_session()
    for path, most in (("turn", 65_536), ("fork", 262_144 + 2 * 65_536), ("archive", 65_536)):
        body = b"{}" + b" " * (most - 2)
        assert (await ann("POST", f"{S}/{session}/{path}", body)).status in {200, 201}, path
        reply = await ann("POST", f"{S}/{session}/{path}", body + b" ")
        assert (reply.status, reply.code) == (413, "payload_too_large"), path
    long = {"messages": [{"role": "user", "content": "\u4f60" * 300_000}] * 9}
    assert len(json.dumps(long)) > 16_000_000  # half of it escapes
    assert (await ann("POST", f"{S}/{await ann.new_session()}/messages", long)).status == 201


async def test_long_values_are_held_to_the_same_bounds_as_short_ones(wire: Wire) -> None:
    ann = await wire.caller("ann")
    path = f"{S}/{await ann.new_session()}"
    deep: Any = "x" * 20_000
    for _ in range(100):
        deep = [deep]
    for content, status in ((deep, 201), ([deep], 422), (["x" * 1_048_572], 201)):
        message = {"role": "user", "content": content}
        assert (await ann("POST", f"{path}/messages", {"messages": [message]})).status == status
    for wrong, field in (
        ({"metadata_updates": {"a": "x" * 70_000}}, "/metadata_updates"),
        ({"context_updates": {str(i): "x" * 20 for i in range(1_001)}}, "/context_updates"),
        (b'{"context_updates":{"a":[%b1e999]}}' % (b"0," * 9_000), "/context_updates/a"),
        (b'{"context_updates":{"a":[%b0]}}' % (b"9" * 90_000 + b","), "/context_updates/a"),
        ({"metadata_updates": {"a": [[]] * 9_000}}, "/metadata_updates"),
    ):
        reply = await ann("PATCH", path, wrong)
        assert reply.code == "invalid_input", reply
        assert (reply.status, reply.json()["errors"][0]["field"]) == (422, field), reply
    many = {"messages": [{"role": "user", "content": ""}] * 1_001}
    reply = await ann("POST", f"{path}/messages", many)
    assert (reply.status, reply.json()["errors"][0]["field"]) == (422, "/messages")
    bob = await wire.caller("bob")
    assert (await bob("POST", f"{path}/messages", many)).code == "session_not_found"


@pytest.mark.parametrize("metadata", ['{"a": 1e999}', '{"a": [{"b": 1e999}]}'])
async def test_a_field_is_named_as_far_as_it_is_known(metadata: str) -> None:
    wire = Wire()
    caller = await wire.caller("ann")
    reply = await caller("POST", "/v1/sessions", b'{"metadata": %b}' % metadata.encode())
    assert reply.status == 422
    assert reply.json()["errors"][0]["field"] == "/metadata"
    await wire.service.aclose()
