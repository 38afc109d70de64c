"""The SQLite file is moved, removed or replaced while it is open, as a whole or in part."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import apsw
import pytest

from agent_cores.session.errors import StorageUnavailableError, StoreFormatError
from agent_cores.session.models import Query, Window
from agent_cores.session.storage.sqlite import file as sqlite_file
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from tests.sqlite_stores import NOON, all_of, append, create, opened, python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio


def side(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def backup(path: Path, target: Path) -> None:
    """Make a backup as SQLite's own API does."""
    with (
        closing(apsw.Connection(str(target))) as to,
        closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as source,
        to.backup("main", source, "main") as copying,
    ):
        copying.step()


async def messages(provider: SQLiteProvider, session_id: str = "talk") -> list[str]:
    snapshot = await provider.read("default", session_id, window=Window(limit=1_000))
    assert snapshot is not None
    return [message.id for message in snapshot.messages or []]


async def stored(path: Path, session_id: str = "talk") -> list[str]:
    async with opened(path) as provider:
        return await messages(provider, session_id)


_KILLED = """
import asyncio, os, signal, sqlite3, sys
from pathlib import Path
from agent_cores.session.errors import SessionError
from agent_cores.session.storage.sqlite import file as sqlite_file
from tests.sqlite_stores import append, create, opened
path, unguarded, spoil = Path(sys.argv[1]), sys.argv[2] == "unguarded", sys.argv[3]
if unguarded:
    sqlite_file.descriptors_of = lambda _: set()
async def main():
    async with opened(path) as provider:
        header = await create(provider)
        for number in range(6):
            try:
                await provider.apply(append(header, f"m{number}"))
            except SessionError as error:
                print(f"refused: {error}", file=sys.stderr)
            else:
                print(f"m{number}", flush=True)
            exec(spoil)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def acknowledged_before_a_kill(path: Path, spoil: str, *, guarded: bool = True) -> list[str]:
    """Append six messages, with something done to the file after each; kill the process."""
    process = python(_KILLED, path, "guarded" if guarded else "unguarded", spoil)
    printed, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return printed.split()


SECOND_LIBRARY = (
    "sqlite3.connect(path).close()",
    """
look = sqlite3.connect(path)
look.execute("SELECT count(*) FROM messages").fetchall()
look.close()
""",
)
SIX = [f"m{number}" for number in range(6)]


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("spoil", SECOND_LIBRARY)
async def test_a_second_library_in_the_process_loses_nothing(
    tmp_path: Path, spoil: str, guarded: bool
) -> None:
    path = tmp_path / "sessions.db"
    assert acknowledged_before_a_kill(path, spoil, guarded=guarded) == SIX
    assert await stored(path) == SIX


async def test_a_second_library_removes_no_log_and_sees_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        header = await create(provider)
        before = side(path, "-wal").stat().st_ino
        for number in range(3):
            await provider.apply(append(header, f"m{number}"))
            with closing(sqlite3.connect(path)) as second:
                [(count,)] = second.execute("SELECT count(*) FROM messages").fetchall()
            assert count == number + 1
            assert await messages(provider) == SIX[: number + 1]
        assert side(path, "-wal").stat().st_ino == before
    assert not side(path, "-wal").exists()
    assert not side(path, "-shm").exists()


async def test_two_stores_of_one_file_close_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as first:
        header = await create(first)
        async with opened(path) as second:
            await second.apply(append(header, "m0"))
        sqlite3.connect(path).close()
        async with opened(path) as third:
            await third.apply(append(header, "m1"))
        sqlite3.connect(path).close()
        await first.apply(append(header, "m2"))
        assert side(path, "-wal").exists()
    assert not side(path, "-wal").exists()
    assert await stored(path) == ["m0", "m1", "m2"]


@pytest.mark.parametrize(
    "spoil",
    [
        "Path(f'{path}-wal').unlink(missing_ok=True)",
        "Path(f'{path}-shm').unlink(missing_ok=True)",
        "Path(f'{path}-wal').unlink(missing_ok=True); Path(f'{path}-shm').unlink(missing_ok=True)",
        "Path(f'{path}-wal').rename(f'{path}-wal.{number}')",
        "Path(f'{path}-wal').unlink(); Path(f'{path}-wal').touch()",
    ],
)
async def test_what_follows_the_loss_of_a_side_file_is_kept(tmp_path: Path, spoil: str) -> None:
    """Also what came before it, as long as the process goes on."""
    path = tmp_path / "sessions.db"
    last = f"if number < 5: {spoil}" if ";" not in spoil else f"if number < 5:\n {spoil}"
    assert acknowledged_before_a_kill(path, last) == SIX
    assert await stored(path) == SIX


def move(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def move_with_side_files(path: Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        side(path, suffix).rename(side(path.with_name("moved.db"), suffix))


def move_the_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def replace_the_folder(path: Path) -> None:
    move_the_folder(path)
    path.parent.mkdir()


def remove(path: Path) -> None:
    path.unlink()


GONE = [move, move_with_side_files, move_the_folder, replace_the_folder, remove]


@pytest.mark.parametrize("spoil", GONE)
async def test_a_file_that_is_gone_is_not_written_read_or_called_ready(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "store" / "sessions.db"
    async with opened(path) as provider:
        header = await create(provider)
        spoil(path)
        [lost, *_] = await all_of(provider, append(header, "m0"), append(header, "m1"))
        assert isinstance(lost, StorageUnavailableError)
        assert lost.outcome_unknown
        [known, *_] = await all_of(provider, append(header, "m2"))
        assert isinstance(known, StorageUnavailableError)
        assert not known.outcome_unknown
        for question in (
            provider.read("default", "talk"),
            provider.find(Query(namespace="default", at=NOON, owner_id="ann")),
            provider.count(None, NOON),
            provider.due(NOON, 10, 30),
            provider.store_time(),
        ):
            with pytest.raises(StorageUnavailableError, match=r"sessions\.db is no longer there"):
                await question
        assert not path.exists()


@pytest.mark.parametrize("spoil", [move, move_the_folder])
async def test_a_file_that_is_put_back_is_used_on_and_has_everything(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "store" / "sessions.db"
    async with opened(path) as provider:
        header = await create(provider)
        await provider.apply(append(header, "m0"))
        spoil(path)
        for _ in range(2):
            with pytest.raises(StorageUnavailableError):
                await messages(provider)
            with pytest.raises(StorageUnavailableError):
                await provider.apply(append(header, "m1"))
        if spoil is move:
            path.with_name("moved.db").rename(path)
        else:
            path.parent.with_name("moved").rename(path.parent)
        assert (await messages(provider))[0] == "m0"
        await provider.apply(append(header, "m1"))
        await provider.apply(append(header, "m2"))
        assert await messages(provider) == ["m0", "m1", "m2"]
    assert await stored(path) == ["m0", "m1", "m2"]


async def test_a_file_that_was_moved_away_alone_has_all_that_was_answered(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        header = await create(provider)
        await provider.apply(append(header, "m0"))
        move(path)
    assert await stored(path.with_name("moved.db")) == ["m0"]


async def test_a_backup_put_in_its_place_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        header = await create(provider)
        await provider.apply(append(header, "m0"))
        backup(path, tmp_path / "backup.db")
        await provider.apply(append(header, "m1"))
        path.rename(tmp_path / "before.db")
        (tmp_path / "backup.db").rename(path)
        await provider.apply(append(header, "m2"))
        assert await messages(provider) == ["m0", "m2"]
        await all_of(provider, append(header, "m3"), append(header, "m4"))
        assert await messages(provider) == ["m0", "m2", "m3", "m4"]
    assert await stored(path) == ["m0", "m2", "m3", "m4"]
    assert (await stored(tmp_path / "before.db"))[:2] == ["m0", "m1"]


async def test_what_is_answered_after_a_backup_was_put_in_place_outlives_a_kill(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sessions.db"
    spoil = f"""
if number == 1:
    from tests.test_sqlite_moved import backup
    backup(path, Path({str(tmp_path / "backup.db")!r}))
if number == 3:
    os.replace({str(tmp_path / "backup.db")!r}, path)
"""
    assert acknowledged_before_a_kill(path, spoil) == SIX
    assert await stored(path) == ["m0", "m1", "m4", "m5"]


async def test_a_read_shows_the_backup_that_was_put_in_place(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        header = await create(provider)
        await provider.apply(append(header, "m0"))
        backup(path, tmp_path / "backup.db")
        await provider.apply(append(header, "m1"))
        assert await messages(provider) == ["m0", "m1"]
        (tmp_path / "backup.db").replace(path)
        assert await messages(provider) == ["m0"]
        await provider.apply(append(header, "m2"))
    assert await stored(path) == ["m0", "m2"]


async def test_the_folder_of_another_store_in_its_place_is_gone_on_with(tmp_path: Path) -> None:
    path, other = tmp_path / "store" / "sessions.db", tmp_path / "other" / "sessions.db"
    async with opened(other) as provider:
        await create(provider)
    async with opened(path) as provider:
        header = await create(provider)
        await provider.apply(append(header, "m0"))
        move_the_folder(path)
        other.parent.rename(path.parent)
        await provider.apply(append(header, "m1"))
        assert await messages(provider) == ["m1"]
    assert await stored(path) == ["m1"]
    assert (await stored(tmp_path / "moved" / "sessions.db"))[0] == "m0"


def put_text(path: Path) -> None:
    path.write_text("This is a text, and longer than the header of a database." * 100)


def put_nothing(path: Path) -> None:
    path.touch()


def put_anothers(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("CREATE TABLE theirs (id TEXT)").fetchall()


@pytest.mark.parametrize("put", [put_text, put_nothing, put_anothers])
async def test_a_file_without_a_store_in_its_place_is_left_alone(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        header = await create(provider)
        await provider.apply(append(header, "m0"))
        move(path)
        put(path)
        content = path.read_bytes()
        for _ in range(2):
            with pytest.raises((StorageUnavailableError, StoreFormatError), match=r"sessions\.db"):
                await provider.apply(append(header, "m1"))
            with pytest.raises((StorageUnavailableError, StoreFormatError), match=r"sessions\.db"):
                await messages(provider)
        assert path.read_bytes() == content
        path.with_name("moved.db").replace(path)
        await provider.apply(append(header, "m2"))
        assert (await messages(provider))[0] == "m0"


async def test_a_log_to_which_another_library_wrote_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "descriptors_of", lambda _: set())  # as without these locks
    path = tmp_path / "sessions.db"
    provider = SQLiteProvider(path)
    await provider.initialize()
    header = await create(provider)
    await provider.apply(append(header, "m0"))
    with closing(sqlite3.connect(path)) as second:
        second.execute("SELECT count(*) FROM messages").fetchall()
    assert not side(path, "-wal").exists()
    with closing(sqlite3.connect(path)) as second:
        second.execute("UPDATE sessions SET title = x'22746865697273223a' WHERE 1")
        second.commit()
        with pytest.raises(StorageUnavailableError, match="others use the file"):
            await provider.apply(append(header, "m1"))
        with pytest.raises(StorageUnavailableError, match="others use the file"):
            await messages(provider)
        assert second.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        await provider.shutdown()
        assert second.execute("SELECT id FROM messages").fetchall() == [("m0",)]


@pytest.mark.parametrize("written_first", [True, False])
async def test_a_backup_copied_over_the_file_is_gone_on_with(
    tmp_path: Path, written_first: bool
) -> None:
    path, copy = tmp_path / "sessions.db", tmp_path / "copy.db"
    async with opened(path) as provider:
        header = await create(provider)
        await provider.apply(append(header, "m0"))
    copy.write_bytes(path.read_bytes())
    async with opened(path) as provider:
        await provider.apply(append(header, *(f"more-{number}" for number in range(500))))
    async with opened(path) as provider:
        assert len(await messages(provider)) == 501
        await provider.apply(append(header, "m1"))
        path.write_bytes(copy.read_bytes())
        if written_first:
            await provider.apply(append(header, "m2"))
        assert await messages(provider) == (["m0", "m2"] if written_first else ["m0"])
        await provider.apply(append(header, "m3"))
    assert await stored(path) == (["m0", "m2", "m3"] if written_first else ["m0", "m3"])


async def test_a_checkpoint_by_anyone_or_another_time_of_change_is_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as first, opened(path) as second:
        header = await create(first)
        generation = first._use().writer._file.generation  # noqa: SLF001 - to see that none was opened
        for number in range(6):
            await (first, second)[number % 2].apply(append(header, f"m{number}"))
            if number % 3 == 0:
                path.touch()
            elif number % 3 == 1:
                with closing(apsw.Connection(str(path))) as another:
                    another.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            else:
                with closing(apsw.Connection(str(path))) as another:
                    another.execute("VACUUM").fetchall()
                    another.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            assert await messages(first) == SIX[: number + 1]
        assert first._use().writer._file.generation == generation  # noqa: SLF001 - as above
    assert await stored(path) == SIX


async def test_every_process_notices_that_a_backup_was_put_in_place(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as first, opened(path) as second:
        header = await create(first)
        await first.apply(append(header, "m0"))
        await second.apply(append(header, "m1"))
        backup(path, tmp_path / "backup.db")
        (tmp_path / "backup.db").replace(path)
        await first.apply(append(header, "m2"))
        await second.apply(append(header, "m3"))
        await first.apply(append(header, "m4"))
        assert await messages(second) == ["m0", "m1", "m2", "m3", "m4"]
    assert await stored(path) == ["m0", "m1", "m2", "m3", "m4"]


async def test_a_link_that_leads_elsewhere_is_followed(tmp_path: Path) -> None:
    real, other, path = (tmp_path / name for name in ("real.db", "other.db", "sessions.db"))
    async with opened(other) as provider:
        await create(provider)
    path.symlink_to(real)
    async with opened(path) as provider:
        header = await create(provider)
        await provider.apply(append(header, "m0"))
        path.unlink()
        path.symlink_to(other)
        await provider.apply(append(header, "m1"))
        assert await messages(provider) == ["m1"]
    assert await stored(other) == ["m1"]
    assert (await stored(real))[0] == "m0"
