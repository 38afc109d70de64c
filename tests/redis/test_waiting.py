"""A write that waited is judged by the time at which the server carries it out."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agent_cores.session.errors import SessionExpiredError, StaleHeaderError
from agent_cores.session.models import Change, SessionMetadata
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.redis.connection import ServerClocks
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing.samples import change_of, creation, new_header
from tests.redis.talks import append, messages, opened, start
from tests.servers.redis import RedisServer, empty_store

KINDS: dict[str, dict[str, Any]] = {"append": {}, "metadata": {"metadata": {"title": "new"}}}
KINDS["delete"] = {"delete": True}


def _change(header: SessionMetadata, kind: str, **fields: Any) -> Change:  # noqa: ANN401 - of a change
    at = utc_now()
    guards = {"clock": utc_now, "access_revision": header.access_revision, "basis": header}
    if kind != "append":
        return change_of(header, at, **KINDS[kind], **guards, **fields)
    return change_of(header, at, append=append(header, "m2", at=at).append, **guards, **fields)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ends", ["session", "grant"])
async def test_what_a_server_that_stood_still_finds_in_its_queue_is_not_done_too_late(
    kind: str, ends: str
) -> None:
    with RedisServer() as server:
        async with opened(empty_store(server.url)) as provider:
            header = await start(provider, ttl_seconds=0.6 if ends == "session" else 60)
            await provider.apply(append(header, "m1"))  # the scripts are known
            until = utc_now() + timedelta(seconds=0.6) if ends == "grant" else None
            change = _change(header, kind, valid_until=until)
            server.pause()
            late = asyncio.create_task(provider.apply(change))
            await asyncio.sleep(1.1)
            server.go_on()
            refusal = SessionExpiredError if ends == "session" else StaleHeaderError
            with pytest.raises(refusal):
                await late
            assert len(await messages(provider)) == 1


@pytest.mark.parametrize("apart", [timedelta(hours=-2), timedelta(), timedelta(hours=2)])
async def test_a_clock_that_is_apart_from_the_servers_refuses_nothing_that_lives(
    provider: RedisProvider, apart: timedelta
) -> None:
    at = utc_now() + max(apart, timedelta())  # a key that ends in the past is gone at once
    header = (await provider.apply(creation(new_header(at=at, ttl_seconds=0.5)))).header
    for number in range(20):
        applied = await provider.apply(append(header, f"m{number}", at=at))
        assert applied.header.last_seq == number + 1


async def test_a_servers_clock_that_was_set_forward_costs_one_more_look(
    provider: RedisProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = await start(provider, ttl_seconds=60)
    now = ServerClocks.now
    fooled: list[int] = []

    def hours_ago(self: ServerClocks, address: str | None) -> int | None:
        fooled.append(1)
        monkeypatch.setattr(ServerClocks, "now", now)
        known = now(self, address)
        assert known is not None
        return known - 7_200_000

    monkeypatch.setattr(ServerClocks, "now", hours_ago)
    applied = await provider.apply(append(header, "m1"))
    assert (applied.header.last_seq, fooled) == (1, [1])


async def test_a_clock_is_never_taken_for_behind_what_the_server_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monotonic = 100.0
    monkeypatch.setattr("time.monotonic", lambda: monotonic)
    clocks = ServerClocks()
    assert clocks.now("a") is None
    clocks.note("a", 100.0, (b"1000", b"0"))
    assert clocks.now("a") == 1_000_001
    assert clocks.now("b") is None
    assert clocks.now(None) is None
    monotonic = 110.5
    clocks.note("a", 110.0, (b"1010", b"400000"))  # a slow answer tells less than a quick one
    assert clocks.now("a") == 1_010_501
    clocks.note("a", 110.4, (b"1020", b"0"))  # but that clock has been set
    assert clocks.now("a") == 1_020_101
    clocks.note("a", 110.5, (b"1005", b"0"))  # and back
    assert clocks.now("a") == 1_005_001
