"""A removal that comes late takes nothing that was added anew, whatever the clocks say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest

from agent_cores.session.errors import SessionError
from agent_cores.session.models import (
    AccessEffect,
    AccessRole,
    Change,
    Grant,
    Query,
)
from agent_cores.session.models.change import Applied
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.redis.changes import Changes
from agent_cores.session.storage.redis.indexes import Entering, Indexes
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing.samples import change_of
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


class Late:
    """Holds up what one provider does after its write, until it is let go."""

    def __init__(self, patch: pytest.MonkeyPatch, provider: RedisProvider, *names: str) -> None:
        self._go = asyncio.Event()
        self.reached = asyncio.Event()
        for name in names:
            patch.setattr(Indexes, name, self._held_up(getattr(Indexes, name), provider))

    def _held_up(self, method: Any, provider: RedisProvider) -> Any:  # noqa: ANN401 - any method
        async def late(indexes: Indexes, *arguments: Any) -> Any:  # noqa: ANN401 - as above
            if indexes is provider._indexes:  # noqa: SLF001 - whose it is
                self.reached.set()
                await self._go.wait()
            return await method(indexes, *arguments)

        return late

    @asynccontextmanager
    async def doing(self, provider: RedisProvider, change: Change) -> AsyncIterator[None]:
        """Have the change written, do what is inside, then let the rest of it happen."""
        task = asyncio.create_task(provider.apply(change))
        await self.reached.wait()
        yield
        self._go.set()
        with suppress(SessionError):
            await task


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
    async with Late(monkeypatch, one, "leave").doing(one, revoke):
        await other.apply(change_of(header, AT + shift, **share(shift)))
    assert await listed(other, **SHARED) == ["talk"]


async def test_a_share_that_waited_between_its_entry_and_its_write_stays_listed(
    pair: tuple[RedisProvider, RedisProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    header = await start(one)
    await one.apply(change_of(header, AT, **share()))
    entered, written = asyncio.Event(), asyncio.Event()
    write = Changes.write

    async def waits(self: Changes, change: Change, applied: Applied) -> Applied | None:
        if self is other._changes:  # noqa: SLF001 - whose it is
            entered.set()
            await written.wait()
        return await write(self, change, applied)

    late = Late(monkeypatch, one, "leave")
    monkeypatch.setattr(Changes, "write", waits)
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
    async with Late(monkeypatch, one, "leave").doing(one, change_of(header, AT, **away)):
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
    async with Late(monkeypatch, one, "leave").doing(one, untag):
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
    async with Late(monkeypatch, one, "leave_all").doing(one, delete):
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
    write = Changes.write
    late = Late(monkeypatch, one, "withdraw")

    async def overtaken(self: Changes, change: Change, applied: Applied) -> Applied | None:
        if self is one._changes:  # noqa: SLF001 - whose it is
            await other.apply(change_of(header, AT, metadata={"title": "new"}))
        return await write(self, change, applied)

    monkeypatch.setattr(Changes, "write", overtaken)
    refused = change_of(header, AT, expected_revision=header.revision, **share())
    async with late.doing(one, refused):
        await other.apply(change_of(header, AT + shift, **share(shift)))
    assert await listed(other, **SHARED) == ["talk"]


async def test_a_reader_who_is_slow_to_mend_takes_nothing_that_was_shared_meanwhile(
    pair: tuple[RedisProvider, RedisProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    header = await start(one)
    await one.apply(change_of(header, AT, **share()))
    with monkeypatch.context() as patch:
        patch.setattr(Indexes, "leave", _dies)
        await one.apply(change_of(header, AT, **REVOKE))
    entered, mended = asyncio.Event(), asyncio.Event()
    write = Changes.write

    async def waits(self: Changes, change: Change, applied: Applied) -> Applied | None:
        entered.set()
        await mended.wait()
        return await write(self, change, applied)

    monkeypatch.setattr(Changes, "write", waits)
    sharing = asyncio.create_task(other.apply(change_of(header, AT, **share(EARLIER))))
    await entered.wait()
    later = utc_now() + timedelta(minutes=2)
    await one.find(Query(namespace="default", at=later, **SHARED))
    await one._background.finish()  # noqa: SLF001 - what the reader set going
    mended.set()
    await sharing
    assert await listed(other, **SHARED) == ["talk"]


async def _dies(_: Indexes, entering: Entering) -> None:
    """Act as if the process had ended after the write."""
