"""API keys: what they open, for whom, how long, and where they are kept."""

# ruff: noqa: ANN401, DTZ001, SLF001 - tests look behind the service, and send what no type allows

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import ConfigurationError, InvalidInputError
from agent_cores.session.lifecycle.events import EVENT_NAMES
from agent_cores.session.service import Service, ServiceSettings
from agent_cores.session.service.auth import key_cache
from agent_cores.session.service.auth.api_keys import ApiKey, StoredKeys, hashed, split_key
from agent_cores.session.service.auth.key_file import KeyFile
from agent_cores.session.service.document.openapi import document
from agent_cores.session.service.request.view import RequestView
from agent_cores.session.service.routes import ROUTES
from tests.service.pausing import PausingProvider
from tests.service.wire import Caller, Wire

S = "/v1/sessions"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer ask_",
        "Bearer ask_x",
        "Bearer nonsense",
        "Bearer a.b.c",
        "Bearer ask_é_x",
    ],
)
async def test_who_shows_no_credential_is_not_known(wire: Wire, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    reply = await wire.request("GET", S, headers=headers)
    assert (reply.status, reply.code) == (401, "unauthenticated")
    assert reply.headers["www-authenticate"] == "Bearer"


async def test_a_wrong_secret_and_an_unknown_id_are_one_answer(wire: Wire) -> None:
    key = await wire.key()
    replies = [
        await Caller(wire.service, "ann", text, {})("GET", S)
        for text in (key[:-1] + ("a" if key[-1] != "a" else "b"), "ask_0011_abc")
    ]
    assert {(reply.status, reply.body) for reply in replies} == {(401, replies[0].body)}


async def test_a_key_opens_its_own_namespace_alone(wire: Wire) -> None:
    ann = await wire.caller("ann")
    session_id = await ann.new_session(public=True)
    other = Caller(wire.service, "ann", await wire.key(namespace="other"), {})
    assert (await other("GET", f"{S}/{session_id}")).status == 404
    assert (await other("GET", S)).json()["data"] == []
    assert (await other("GET", "/v1/me")).json()["namespace"] == "other"


async def test_the_right_is_asked_before_anything_is_looked_at(wire: Wire) -> None:
    reader = Caller(wire.service, "ann", await wire.key("read", "act-as"), {})
    writer = Caller(wire.service, "ann", await wire.key("write", "act-as"), {})
    admin = Caller(wire.service, None, await wire.key("admin"), {})
    assert (await reader("GET", S)).status == 200
    assert (await reader("POST", S, {})).code == "access_denied"
    assert (await writer("POST", S, {})).status == 201
    assert (await writer("GET", S)).code == "access_denied"
    for caller in (reader, writer):
        assert (await caller("GET", "/v1/statistics")).code == "access_denied"
    assert (await admin("GET", f"{S}/nope")).code == "access_denied"


async def test_a_key_of_one_user_speaks_for_that_user_alone(wire: Wire) -> None:
    key = await wire.key("read", "write", user_id="ann")
    fixed = Caller(wire.service, None, key, {})
    session_id = await fixed.new_session()
    assert (await fixed("GET", f"{S}/{session_id}")).json()["owner_id"] == "ann"
    for header in ("X-User-Id", "X-User-Groups"):
        for value in ("ann", ""):
            reply = await fixed("GET", S, headers={header: value})
            assert (reply.status, reply.code) == (403, "access_denied")


async def test_who_may_act_as_others_must_say_as_whom(wire: Wire) -> None:
    acting = Caller(wire.service, None, await wire.key("read", "act-as", "admin"), {})
    assert (await acting("GET", S)).code == "malformed_request"
    assert (await acting("GET", "/v1/me")).json()["user_id"] is None
    assert (await acting("GET", "/v1/statistics")).status == 200


@pytest.mark.parametrize(
    "value", ["a b", "é", "a%2", "a%zz", "%FF", "group:x", "", "%00", "a,b", "x" * 256]
)
async def test_a_user_id_that_is_malformed_is_400(wire: Wire, value: str) -> None:
    ann = await wire.caller("ann")
    reply = await ann("GET", S, headers={"X-User-Id": value})
    assert (reply.status, reply.code) == (400, "malformed_request")


@pytest.mark.parametrize(
    ("value", "groups"),
    [("a,b", ["a", "b"]), ("a , b", ["a", "b"]), ("a\t,\tb", ["a", "b"]), ("a\x0b,b", None)],
)
async def test_groups_may_have_space_around_their_commas(
    wire: Wire, value: str, groups: list[str] | None
) -> None:
    ann = await wire.caller("ann", **{"X-User-Groups": value})
    reply = await ann("GET", "/v1/me")
    assert reply.status == (200 if groups else 400)
    assert reply.json().get("groups") == groups
    header = next(
        parameter
        for parameter in json.loads(document(ROUTES))["paths"]["/v1/me"]["get"]["parameters"]
        if parameter["name"] == "X-User-Groups"
    )
    assert bool(re.search(header["schema"]["pattern"], value)) is bool(groups)


async def test_a_header_that_says_who_is_calling_stands_once(wire: Wire) -> None:
    ann = await wire.caller("ann", **{"X-User-Groups": "a"})
    for name, code in (
        ("authorization", "unauthenticated"),
        ("x-user-id", "malformed_request"),
        ("x-user-groups", "malformed_request"),
    ):
        (value,) = (v for k, v in ann.headers.items() if k.lower() == name)
        assert (await ann("GET", S, headers={name: value})).code == code
    assert (await ann("GET", S)).status == 200


async def test_user_ids_come_percent_encoded(wire: Wire) -> None:
    name = "用户/ä ,?"
    who = await wire.caller(name)
    assert (await who("GET", "/v1/me")).json()["user_id"] == name
    path = f"{S}/{await who.new_session()}"
    assert (await who("GET", path)).json()["owner_id"] == name


async def test_acting_can_be_narrowed_to_users_and_groups(wire: Wire) -> None:
    key = await wire.key("read", "act-as", user_prefix="shop:", groups=("buyers",))
    inside = Caller(wire.service, "shop:ann", key, {"X-User-Groups": "buyers"})
    assert (await inside("GET", S)).status == 200
    assert (await Caller(wire.service, "ann", key, {})("GET", S)).code == "access_denied"
    reply = await inside("GET", S, headers={"X-User-Groups": "buyers,staff"})
    assert reply.code == "access_denied"


async def test_a_key_ends_at_its_end(wire: Wire) -> None:
    from datetime import timedelta

    key = await wire.key(expires_at=wire.clock() + timedelta(seconds=10))
    ann = Caller(wire.service, "ann", key, {})
    assert (await ann("GET", S)).status == 200
    wire.clock.advance(10)
    assert (await ann("GET", S)).status == 401


async def test_a_revoked_key_is_out_within_five_seconds_in_every_worker(wire: Wire) -> None:
    key = await wire.key()
    ann = Caller(wire.service, "ann", key, {})
    assert (await ann("GET", S)).status == 200
    parts = split_key(key)
    assert parts is not None
    assert await wire.keys.revoke(parts[0])
    assert not await wire.keys.revoke(parts[0])
    wire.steps.now += 4.9
    assert (await ann("GET", S)).status == 401


async def test_a_revoked_key_is_out_beside_keys_of_the_process(wire: Wire) -> None:
    own = ApiKey(
        id="own",
        name="first run",
        namespace="default",
        secret_hash=hashed("secret"),
        rights=("read", "act-as"),
        created_at=wire.clock(),
    )
    service = Service(wire.manager, ServiceSettings(), keys=[own], now=wire.steps)
    key = await wire.key()
    ann = Caller(service, "ann", key, {})
    assert (await ann("GET", S)).status == 200
    await service._components.keys.finish()
    parts = split_key(key)
    assert parts is not None
    assert await wire.keys.revoke(parts[0])
    wire.steps.now += 5
    assert (await ann("GET", S)).status == 401
    assert (await Caller(service, "ann", "ask_own_secret", {})("GET", S)).status == 200


async def test_a_key_is_not_read_for_every_request(wire: Wire) -> None:
    from agent_cores.session.testing.wrapping import CountingProvider

    counting = CountingProvider(wire.manager._runtime.storage)
    wire.keys._storage = counting
    wire.service._components.keys._places = (wire.keys,)
    ann = await wire.caller("ann")
    for _ in range(10):
        await ann("GET", "/v1/me")
    assert counting.calls["read"] == 1


async def test_a_key_that_was_narrowed_forgets_whom_it_acted_for(wire: Wire) -> None:
    key = await wire.key()
    ann = Caller(wire.service, "ann", key, {"X-User-Groups": "red"})
    assert [(await ann("GET", S)).status for _ in range(2)] == [200, 200]
    parts = split_key(key)
    assert parts is not None
    kept = await wire.keys.get(parts[0])
    assert kept is not None
    await wire.keys.revoke(kept.id)
    await wire.keys.add(msgspec.structs.replace(kept, groups=("blue",)))
    wire.steps.now += 4.9
    assert (await ann("GET", S)).status == 403
    assert (await ann("GET", S, headers={"X-User-Groups": "blue"})).status == 200


async def test_the_last_use_is_noted_once_a_minute(wire: Wire) -> None:
    ann = await wire.caller("ann")
    for _ in range(3):
        await ann("GET", S)
    await wire.service._components.keys.finish()
    used = (await wire.keys.all())[0]
    assert used.last_used_at == wire.clock()
    first = wire.clock()
    wire.clock.advance(59)
    wire.steps.now += 59
    await ann("GET", S)
    await wire.service._components.keys.finish()
    assert (await wire.keys.all())[0].last_used_at == first
    wire.clock.advance(2)
    wire.steps.now += 2
    await ann("GET", S)
    await wire.service._components.keys.finish()
    assert (await wire.keys.all())[0].last_used_at == wire.clock()


async def test_a_service_stops_though_the_store_does_not_answer(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cache, "FINISH_SECONDS", 0.01)
    pausing = PausingProvider(wire.manager._runtime.storage, lambda change: bool(change.metadata))
    wire.service._components.keys._places = (StoredKeys(pausing, wire.clock),)
    ann = await wire.caller("ann")
    pausing.arm()
    assert (await ann("GET", S)).status == 200
    await pausing.reached.wait()
    await wire.service.aclose()


async def test_keys_are_out_of_reach_of_sessions(wire: Wire) -> None:
    events: list[Any] = []
    for name in EVENT_NAMES:
        wire.manager.lifecycle.on(name, events.append)
    key = await wire.key()
    admin = Caller(wire.service, None, await wire.key("admin"), {})
    assert (await admin("GET", "/v1/statistics")).json()["sessions"] == 0
    await admin("POST", "/v1/users/erase", {"user_id": "_keys"})
    assert len(await wire.keys.all()) == 2
    wire.clock.advance(10**8)
    await wire.manager.clean_expired_sessions()
    assert len(await wire.keys.all()) == 2
    parts = split_key(key)
    assert parts is not None
    await wire.keys.revoke(parts[0])
    assert events == []
    with pytest.raises(InvalidInputError):
        SessionManager("memory").for_namespace("_keys")


async def test_what_is_stored_opens_nothing(wire: Wire) -> None:
    key = await wire.key()
    parts = split_key(key)
    assert parts is not None
    snapshot = await wire.manager._runtime.storage.read("_keys", parts[0])
    assert snapshot is not None
    stored = json.dumps(snapshot.header.attributes)
    assert parts[1] not in stored
    assert hashed(parts[1]) in stored


async def test_keys_of_a_file_are_read_again_when_it_changes(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    kept = KeyFile(str(path))
    service = wire.another(keys_file=str(path))
    ann = Caller(service, "ann", "ask_k1_secret", {})
    assert (await ann("GET", S)).status == 401
    key = ApiKey(
        id="k1",
        name="file",
        namespace="default",
        secret_hash=hashed("secret"),
        rights=("read", "act-as"),
        created_at=wire.clock(),
    )
    await kept.add(key)
    assert (path.stat().st_mode & 0o777) == 0o600
    assert (await ann("GET", S)).status == 200
    stored = Caller(service, "ann", await wire.key(), {})
    assert (await stored("GET", S)).status == 401, "the file is instead of the store"
    assert await kept.revoke("k1")
    wire.steps.now += 5
    assert (await ann("GET", S)).status == 401
    path.write_text("{")
    wire.steps.now += 60
    assert (await ann("GET", S)).code == "storage_unavailable"


@pytest.mark.parametrize(
    "fields",
    [
        {"rights": ()},
        {"rights": ("all",)},
        {"rights": ("read",)},
        {"rights": ("act-as", "read"), "user_id": "ann"},
        {"rights": ("read",), "user_id": "ann", "user_prefix": "a"},
        {"rights": ("read", "act-as"), "namespace": "_keys"},
        {"rights": ("read", "act-as"), "namespace": ""},
        {"rights": ("read", "act-as"), "secret_hash": "é" * 64},
        {"rights": ("read", "act-as"), "secret_hash": hashed("secret").upper()},
        {"rights": ("read", "act-as"), "created_at": datetime(2026, 1, 1)},
        {"rights": ("read", "act-as"), "expires_at": datetime(2026, 1, 1)},
        {"rights": ("read", "act-as"), "user_prefix": "group:"},
        {"rights": ("read", "act-as"), "groups": ("a\x1b[2J",)},
        {"rights": ("read", "act-as", "operator"), "user_prefix": "shop:"},
        {"rights": ("read", "act-as", "operator"), "groups": ("buyers",)},
        {"rights": ("read",), "user_id": "group:x"},
        {"rights": ("read",), "user_id": ""},
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(wire: Wire, fields: Any) -> None:
    with pytest.raises(ConfigurationError):
        ApiKey(
            id="a",
            name="a",
            **{
                "namespace": "a",
                "secret_hash": hashed("secret"),
                "created_at": wire.clock(),
                **fields,
            },
        )


async def test_a_file_opens_no_namespace_of_the_system(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = {
        "id": "k1",
        "name": "file",
        "namespace": "_keys",
        "secret_hash": hashed("secret"),
        "rights": ["read", "act-as"],
        "created_at": "2026-01-01T00:00:00Z",
    }
    path.write_text(json.dumps({"keys": [key]}))
    service = wire.another(keys_file=str(path))
    reply = await Caller(service, "_keys", "ask_k1_secret", {})("GET", S)
    assert reply.code == "storage_unavailable"
    with pytest.raises(InvalidInputError):
        RequestView.of(wire.manager, "_keys", ())
