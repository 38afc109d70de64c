"""Index entries: added before a write, removed after a refusal, and repaired."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from agent_cores.session.errors import (
    SessionNotFoundError,
    StaleHeaderError,
    StorageUnavailableError,
)
from agent_cores.session.models import (
    AccessEffect,
    AccessRole,
    Change,
    Grant,
    Query,
    RenewEffect,
)
from agent_cores.session.models.change import State
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.redis.changes import Changes
from agent_cores.session.storage.redis.commands import REPAIR, Command
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.storage.redis.wire import Wire
from agent_cores.session.testing.samples import change_of, creation, new_header
from tests.redis.interrupts import before_writes, die, lose_writes
from tests.redis.talks import append, opened, start
from tests.servers.redis import RedisServer, empty_store

AT = utc_now()
SHARE = AccessEffect(
    grant=(Grant(subject="bob", role=AccessRole.VIEWER, granted_by="ann", granted_at=AT),)
)


@pytest.mark.parametrize(
    "effect",
    [{"metadata": {"tags": ["new"]}}, {"access": SHARE}, {"access": AccessEffect(owner_id="bob")}],
    ids=["tag", "share", "transfer"],
)
async def test_a_change_that_fails_for_an_unknown_cause_leaves_the_session_in_the_queue(
    provider: RedisProvider,
    monkeypatch: pytest.MonkeyPatch,
    effect: dict[str, Any],
) -> None:
    header = await start(provider)
    reads: list[Change] = []
    state = Changes.state

    async def breaks_off(self: Changes, change: Change) -> State:
        reads.append(change)
        if len(reads) > 1:
            detail = "down"
            raise StorageUnavailableError(detail)
        return await state(self, change)

    with monkeypatch.context() as patch:
        lose_writes(patch)
        patch.setattr(Changes, "state", breaks_off)
        with pytest.raises(StorageUnavailableError):
            await provider.apply(change_of(header, utc_now(), **effect))
    assert (await provider.count("default", utc_now())).sessions == 1
    assert await provider.read("default", "talk") is not None


async def test_a_change_that_others_are_always_faster_than_leaves_the_session_in_the_queue(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(f"{empty_store(server.url)}&timeout=0.3") as provider:
        header = await start(provider)
        with monkeypatch.context() as patch:
            lose_writes(patch)
            with pytest.raises(StaleHeaderError):
                await provider.apply(change_of(header, utc_now(), access=SHARE))
        assert (await provider.count("default", utc_now())).sessions == 1


async def test_a_session_without_end_that_was_never_made_leaves_the_queue_after_a_read(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, url = utc_now(), empty_store(server.url)
    async with opened(url) as provider:
        with monkeypatch.context() as patch:
            before_writes(patch, die)
            with pytest.raises(StorageUnavailableError):
                await provider.apply(creation(new_header(at=at, ttl_seconds=None)))
        assert (await provider.count("default", at)).sessions == 1
        later = at + timedelta(minutes=1)
        await provider.find(Query(namespace="default", at=later, owner_id="ann"))
    async with opened(url) as provider:
        later += timedelta(minutes=1)
        for ended in await provider.due(later, 10, 30):
            assert ended.header is None
            with pytest.raises(SessionNotFoundError):
                await provider.apply(ended.removal(later))
        assert (await provider.count("default", later)).sessions == 0


async def test_a_reader_takes_nothing_from_a_session_that_is_saved_with_an_older_time(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, url = utc_now(), empty_store(server.url)
    query = Query(namespace="default", at=at, owner_id="ann")
    shared = Query(namespace="default", at=at, subjects=("bob",))
    hour_ago = at - timedelta(hours=1)
    grant = Grant(subject="bob", role=AccessRole.VIEWER, granted_by="ann", granted_at=hour_ago)
    header = new_header(at=hour_ago, ttl_seconds=None, tags=("x",), grants={"bob": grant})

    async def overtaken() -> None:
        async with opened(url) as reader:
            for listing in (query, msgspec.structs.replace(query, tags=("x",)), shared):
                assert (await reader.find(listing)).headers == []

    async with opened(url) as provider:
        with monkeypatch.context() as patch:
            before_writes(patch, overtaken)
            await provider.apply(creation(header))
        for listing in (query, msgspec.structs.replace(query, tags=("x",)), shared):
            assert len((await provider.find(listing)).headers) == 1
        later = at + timedelta(minutes=1)
        assert await provider.due(later, 10, 30) == []
        assert (await provider.count("default", later + timedelta(days=9))).due == 0


async def test_a_reader_who_is_slow_to_repair_takes_nothing_from_a_session_saved_meanwhile(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, url = utc_now(), empty_store(server.url)
    query = Query(namespace="default", at=at, owner_id="ann")
    repairing, saved = asyncio.Event(), asyncio.Event()
    call_all = Wire.call_all
    repair = REPAIR.on((b"list",)).packed.split(b"\r\n")[4]  # its SHA-1

    async def late(self: Wire, commands: Iterable[Command]) -> list[Any]:
        waiting = list(commands)
        if any(repair in command.packed for command in waiting):
            repairing.set()
            await saved.wait()
        return await call_all(self, waiting)

    async with opened(url) as reader, opened(url) as provider:

        async def overtaken() -> None:
            assert (await reader.find(query)).headers == []
            await repairing.wait()

        with monkeypatch.context() as patch:
            patch.setattr(Wire, "call_all", late)
            before_writes(patch, overtaken)
            await provider.apply(creation(new_header(at=at - timedelta(hours=1))))
            saved.set()
            await reader.shutdown()
        assert len((await provider.find(query)).headers) == 1


async def test_an_entry_that_a_failover_lost_is_made_again_by_a_change(
    server: RedisServer,
) -> None:
    url, at = empty_store(server.url), utc_now()
    query = Query(namespace="default", at=at, owner_id="ann")
    async with opened(url) as provider:
        header = await start(provider, tags=("x",))
        for tag in ("", ":tag:x"):
            server.command(
                "DEL", f"{url.rpartition('prefix=')[2]}owner:{{default/ann}}:active{tag}"
            )
        await provider.apply(append(header, "m1"))
        assert (await provider.find(query)).headers == []
        await provider.apply(change_of(header, utc_now(), metadata={"title": "new"}))
        for listing in (query, msgspec.structs.replace(query, tags=("x",))):
            assert len((await provider.find(listing)).headers) == 1


async def test_a_create_sent_again_leaves_the_session_due_when_it_is(
    provider: RedisProvider,
) -> None:
    at = utc_now()
    first = creation(new_header(at=at, ttl_seconds=3_600))
    header = (await provider.apply(first)).header
    await provider.apply(change_of(header, at, renew=RenewEffect(ttl_seconds=10)))
    assert (await provider.apply(first)).replayed
    due = await provider.due(at + timedelta(seconds=20), 10, 30)
    assert [ended.session_id for ended in due] == ["talk"]


async def test_a_create_sent_again_enters_nothing_that_does_not_stand(
    server: RedisServer, provider: RedisProvider
) -> None:
    tag = secrets.token_hex(8)
    at = utc_now()
    first = creation(new_header(at=at, tags=(tag,)))
    header = (await provider.apply(first)).header
    assert server.command("KEYS", f"*:tag:{tag}")
    await provider.apply(change_of(header, at, metadata={"tags": []}))
    assert (await provider.apply(first)).replayed
    assert not server.command("KEYS", f"*:tag:{tag}")


async def test_what_an_attempt_entered_that_lost_is_taken_back_once_another_has_won(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, tag = empty_store(server.url), secrets.token_hex(8)
    async with opened(url) as one, opened(url) as other:
        header = await start(one, tags=(tag,))

        async def overtaken() -> None:
            monkeypatch.undo()
            await other.apply(change_of(header, utc_now(), metadata={"tags": []}))

        before_writes(monkeypatch, overtaken)
        archived = change_of(header, utc_now(), access=AccessEffect(archived=True))
        assert (await one.apply(archived)).header.tags == ()
    assert not server.command("KEYS", f"*:tag:{tag}")
