"""A session that cannot be read stops nothing but itself: no sweep, no listing, no count."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from agent_cores.session.models import AccessRole, Grant, Query, RenewEffect, SessionStatus
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.redis.due import DueQueue
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing.samples import change_of
from tests.redis.talks import opened, start
from tests.servers.redis import RedisServer

GRANT = Grant(subject="bob", role=AccessRole.VIEWER, granted_by="ann", granted_at=utc_now())
LATER = timedelta(hours=2)
SPOILS: dict[str, Callable[[Any, str], object]] = {
    "newer": lambda client, key: client.hset(key, "format", "99"),
    "not msgpack": lambda client, key: client.hset(key, "grants", b"\xff"),
    "no number": lambda client, key: client.hset(key, "expires_at", "soon"),
    "a list": lambda client, key: (client.delete(key), client.rpush(key, "x")),
    "a text": lambda client, key: client.set(key, "x"),
}


@pytest.fixture
def prefix() -> str:
    return f"unreadable-{secrets.token_hex(4)}:"


async def _three(server: RedisServer, provider: RedisProvider, prefix: str, how: str) -> None:
    """Create a, bad and z, and spoil one of them."""
    for name in ("a", "bad", "z"):
        await start(provider, name, ttl_seconds=3_600, tags=("x",), grants={"bob": GRANT})
    with server.client() as client:
        SPOILS[how](client, f"{prefix}{{default/bad}}")


@pytest.mark.parametrize("how", SPOILS)
async def test_sweeping_goes_on_past_it(
    server: RedisServer, prefix: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        await _three(server, provider, prefix, how)
        later = utc_now() + LATER
        for _ in range(2):
            ended = await provider.due(later, 10, 30)
            assert sorted(session.session_id for session in ended) == ["a", "z"]
            assert await provider.due(later, 10, 30) == []
            assert (await provider.count(None, later)).due == 0
            later += timedelta(seconds=30)
        assert caplog.text.count("'bad'") == 1


async def test_many_of_them_take_no_room_from_others(server: RedisServer, prefix: str) -> None:
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        for number in range(30):
            await start(provider, f"bad-{number}", ttl_seconds=60)
        await start(provider, "good", ttl_seconds=3_600)
        with server.client() as client:
            for number in range(30):
                client.set(f"{prefix}{{default/bad-{number}}}", "x")
        ended = await provider.due(utc_now() + LATER, 1, 30)
        assert [session.session_id for session in ended] == ["good"]


@pytest.mark.parametrize("how", SPOILS)
@pytest.mark.parametrize(
    "fields", [{"owner_id": "ann"}, {"owner_id": "ann", "tags": ("x",)}, {"subjects": ("bob",)}]
)
async def test_a_listing_has_the_others_and_names_it(
    server: RedisServer, prefix: str, how: str, fields: dict[str, Any]
) -> None:
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        await _three(server, provider, prefix, how)
        at = utc_now() + timedelta(minutes=2)  # old enough to be mended, were it stale
        for status in (SessionStatus.ACTIVE, None):
            for _ in range(2):
                query = Query(namespace="default", at=at, status=status, **fields)
                found = await provider.find(query)
                assert sorted(header.session_id for header in found.headers) == ["a", "z"]
                assert found.unreadable == ("bad",)
                await provider._background.finish()  # noqa: SLF001 - what the reader set going
        found = await provider.find(Query(namespace=None, at=at))
        assert sorted(header.session_id for header in found.headers) == ["a", "z"]
        assert found.unreadable == ("bad",)
        assert (await provider.count("default", at)).sessions == 3


async def test_names_that_are_none_stop_nothing(
    server: RedisServer, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        await start(provider, "good", ttl_seconds=3_600)
        with server.client() as client:
            for shard in range(8):
                for name in (b"x", b"x\0y", b"\xff\0" + b"9" * 400, b""):
                    client.zadd(f"{prefix}due:{{default/{shard}}}", {name: 1})
                    client.zadd(f"{prefix}owner:{{default/ann}}:active", {name: 1})
        later = utc_now() + LATER
        ended = await provider.due(later, 10, 30)
        assert [session.session_id for session in ended] == ["good"]
        for namespace in ("default", None):
            found = await provider.find(Query(namespace=namespace, at=later, owner_id="ann"))
            assert [header.session_id for header in found.headers] == ["good"]
        assert caplog.text.count("is not a session") == 32


async def test_a_shard_that_holds_something_else_stops_only_itself(
    server: RedisServer, prefix: str
) -> None:
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        names = [f"talk-{number}" for number in range(40)]
        for name in names:
            await start(provider, name, ttl_seconds=3_600)
        with server.client() as client:
            client.set(f"{prefix}due:{{default/3}}", "x")
        later = utc_now() + LATER
        ended = await provider.due(later, 100, 30)
        assert 20 < len(ended) < 40
        assert (await provider.count("default", later)).sessions == len(ended)


async def test_an_end_that_came_nearer_while_a_sweep_looked_is_kept(
    provider: RedisProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = utc_now()
    header = await start(provider, ttl_seconds=60)
    renewed = change_of(header, at, renew=RenewEffect(ttl_seconds=7_200))
    await provider.apply(renewed)
    put_off = DueQueue._postpone  # noqa: SLF001 - comes late here

    async def late(self: DueQueue, *arguments: Any) -> None:  # noqa: ANN401 - whatever it takes
        nearer = RenewEffect(ttl_seconds=600)
        await provider.apply(change_of(header, at + timedelta(seconds=61), renew=nearer))
        await put_off(self, *arguments)

    monkeypatch.setattr(DueQueue, "_postpone", late)
    assert await provider.due(at + timedelta(seconds=61), 10, 30) == []
    monkeypatch.undo()
    ended = await provider.due(at + timedelta(seconds=700), 10, 30)
    assert [session.session_id for session in ended] == ["talk"]
