"""A credential that ends while a body is still on its way opens nothing any more."""

# ruff: noqa: ANN401 - tests send what no type allows

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_cores.session.models import Applied, Change
from agent_cores.session.service.auth.api_keys import ApiKey, hashed, split_key
from agent_cores.session.service.auth.key_file import KeyFile
from agent_cores.session.storage.memory.provider import MemoryProvider
from tests.service.tokens import ISSUER, token
from tests.service.wire import Caller, Reply, Wire

S = "/v1/sessions"
BODY = json.dumps({"messages": [{"role": "user", "content": "late"}]}).encode()

Work = Callable[[], Awaitable[object]]


async def append_slowly(caller: Caller, session_id: str, before_body: Work) -> Reply:
    """Send the head of an append, do something, and then send the body."""

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        await before_body()
        return {"type": "http.request", "body": BODY, "more_body": False}

    headers = {"Content-Type": "application/json", "Content-Length": str(len(BODY))}
    path = f"{S}/{session_id}/messages"
    return await caller("POST", path, None, headers, receive=receive)


async def message_count(wire: Wire, session_id: str) -> int:
    ann = await wire.caller("ann")
    count: int = (await ann("GET", f"{S}/{session_id}")).json()["message_count"]
    return count


async def test_a_key_that_still_stands_writes_however_late_the_body_comes(wire: Wire) -> None:
    ann = await wire.caller("ann")
    session_id = await ann.new_session()

    async def wait() -> None:
        wire.clock.advance(19)
        wire.steps.now += 19

    assert (await append_slowly(ann, session_id, wait)).status == 201
    assert await message_count(wire, session_id) == 1


async def test_a_key_that_was_revoked_before_the_body_came_writes_nothing(wire: Wire) -> None:
    key = await wire.key()
    ann = Caller(wire.service, "ann", key, {})
    session_id = await ann.new_session()
    parts = split_key(key)
    assert parts is not None

    async def revoke() -> None:
        await wire.keys.revoke(parts[0])
        wire.steps.now += 5

    reply = await append_slowly(ann, session_id, revoke)
    assert (reply.status, reply.code) == (401, "unauthenticated")
    assert await message_count(wire, session_id) == 0


async def test_a_key_of_a_file_that_lost_it_before_the_body_came_writes_nothing(
    wire: Wire, tmp_path: Path
) -> None:
    kept = KeyFile(str(tmp_path / "keys.json"))
    key = ApiKey(
        id="k1",
        name="file",
        namespace="default",
        secret_hash=hashed("secret"),
        rights=("read", "write", "act-as"),
        created_at=wire.clock(),
    )
    await kept.add(key)
    service = wire.another(keys_file=str(tmp_path / "keys.json"))
    ann = Caller(service, "ann", "ask_k1_secret", {})
    session_id = await ann.new_session()

    async def revoke() -> None:
        await kept.revoke("k1")
        wire.steps.now += 5

    assert (await append_slowly(ann, session_id, revoke)).status == 401
    assert await message_count(wire, session_id) == 0


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"groups": ("blue",)}, 403), ({"rights": ("read", "act-as")}, 403), ({"name": "new"}, 201)],
)
async def test_what_a_key_lost_before_the_body_came_it_does_not_have(
    wire: Wire, fields: dict[str, Any], status: int
) -> None:
    key = await wire.key()
    ann = Caller(wire.service, "ann", key, {"X-User-Groups": "red"})
    session_id = await ann.new_session()
    parts = split_key(key)
    assert parts is not None

    async def narrow() -> None:
        kept = await wire.keys.get(parts[0])
        assert kept is not None
        await wire.keys.revoke(kept.id)
        await wire.keys.add(msgspec.structs.replace(kept, **fields))
        wire.steps.now += 5

    assert (await append_slowly(ann, session_id, narrow)).status == status


async def test_a_key_of_another_user_by_now_is_not_the_one_that_called(wire: Wire) -> None:
    key = await wire.key("read", "write", user_id="ann")
    ann = Caller(wire.service, None, key, {})
    session_id = await ann.new_session()
    parts = split_key(key)
    assert parts is not None

    async def give_to_ben() -> None:
        kept = await wire.keys.get(parts[0])
        assert kept is not None
        await wire.keys.revoke(kept.id)
        await wire.keys.add(msgspec.structs.replace(kept, user_id="ben"))
        wire.steps.now += 5

    assert (await append_slowly(ann, session_id, give_to_ben)).status == 401


async def test_a_key_that_expired_before_the_body_came_writes_nothing(wire: Wire) -> None:
    key = await wire.key(expires_at=wire.clock() + timedelta(seconds=10))
    ann = Caller(wire.service, "ann", key, {})
    session_id = await ann.new_session()

    async def wait() -> None:
        wire.clock.advance(10)

    assert (await append_slowly(ann, session_id, wait)).status == 401
    assert await message_count(wire, session_id) == 0


async def test_a_token_that_expired_before_the_body_came_writes_nothing() -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    ann = Caller(wire.service, None, token(wire.clock()), {})
    session_id = await ann.new_session()

    async def wait() -> None:
        wire.clock.advance(59)

    assert (await append_slowly(ann, session_id, wait)).status == 201

    async def wait_longer() -> None:
        wire.clock.advance(1)

    assert (await append_slowly(ann, session_id, wait_longer)).status == 401
    assert await message_count(wire, session_id) == 1


@pytest.mark.parametrize("way", ["key", "token"])
async def test_a_credential_that_expired_while_the_store_was_read_decides_nothing(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    end = wire.clock() + timedelta(seconds=60)
    if way == "key":
        key = await wire.key("read", "write", user_id="ann", expires_at=end)
    else:
        key = token(wire.clock(), exp=int(end.timestamp()))
    ann = Caller(wire.service, None, key, {})
    session_id = await ann.new_session()
    read = MemoryProvider.read

    async def read_slowly(self: MemoryProvider, namespace: str, *args: Any, **parts: Any) -> Any:
        if namespace == "default":
            wire.clock.advance(61)
        return await read(self, namespace, *args, **parts)

    monkeypatch.setattr(MemoryProvider, "read", read_slowly)
    wire.manager._runtime.engine.headers.forget(("default", session_id))  # noqa: SLF001
    assert (await ann.say(session_id)).status == 401
    assert (await ann("GET", f"{S}/{session_id}")).status == 401


@pytest.mark.parametrize("way", ["key", "token"])
@pytest.mark.parametrize("method", ["append", "delete", "rename"])
async def test_a_credential_that_expired_while_the_write_waited_writes_nothing(
    way: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    end = wire.clock() + timedelta(seconds=60)
    if way == "key":
        key = await wire.key("read", "write", user_id="ann", expires_at=end)
    else:
        key = token(wire.clock(), exp=int(end.timestamp()))
    ann = Caller(wire.service, None, key, {})
    session_id = await ann.new_session()
    apply = MemoryProvider.apply

    async def apply_late(self: MemoryProvider, change: Change) -> Applied:
        if change.namespace == "default" and wire.clock() < end:
            wire.clock.advance(61)
        return await apply(self, msgspec.structs.replace(change, at=change.applied_at()))

    monkeypatch.setattr(MemoryProvider, "apply", apply_late)
    path = f"{S}/{session_id}"
    reply = {
        "append": lambda: ann.say(session_id),
        "delete": lambda: ann("DELETE", path),
        "rename": lambda: ann("PATCH", path, {"metadata_updates": {"title": "late"}}),
    }[method]()
    assert (await reply).status == 401
    monkeypatch.undo()
    other = await wire.caller("ann")
    kept = (await other("GET", path)).json()
    assert (kept["message_count"], kept["title"]) == (0, None)
