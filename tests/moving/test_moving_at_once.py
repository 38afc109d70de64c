"""Two imports or copies of the same sessions at the same time: one ends, and nothing is mixed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import ConflictError
from agent_cores.session.moving import walking
from agent_cores.session.moving.placing import Placed, place
from agent_cores.session.moving.walking import Part, first_parts, later_parts
from agent_cores.session.storage.factory import StorageFactory
from agent_cores.session.storage.memory.provider import MemoryProvider
from tests.moving.sessions import NOW, everything, long_session
from tests.stores_by_url import STORES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent_cores.session.storage.base import StorageProvider


@pytest.fixture(params=STORES)
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StorageProvider]:
    store = StorageFactory.create(STORES[request.param](tmp_path))
    await store.initialize()
    yield store
    await store.shutdown()


@pytest.fixture
async def parts(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """Return the parts of a session, of which each has two messages."""
    monkeypatch.setattr(walking, "PART_MESSAGES", 2)
    source = MemoryProvider()
    change = long_session("talk", 8, NOW)
    assert change.create is not None
    await source.apply(change)
    [first] = await first_parts(source, [change.create])
    assert isinstance(first, Part)
    return [first, *[part async for part in later_parts(source, first)]]


@pytest.mark.parametrize("before", [1, 2, 3])
async def test_a_build_that_was_begun_anew_by_others_is_theirs_and_whole(
    target: StorageProvider, parts: list[Part], before: int
) -> None:
    first, *others = parts
    begun, goes_on = asyncio.Event(), asyncio.Event()
    second: asyncio.Task[Placed] | None = None

    async def later_of_second() -> AsyncIterator[Part]:
        begun.set()
        await goes_on.wait()
        for part in others:
            yield part

    async def later_of_first() -> AsyncIterator[Part]:
        nonlocal second
        for number, part in enumerate(others, 1):
            if number == before:
                second = asyncio.create_task(place(target, first, later_of_second()))
                await begun.wait()
            yield part

    first_failed = False
    try:
        await place(target, first, later_of_first())
    except ConflictError:
        first_failed = True
    goes_on.set()
    assert second is not None
    [outcome] = await asyncio.gather(second, return_exceptions=True)
    assert first_failed is (outcome is Placed.WRITTEN)
    whole = MemoryProvider()
    await whole.apply(long_session("talk", 8, NOW))
    assert await everything(target) == await everything(whole)
    assert await place(target, first, later_of_second()) is Placed.PRESENT


async def test_a_session_that_others_removed_while_it_was_built_is_no_missing_session(
    target: StorageProvider, parts: list[Part]
) -> None:
    first, *others = parts

    async def later() -> AsyncIterator[Part]:
        yield others[0]
        await target.delete_session("talk")
        yield others[1]

    with pytest.raises(ConflictError, match="at the same time; run it again"):
        await place(target, first, later())
