"""Brief reads of many callers share a thread, and each gets what it asked for."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from agent_cores.session.errors import CorruptRecordError, StorageUnavailableError
from agent_cores.session.models import Snapshot, Window
from agent_cores.session.threads import Workers
from tests.sqlite_stores import append, create, opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent_cores.session.storage.sqlite.provider import SQLiteProvider

pytestmark = pytest.mark.anyio

NAMES = [f"talk-{number}" for number in range(40)]


async def fill(provider: SQLiteProvider) -> None:
    for name in NAMES:
        await provider.apply(append(await create(provider, name), name))


async def read_all(provider: SQLiteProvider, limit: int = 5) -> list[Any]:
    reads = (provider.read("default", name, window=Window(limit=limit)) for name in NAMES)
    return await asyncio.gather(*reads, return_exceptions=True)


def found_in(results: list[Any]) -> list[tuple[str, list[str]]]:
    snapshots = [each for each in results if isinstance(each, Snapshot)]
    return [(each.header.session_id, [m.id for m in each.messages or ()]) for each in snapshots]


async def test_concurrent_reads_take_few_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = 0
    run = Workers.run

    async def counted(self: Workers, job: Callable[[], Any]) -> Any:  # noqa: ANN401 - the job's own
        nonlocal jobs
        jobs += 1
        return await run(self, job)

    async with opened(tmp_path / "sessions.db") as provider:
        await fill(provider)
        monkeypatch.setattr(Workers, "run", counted)
        assert found_in(await read_all(provider)) == [(name, [name]) for name in NAMES]
        assert jobs < 10
        jobs = 0
        assert len(found_in(await read_all(provider, limit=1_000))) == len(NAMES)
        assert jobs == len(NAMES)


async def test_a_session_that_is_missing_or_unreadable_fails_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        await fill(provider)
        with closing(apsw.Connection(str(path))) as connection:
            connection.execute("DELETE FROM sessions WHERE session_id = 'talk-20'")
            connection.execute("UPDATE sessions SET format = 99 WHERE session_id = 'talk-30'")
        results = await read_all(provider)
    assert results[20] is None
    assert isinstance(results[30], CorruptRecordError)
    left = [name for name in NAMES if name not in {"talk-20", "talk-30"}]
    assert found_in(results) == [(name, [name]) for name in left]


async def test_a_cancelled_read_takes_no_other_with_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        await fill(provider)
        reads = [asyncio.create_task(provider.read("default", name)) for name in NAMES]
        await asyncio.sleep(0)
        for read in reads[::2]:
            read.cancel()
        results = await asyncio.gather(*reads, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in results[::2])
    assert [name for name, _ in found_in(results[1::2])] == NAMES[1::2]


async def test_a_shutdown_finishes_the_reads_that_were_accepted(tmp_path: Path) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        await fill(provider)
        reads = asyncio.create_task(read_all(provider))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(found_in(await reads)) == len(NAMES)
    with pytest.raises(StorageUnavailableError):
        await provider.read("default", NAMES[0])
