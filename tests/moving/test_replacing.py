"""What ``replace`` replaces stays whole until the session in its place is written whole."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent_cores.session.errors import ConflictError, InvalidInputError
from agent_cores.session.examples.custom_provider import CustomStorageProvider
from agent_cores.session.moving import walking
from agent_cores.session.moving.copying import compare_stores, copy_sessions
from agent_cores.session.moving.importing import DamagedExportError, import_sessions
from agent_cores.session.moving.placing import Placed, place
from agent_cores.session.moving.walking import Part, first_parts, later_parts
from agent_cores.session.storage.factory import StorageFactory
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.testing.wrapping import WrappingProvider
from tests.moving.sessions import NOW, everything, exported, long_session
from tests.stores_by_url import STORES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent_cores.session.models import Applied, Change
    from agent_cores.session.storage.base import StorageProvider

KINDS = ("memory", "seven", *STORES)
SHORT, LONG = 2, 9
"""Messages of a session of one part, and of several."""


@pytest.fixture(params=KINDS)
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StorageProvider]:
    store: StorageProvider
    if request.param == "memory":
        store = MemoryProvider()
    elif request.param == "seven":
        store = CustomStorageProvider()
    else:
        store = StorageFactory.create(STORES[request.param](tmp_path))
    await store.initialize()
    yield store
    await store.shutdown()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every session of more than two messages one of several parts."""
    monkeypatch.setattr(walking, "PART_MESSAGES", 2)


def older(messages: int = 3) -> Change:
    """Return the change that stores an older state of a session, with more context."""
    change = long_session("talk", messages, NOW)
    assert change.create is not None
    header = msgspec.structs.replace(change.create, title="older", access_revision=5)
    return msgspec.structs.replace(change, create=header, context_set={"k": b"12", "l": b"13"})


async def source_of(messages: int) -> MemoryProvider:
    """Return a store with a newer state of the session."""
    source = MemoryProvider()
    await source.apply(long_session("talk", messages, NOW))
    return source


async def bring(how: str, source: StorageProvider, target: StorageProvider) -> list[str]:
    """Import or copy with ``replace``; return the names of what the target refused."""
    if how == "copy":
        return (await copy_sessions(source, target, replace=True)).refused.names
    lines, _ = await exported(source)
    return (await import_sessions(target, io.BytesIO(lines), replace=True)).refused.names


class Refusing(WrappingProvider):
    """A store that refuses one message for good, or fails at every write after some."""

    def __init__(
        self, inner: StorageProvider, *, message_id: str | None = None, writes: int = 1_000
    ) -> None:
        super().__init__(inner)
        self._message_id = message_id
        self.writes = writes

    async def apply(self, change: Change) -> Applied:
        if any(message.id == self._message_id for message in change.append):
            raise InvalidInputError("message_id", "is longer than this store takes")
        self.writes -= 1
        if self.writes < 0:
            raise OSError("the disk is full")
        return await super().apply(change)


@pytest.mark.parametrize("how", ["import", "copy"])
@pytest.mark.parametrize("messages", [SHORT, LONG])
async def test_a_session_is_replaced_and_nothing_else_is_left(
    target: StorageProvider, messages: int, how: str
) -> None:
    source = await source_of(messages)
    await target.apply(older())
    assert await bring(how, source, target) == []
    assert await everything(target) == await everything(source)
    assert (await compare_stores(source, target)).is_equal


@pytest.mark.parametrize("how", ["import", "copy"])
@pytest.mark.parametrize(("messages", "refused"), [(SHORT, "m1"), (LONG, "m1"), (LONG, "m9")])
async def test_what_the_target_refuses_leaves_the_old_session_whole(
    target: StorageProvider, messages: int, refused: str, how: str
) -> None:
    source = await source_of(messages)
    await target.apply(older())
    before = await everything(target)
    assert await bring(how, source, Refusing(target, message_id=refused)) == ["default/talk"]
    assert await everything(target) == before


async def test_a_session_of_one_part_is_replaced_in_one_write(target: StorageProvider) -> None:
    source = await source_of(SHORT)
    await target.apply(older())
    before, after = await everything(target), await everything(source)
    for writes in range(5):
        failing = Refusing(target, writes=writes)
        try:
            await copy_sessions(source, failing, replace=True)
        except OSError:
            assert await everything(target) == before
        else:
            assert await everything(target) == after
            return
    pytest.fail("every copy failed")


async def test_a_store_that_fails_before_a_long_session_is_written_keeps_the_old_one() -> None:
    source = await source_of(LONG)
    for writes in range(5 + 1):  # a refused create, and the five parts beside the old one
        target = MemoryProvider()
        await target.apply(older())
        before = await everything(target)
        with pytest.raises(OSError, match="full"):
            await copy_sessions(source, Refusing(target, writes=writes), replace=True)
        assert before.items() <= (await everything(target)).items()
        await copy_sessions(source, target, replace=True)
        assert (await compare_stores(source, target)).is_equal


async def test_a_file_that_is_damaged_within_a_long_session_leaves_the_old_one_whole() -> None:
    lines, _ = await exported(await source_of(LONG))
    target = MemoryProvider()
    await target.apply(older())
    before = await everything(target)
    whole = lines.splitlines(keepends=True)
    for length in range(len(whole)):
        file = io.BytesIO(b"".join(whole[:length]))
        with pytest.raises(DamagedExportError):
            await import_sessions(target, file, replace=True)
        kept = before if length < len(whole) - 1 else await everything(await source_of(LONG))
        assert await everything(target) == kept


async def test_a_copy_that_others_remove_before_it_is_in_place_is_a_conflict() -> None:
    source, target = await source_of(LONG), MemoryProvider()
    await target.apply(older())
    before = await everything(target)
    change = long_session("talk", LONG, NOW)
    assert change.create is not None
    [first] = await first_parts(source, [change.create])
    assert isinstance(first, Part)

    async def later() -> AsyncIterator[Part]:
        async for part in later_parts(source, first):
            hidden = {name for _, name in await everything(target)} - {"talk"}
            for session_id in hidden:
                await target.delete_session(session_id)
            yield part

    with pytest.raises(ConflictError, match="at the same time; run it again"):
        await place(target, first, later(), replace=True)
    assert await everything(target) == before
    assert await place(target, first, later_parts(source, first), replace=True) is Placed.WRITTEN
