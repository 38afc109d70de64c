"""What waits for the lock of the SQLite file: how long, and how it is judged afterwards."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import apsw
import msgspec
import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import (
    SessionExpiredError,
    SessionNotFoundError,
    StaleHeaderError,
    StorageUnavailableError,
)
from agent_cores.session.models import Applied, Window
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from agent_cores.session.testing.samples import creation, new_header
from tests.sqlite_stores import NOON, all_of, append, create, opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from agent_cores.session.models import Change
    from agent_cores.session.storage.sqlite.batches import Waiting, Written
    from agent_cores.session.storage.sqlite.runs import Run

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
SHORT = 0.4
"""A timeout, in seconds."""
AT_MOST = SHORT + 4
"""What it may take on a machine that is busy with other things."""


@contextmanager
def locked(path: Path) -> Iterator[apsw.Connection]:
    """Hold the lock of the file, as another process that writes does."""
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        if other.in_transaction:
            other.execute("ROLLBACK")


class Late:
    """A clock that goes on when the lock is released."""

    def __init__(self, at: datetime) -> None:
        self.now = at

    def __call__(self) -> datetime:
        return self.now


def with_clock(change: Change, clock: Late, **guards: object) -> Change:
    return msgspec.structs.replace(change, clock=clock, **guards)


async def after_the_lock(
    provider: SQLiteProvider, clock: Late, seconds: float, *changes: Change
) -> list[Applied | BaseException]:
    """Apply changes while the file is locked, and release it once the clock has gone on."""
    with locked(provider.path) as other:
        applying = asyncio.create_task(all_of(provider, *changes))
        await asyncio.sleep(0.05)
        assert not applying.done()
        clock.now += seconds * SECOND
        other.execute("ROLLBACK")
        return await applying


@pytest.mark.parametrize("warm", [True, False])
async def test_an_append_that_waited_for_the_lock_past_the_end_is_refused(
    tmp_path: Path, warm: bool
) -> None:
    """``warm``: by a run, of a session that this process knows."""
    async with opened(tmp_path / "sessions.db") as provider:
        header = await create(provider, ttl_seconds=1.0)
        if warm:
            header = (await provider.apply(append(header, "first"))).header
        clock = Late(NOON)
        waiting = [with_clock(append(header, name), clock) for name in ("a", "b")]
        for answer in await after_the_lock(provider, clock, 1.0, *waiting):
            assert isinstance(answer, SessionExpiredError)
        snapshot = await provider.read("default", "talk", window=Window(limit=9))
        assert snapshot is not None
        assert snapshot.header.expires_at == NOON + SECOND
        assert [message.id for message in snapshot.messages or []] == ["first"] * warm


@pytest.mark.parametrize("warm", [True, False])
async def test_an_append_that_waited_past_the_end_of_its_grant_is_refused(
    tmp_path: Path, warm: bool
) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        header = await create(provider)
        if warm:
            header = (await provider.apply(append(header, "first"))).header
        clock = Late(NOON)
        bob = with_clock(append(header, "bob"), clock, valid_until=NOON + SECOND)
        ann = with_clock(append(header, "ann"), clock)
        refused, written = await after_the_lock(provider, clock, 1.0, bob, ann)
        assert isinstance(refused, StaleHeaderError)
        assert isinstance(written, Applied)


async def test_a_run_that_waited_in_time_is_written(tmp_path: Path) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        header = await create(provider, ttl_seconds=1.0)
        header = (await provider.apply(append(header, "first"))).header
        clock = Late(NOON)
        waiting = [with_clock(append(header, name), clock) for name in ("a", "b")]
        answers = await after_the_lock(provider, clock, 0.999, *waiting)
        assert [isinstance(answer, Applied) for answer in answers] == [True, True]


async def test_a_locked_file_holds_nobody_longer_than_the_timeout(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path, timeout=SHORT, max_queued=10_000) as provider:
        header = await create(provider)
        with locked(path):
            begun = time.monotonic()
            answers = await all_of(
                provider, *(append(header, f"m{number}") for number in range(3_000))
            )
            assert SHORT / 2 < time.monotonic() - begun < AT_MOST
        for answer in answers:
            assert isinstance(answer, StorageUnavailableError)
            assert not answer.outcome_unknown
        await provider.apply(append(header, "after"))
        snapshot = await provider.read("default", "talk", window=Window(limit=9))
        assert snapshot is not None
        assert [message.id for message in snapshot.messages or []] == ["after"]


async def test_many_callers_of_a_manager_are_answered_within_the_timeout(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = SessionManager(
        SQLiteProvider(path, timeout=SHORT), settings=SessionSettings(timeout=SHORT)
    )
    await manager.initialize()
    talk = await manager.create_session("ann")
    with locked(path):
        begun = time.monotonic()
        answers = await asyncio.gather(
            *(manager.add_message(talk, "ann", "user", "hi") for _ in range(1_500)),
            manager.create_session("ann"),
            manager.delete_session(talk, "ann"),
            manager.clean_expired_sessions(),
            return_exceptions=True,
        )
        assert time.monotonic() - begun < AT_MOST
        assert {type(answer) for answer in answers} == {StorageUnavailableError}
        assert await manager.get_session_messages(talk, "ann") == []
    await manager.add_message(talk, "ann", "user", "hi")
    assert len(await manager.get_session_messages(talk, "ann")) == 1
    await manager.shutdown()


async def test_shutdown_is_bounded_while_the_file_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    provider = SQLiteProvider(path, timeout=SHORT)
    await provider.initialize()
    header = await create(provider)
    await provider.apply(append(header, "m0"))
    with locked(path):
        appends = [append(header, f"m{number}") for number in range(1_200)]
        waiting = asyncio.create_task(all_of(provider, *appends[1:]))
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        await provider.shutdown()
        assert time.monotonic() - begun < AT_MOST
        answers = await waiting
        assert {type(answer) for answer in answers} == {StorageUnavailableError}
    async with opened(path) as again:
        assert (await again.apply(append(header, "m1"))).header.last_seq == 2


async def test_shutdown_does_not_wait_for_ever_for_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_cores.session.storage.sqlite.writer._GRACE", 0.1)
    provider = SQLiteProvider(tmp_path / "sessions.db", timeout=0.1)
    await provider.initialize()
    header = await create(provider)
    batches = provider._use().writer._batches  # noqa: SLF001 - to be as slow as a disk may be
    written = batches.write

    def write_slowly(batch: Sequence[Waiting], run: Run) -> Written:
        time.sleep(1.0)
        return written(batch, run)

    monkeypatch.setattr(batches, "write", write_slowly)
    waiting = asyncio.create_task(provider.apply(append(header, "m0")))
    await asyncio.sleep(0.05)
    with pytest.raises(StorageUnavailableError, match="did not close"):
        await provider.shutdown()
    assert not waiting.done()
    with pytest.raises(StorageUnavailableError, match="nothing was written"):
        await waiting


async def test_the_callers_of_one_batch_keep_their_own_time(tmp_path: Path) -> None:
    """One that came later is not refused because one that came before has given up."""
    path = tmp_path / "sessions.db"
    async with opened(path, timeout=1.0) as provider:
        header = await create(provider)
        header = (await provider.apply(append(header, "m0"))).header
        with locked(path) as other:
            early = [asyncio.create_task(provider.apply(append(header, f"e{n}"))) for n in "12"]
            await asyncio.sleep(0.6)
            late = [asyncio.create_task(provider.apply(append(header, f"l{n}"))) for n in "12"]
            done, _ = await asyncio.wait(early)
            assert {type(task.exception()) for task in done} == {StorageUnavailableError}
            other.execute("ROLLBACK")
            await asyncio.gather(*late)


async def test_a_session_that_ended_while_a_create_waited_is_replaced_only_if_it_may(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "sessions.db") as provider:
        await create(provider, ttl_seconds=1.0)
        clock = Late(NOON)
        anew = with_clock(creation(new_header(at=NOON, incarnation=2)), clock)
        [answer] = await after_the_lock(provider, clock, 1.0, anew)
        assert isinstance(answer, Applied)
        assert answer.replaced is not None


async def test_an_owner_who_was_told_of_the_end_sees_no_session_come_back(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = SessionManager(SQLiteProvider(path), settings=SessionSettings(cleanup_interval=0))
    await manager.initialize()
    talk = await manager.create_session("ann", ttl_hours=0.3 / 3600)
    await manager.add_message(talk, "ann", "user", "hi")
    with locked(path) as other:
        waiting = asyncio.create_task(manager.add_message(talk, "ann", "user", "late"))
        await asyncio.sleep(0.5)
        with pytest.raises((SessionExpiredError, SessionNotFoundError)):
            await manager.get_session(talk, "ann")
        other.execute("ROLLBACK")
        with pytest.raises((SessionExpiredError, SessionNotFoundError)):
            await waiting
    with pytest.raises((SessionExpiredError, SessionNotFoundError)):
        await manager.get_session(talk, "ann")
    await manager.shutdown()
