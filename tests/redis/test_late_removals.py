"""A removal that comes late takes nothing that was added anew, whatever the clocks say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from agent_cores.session.models import (
    AccessEffect,
    AccessRole,
    Grant,
    Query,
)
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing.samples import change_of
from tests.redis.interrupts import Late, before_writes, die_after_writes
from tests.redis.talks import opened, start
from tests.servers.redis import RedisServer, empty_store

AT = utc_now()
EARLIER = timedelta(milliseconds=-50)
SHARED: dict[str, Any] = {"subjects": ("bob",)}
OWNED: dict[str, Any] = {"owner_id": "ann"}
REVOKE: dict[str, Any] = {"access": AccessEffect(revoke=("bob",))}


def share(shift: timedelta = timedelta()) -> dict[str, Any]:
    """Return what shares a session with bob, by a clock that is a little ahead or behind."""
    grant = Grant(subject="bob", role=AccessRole.EDITOR, granted_by="ann", granted_at=AT + shift)
    return {"access": AccessEffect(grant=(grant,))}


async def listed(provider: RedisProvider, **fields: Any) -> list[str]:  # noqa: ANN401 - of a query
    """Return the ids of a listing."""
    found = await provider.find(Query(namespace="default", at=utc_now(), **fields))
    return [header.session_id for header in found.headers]


@pytest.fixture
async def pair(server: RedisServer) -> AsyncIterator[tuple[RedisProvider, RedisProvider]]:
    """Return two providers of one store, as two processes have them."""
    url = empty_store(server.url)
    async with opened(url) as one, opened(url) as other:
        yield one, other


@pytest.mark.parametrize("shift", [EARLIER, timedelta(), -EARLIER], ids=["behind", "same", "ahead"])
async def test_what_is_shared_anew_stays_in_the_list_of_whom_it_is_shared_with(
    pair: tuple[RedisProvider, RedisProvider], monkeypatch: pytest.MonkeyPatch, shift: timedelta
) -> None:
    one, other = pair
    header = await start(one)
    await one.apply(change_of(header, AT, **share()))
    revoke = change_of(header, AT + timedelta(milliseconds=10), **REVOKE)
    async with Late(monkeypatch, one, "_remove_stale").doing(one, revoke):
        await other.apply(change_of(header, AT + shift, **share(shift)))
    assert await listed(other, **SHARED) == ["talk"]


async def test_a_share_that_waited_between_its_entry_and_its_write_stays_listed(
    pair: tuple[RedisProvider, RedisProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    header = await start(one)
    await one.apply(change_of(header, AT, **share()))
    entered, written = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        entered.set()
        await written.wait()

    late = Late(monkeypatch, one, "_remove_stale")
    before_writes(monkeypatch, waits, of=other)
    async with late.doing(one, change_of(header, AT, **REVOKE)):
        sharing = asyncio.create_task(other.apply(change_of(header, AT, **share(EARLIER))))
        await entered.wait()
    written.set()
    await sharing
    assert await listed(other, **SHARED) == ["talk"]


@pytest.mark.parametrize(
    ("away", "back", "listing"),
    [
        ({"metadata": {"tags": []}}, {"metadata": {"tags": ["x"]}}, {"tags": ("x",)}),
        ({"access": AccessEffect(archived=True)}, {"access": AccessEffect(archived=False)}, {}),
        ({"access": AccessEffect(owner_id="bob")}, {"access": AccessEffect(owner_id="ann")}, {}),
    ],
    ids=["tag", "archived", "owner"],
)
async def test_what_is_put_back_stays_in_its_owners_lists(
    pair: tuple[RedisProvider, RedisProvider],
    monkeypatch: pytest.MonkeyPatch,
    away: dict[str, Any],
    back: dict[str, Any],
    listing: dict[str, Any],
) -> None:
    one, other = pair
    header = await start(one, tags=("x",))
    async with Late(monkeypatch, one, "_remove_stale").doing(one, change_of(header, AT, **away)):
        await other.apply(change_of(header, AT + EARLIER, **back))
    assert await listed(other, **OWNED, **listing) == ["talk"]


async def test_an_older_copy_that_is_saved_over_a_session_stays_in_the_lists(
    pair: tuple[RedisProvider, RedisProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    header = await start(one, tags=("x",))
    copy = await other.load_session("talk")
    assert copy is not None
    untag = change_of(header, AT + timedelta(seconds=9), metadata={"tags": []})
    async with Late(monkeypatch, one, "_remove_stale").doing(one, untag):
        await other.save_session(copy)
    assert await listed(other, **OWNED, tags=("x",)) == ["talk"]


async def test_a_session_that_is_saved_anew_after_its_delete_stays_listed_and_counted(
    pair: tuple[RedisProvider, RedisProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    header = await start(one, tags=("x",))
    copy = await other.load_session("talk")
    assert copy is not None
    delete = change_of(header, AT, delete=True)
    async with Late(monkeypatch, one, "remove").doing(one, delete):
        await other.save_session(copy)
    assert await listed(other, **OWNED) == ["talk"]
    assert await listed(other, **OWNED, tags=("x",)) == ["talk"]
    assert (await other.count("default", utc_now())).sessions == 1


@pytest.mark.parametrize("shift", [EARLIER, timedelta(), -EARLIER], ids=["behind", "same", "ahead"])
async def test_a_share_that_was_refused_takes_back_nothing_of_another_share(
    pair: tuple[RedisProvider, RedisProvider], monkeypatch: pytest.MonkeyPatch, shift: timedelta
) -> None:
    one, other = pair
    header = await start(one)
    late = Late(monkeypatch, one, "undo")

    async def overtaken() -> None:
        await other.apply(change_of(header, AT, metadata={"title": "new"}))

    before_writes(monkeypatch, overtaken, of=one)
    refused = change_of(header, AT, expected_revision=header.revision, **share())
    async with late.doing(one, refused):
        await other.apply(change_of(header, AT + shift, **share(shift)))
    assert await listed(other, **SHARED) == ["talk"]


async def test_a_reader_who_is_slow_to_repair_takes_nothing_that_was_shared_meanwhile(
    pair: tuple[RedisProvider, RedisProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    header = await start(one)
    await one.apply(change_of(header, AT, **share()))
    with monkeypatch.context() as patch:
        die_after_writes(patch)
        await one.apply(change_of(header, AT, **REVOKE))
    entered, repaired = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        entered.set()
        await repaired.wait()

    before_writes(monkeypatch, waits)
    sharing = asyncio.create_task(other.apply(change_of(header, AT, **share(EARLIER))))
    await entered.wait()
    later = utc_now() + timedelta(minutes=2)
    await one.find(Query(namespace="default", at=later, **SHARED))
    await one._background.finish()  # noqa: SLF001 - what the reader set going
    repaired.set()
    await sharing
    assert await listed(other, **SHARED) == ["talk"]
