"""A copy holds what the original holds, from every store to every other one."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw
import msgspec
import pytest

from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models import Hold
from agent_cores.session.moving import copying, walking
from agent_cores.session.moving.copying import compare_stores, copy_sessions
from agent_cores.session.storage.factory import StorageFactory
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from agent_cores.session.testing.samples import change_of, creation, new_header, new_message
from agent_cores.session.testing.wrapping import SpoiltProvider, WrappingProvider
from tests.moving.sessions import NOW, awkward_sessions, everything, long_session
from tests.stores_by_url import STORES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent_cores.session.models import Applied, Change
    from agent_cores.session.storage.base import StorageProvider


async def opened(url: str) -> StorageProvider:
    store = StorageFactory.create(url)
    await store.initialize()
    return store


@pytest.fixture
async def source(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StorageProvider]:
    (tmp_path / "source").mkdir()
    store = await opened(STORES[request.param](tmp_path / "source"))
    yield store
    await store.shutdown()


@pytest.mark.parametrize("source", STORES, indirect=True)
async def test_every_store_is_copied_to_every_other(
    source: StorageProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "PART_MESSAGES", 4)
    for change in awkward_sessions():
        await source.apply(change)
    held = await everything(source)
    assert len(held) == len(awkward_sessions())
    for name, make in STORES.items():
        (tmp_path / name).mkdir()
        target = await opened(make(tmp_path / name))
        for sessions, present in ((len(held), 0), (0, len(held))):
            tally = await copy_sessions(source, target)
            assert (tally.sessions, tally.present, tally.is_complete) == (sessions, present, True)
        assert await everything(target) == held
        compared = await compare_stores(source, target)
        assert (compared.sessions, compared.is_equal) == (len(held), True)
        await target.shutdown()


@pytest.mark.parametrize("length", [1, 9])
async def test_a_difference_anywhere_in_a_session_is_found_by_comparing(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "PART_MESSAGES", 4)
    source = MemoryProvider()
    whole = long_session("talk", length, NOW)
    await source.apply(whole)
    header, last = whole.create, whole.append[-1]
    assert header is not None
    for different in (
        {"append": whole.append[:-1]},
        {"append": (*whole.append[:-1], msgspec.structs.replace(last, body=last.body + b" "))},
        {"append": (*whole.append[:-1], msgspec.structs.replace(last, seq=last.seq + 1))},
        {"append": (*whole.append[:-1], msgspec.structs.replace(last, id="other"))},
        {"context_set": {"k": b"12"}},
        {"create": msgspec.structs.replace(header, title="other")},
        {"create": msgspec.structs.replace(header, access_revision=5)},
    ):
        target = MemoryProvider()
        await target.apply(msgspec.structs.replace(whole, **different))
        compared = await compare_stores(source, target)
        assert compared.differing.names == ["default/talk"]
        assert not compared.is_equal
    assert not (await compare_stores(source, MemoryProvider())).is_equal


class Counted(WrappingProvider):
    """Counts how many sessions are read and not yet written, and fails after some writes."""

    def __init__(self, inner: StorageProvider, *, writes: int | None = None) -> None:
        super().__init__(inner)
        self.writes = writes

    async def apply(self, change: Change) -> Applied:
        if self.writes is not None:
            self.writes -= 1
            if self.writes < 0:
                raise OSError
        return await super().apply(change)


async def test_a_copy_that_is_interrupted_ends_right_when_it_is_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(walking, "PART_MESSAGES", 4)
    source = MemoryProvider()
    for change in awkward_sessions():
        await source.apply(change)
    for writes in range(40):
        target = MemoryProvider()
        try:
            await copy_sessions(source, Counted(target, writes=writes))
        except OSError:
            tally = await copy_sessions(source, target)
            assert tally.is_complete
        else:
            assert writes > len(awkward_sessions())
            return
        assert await everything(target) == await everything(source)
    pytest.fail("every copy failed")


async def test_no_more_than_a_bounded_number_of_sessions_is_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copying, "_TOGETHER", 3)
    monkeypatch.setattr(copying, "_CHUNKS", 2)
    in_memory: list[int] = [0, 0]

    class Source(WrappingProvider):
        async def read(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - those of read
            in_memory[0] += 1
            in_memory[1] = max(in_memory)
            await asyncio.sleep(0)
            return await self.inner.read(*args, **kwargs)

    class Target(WrappingProvider):
        async def apply(self, change: Change) -> Applied:
            await asyncio.sleep(0)
            in_memory[0] -= 1
            return await self.inner.apply(change)

    source = MemoryProvider()
    for number in range(50):
        await source.apply(creation(new_header(f"talk {number}", at=NOW)))
    await copy_sessions(Source(source), Target(MemoryProvider()))
    assert in_memory == [0, 6]


async def test_what_differs_in_the_target_is_named_and_stays() -> None:
    source, target = MemoryProvider(), MemoryProvider()
    header = new_header("talk", at=NOW)
    for store in (source, target):
        await store.apply(creation(header))
    await target.apply(change_of(header, NOW, append=(new_message("m", at=NOW),)))
    await target.apply(creation(new_header("its own", at=NOW)))
    before = await everything(target)
    tally = await copy_sessions(source, target)
    assert tally.different.names == ["default/talk"]
    assert (await compare_stores(source, target)).differing.names == ["default/talk"]
    assert await everything(target) == before
    await copy_sessions(source, target, replace=True)
    assert (await compare_stores(source, target)).is_equal
    assert ("default", "its own") in await everything(target)


async def test_what_cannot_be_read_is_named_and_keeps_no_other_back() -> None:
    source, target = SpoiltProvider(MemoryProvider()), MemoryProvider()
    for session_id in ("bad", "good"):
        await source.apply(creation(new_header(session_id, at=NOW)))
    await source.spoil("default", "bad")
    tally = await copy_sessions(source, target)
    assert tally.unreadable.names == ["default/bad"]
    assert [session_id for _, session_id in await everything(target)] == ["good"]

    class Listed(SpoiltProvider):
        find = WrappingProvider.find

    spoilt = Listed(source.inner)
    await spoilt.spoil("default", "bad")
    with pytest.raises(CorruptRecordError):
        await spoilt.read("default", "bad")
    assert (await copy_sessions(spoilt, target)).unreadable.names == ["default/bad"]
    assert (await compare_stores(spoilt, target)).differing.names == ["default/bad"]


async def test_a_header_that_is_damaged_in_a_file_keeps_no_other_back(tmp_path: Path) -> None:
    source, target = SQLiteProvider(tmp_path / "sessions.db"), MemoryProvider()
    await source.initialize()
    headers = [new_header(session_id, at=NOW) for session_id in ("bad", "good")]
    for header in headers:
        await source.apply(creation(header))
    with closing(apsw.Connection(str(source.path))) as connection:
        connection.execute("UPDATE sessions SET grants = x'7b' WHERE session_id = 'bad'")
    bad, good = await walking.first_parts(source, headers)
    assert isinstance(bad, CorruptRecordError)
    assert isinstance(good, walking.Part)
    assert (await copy_sessions(source, target)).unreadable.names == ["default/bad"]
    assert [session_id for _, session_id in await everything(target)] == ["good"]
    await source.shutdown()


async def test_only_one_namespace_is_copied_if_that_is_wanted() -> None:
    source, target = MemoryProvider(), MemoryProvider()
    for namespace in ("default", "team"):
        header = new_header("talk", at=NOW, namespace=namespace, hold=Hold.FROZEN)
        await source.apply(creation(header))
    await copy_sessions(source, target, namespace="team")
    assert list(await everything(target)) == [("team", "talk")]
    assert (await compare_stores(source, target, namespace="team")).is_equal
    assert not (await compare_stores(source, target)).is_equal


async def test_shares_divide_the_sessions_and_leave_none_out() -> None:
    source, target = MemoryProvider(), MemoryProvider()
    for number in range(40):
        namespace = "default" if number % 2 else "team"
        await source.apply(creation(new_header(f"talk {number}", at=NOW, namespace=namespace)))
    copied = []
    for number in (1, 2, 3):
        share = walking.Share(number, 3)
        tally = await copy_sessions(source, target, share=share)
        compared = await compare_stores(source, target, share=share)
        assert compared.is_equal
        assert compared.sessions == tally.sessions
        copied.append(tally.sessions)
    assert sum(copied) == 40
    assert min(copied) > 0
    assert await everything(target) == await everything(source)
