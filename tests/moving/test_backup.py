"""Backups: of SQLite by this program, of other stores by their own commands."""

# ruff: noqa: SLF001 - tests look behind the command

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import apsw
import pytest

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.errors import (
    ConfigurationError,
    SessionError,
    StorageUnavailableError,
    StoreFormatError,
    UnsupportedError,
)
from agent_cores.session.files import claimed, publish
from agent_cores.session.moving.copying import compare_stores
from agent_cores.session.storage.factory import StorageFactory
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.storage.sqlite import backup
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from agent_cores.session.testing.samples import creation, new_header, new_message
from tests.moving.sessions import NOW, awkward_sessions, everything
from tests.servers import mariadb, postgres
from tests.servers.programs import program
from tests.servers.redis import (
    RedisServer,
    empty_store,
    redis_program,
    shared_valkey,
    valkey_program,
)
from tests.service.processes import SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent_cores.session.storage.base import StorageProvider


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteProvider]:
    store = SQLiteProvider(tmp_path / "sessions.db")
    await store.initialize()
    for change in awkward_sessions():
        await store.apply(change)
    yield store
    await store.shutdown()


def files(folder: Path, beginning: str) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{beginning}*"))


async def held(path: Path) -> dict[tuple[str, str], Any]:
    store = SQLiteProvider(path)
    await store.initialize()
    found = await everything(store)
    await store.shutdown()
    return found


async def test_a_backup_is_a_store_of_its_own(store: SQLiteProvider, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    done = await store.back_up(file)
    assert (done.sessions, done.messages, done.bytes) == (3, 11, file.stat().st_size)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert files(tmp_path, "backup") == ["backup.db"]
    before = await everything(store)
    await store.apply(creation(new_header("later", at=NOW)))
    assert await held(file) == before


async def test_a_backup_is_of_one_instant_while_the_store_is_written_to(
    store: SQLiteProvider, tmp_path: Path
) -> None:
    written, begun, done = 0, asyncio.Event(), asyncio.Event()

    async def write() -> None:
        nonlocal written
        while not done.is_set():
            header = new_header(f"talk {written}", at=NOW)
            await store.apply(creation(header, append=(new_message("m", "x" * 9_000, at=NOW),)))
            written += 1
            if written == 20:
                begun.set()

    writing = asyncio.create_task(write())
    await begun.wait()
    made = await SQLiteProvider(store.path).back_up(tmp_path / "backup.db")
    done.set()
    await writing
    assert 20 <= made.sessions - 3 <= written
    assert made.messages - made.sessions == 11 - 3
    assert len(await held(tmp_path / "backup.db")) == made.sessions


async def test_a_backup_replaces_no_file(store: SQLiteProvider, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    file.write_text("mine")
    with pytest.raises(ConfigurationError, match="exists; name a new file"):
        await store.back_up(file)
    with pytest.raises(ConfigurationError, match="exists; name a new file"):
        await store.back_up(store.path)
    assert file.read_text() == "mine"
    with pytest.raises(StorageUnavailableError, match="cannot be written"):
        await store.back_up(tmp_path / "no folder" / "backup.db")


async def test_a_damaged_store_makes_no_backup(store: SQLiteProvider, tmp_path: Path) -> None:
    await store.shutdown()
    with contextlib.closing(sqlite3.connect(store.path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        found = "SELECT rootpage FROM sqlite_schema WHERE type = 'index'"
        page = connection.execute(found).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with store.path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\0" * size)
    with pytest.raises(StoreFormatError, match="damaged"):
        await store.back_up(tmp_path / "backup.db")
    assert files(tmp_path, "backup") == []


async def test_what_a_killed_backup_left_behind_is_replaced(
    store: SQLiteProvider, tmp_path: Path
) -> None:
    for ending in ("", "-journal", "-wal"):
        (tmp_path / f"backup.db.unfinished{ending}").write_bytes(b"left behind" * 999)
    (tmp_path / "backup.db.unfinished.lock").touch()
    assert (await store.back_up(tmp_path / "backup.db")).sessions == 3
    assert files(tmp_path, "backup") == ["backup.db"]


async def test_a_second_backup_to_the_same_file_is_refused_and_leaves_the_first_alone(
    store: SQLiteProvider, tmp_path: Path
) -> None:
    target, unfinished = tmp_path / "backup.db", tmp_path / "backup.db.unfinished"
    unfinished.write_bytes(b"of the first")
    with (
        claimed(target, ".unfinished.lock"),
        pytest.raises(ConfigurationError, match="another process is writing"),
    ):
        await store.back_up(target)
    assert unfinished.read_bytes() == b"of the first"


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
async def test_a_file_system_without_hard_links_takes_a_backup(
    store: SQLiteProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    file = tmp_path / "backup.db"
    assert (await store.back_up(file)).sessions == 3
    assert files(tmp_path, "backup") == ["backup.db"]
    (tmp_path / "other").touch()
    with pytest.raises(FileExistsError):
        publish(tmp_path / "other", file)
    assert (tmp_path / "other").exists()


async def test_a_backup_that_is_stopped_leaves_no_file(
    store: SQLiteProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_PAGES", 1)
    copying, going_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    counts = backup._counts

    def counted(connection: apsw.Connection, prefix: str) -> tuple[int, int]:
        loop.call_soon_threadsafe(copying.set)
        assert going_on.wait(20)
        return counts(connection, prefix)

    monkeypatch.setattr(backup, "_counts", counted)
    task = asyncio.create_task(store.back_up(tmp_path / "backup.db"))
    await copying.wait()
    task.cancel()
    await asyncio.sleep(0)
    going_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(tmp_path, "backup") == []


async def test_what_a_backup_cannot_write_is_its_own_file(
    store: SQLiteProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, target = apsw.FullError("database or disk is full"), tmp_path / "backup.db"
    unwritable = apsw.IOError("not an error")
    vars(unwritable)["extendedresult"] = apsw.SQLITE_IOERR_WRITE  # as apsw sets it
    for error, expected in (
        (full, f"the disk of {target} is full"),
        (unwritable, f"{target} cannot be written"),
    ):
        monkeypatch.setattr(backup, "_counts", raising(error))
        with pytest.raises(SessionError, match=f"^{re.escape(expected)}$"):
            await store.back_up(target)
        assert files(tmp_path, "backup") == []


def raising(error: Exception) -> Callable[..., tuple[int, int]]:
    def raises(*_: object) -> tuple[int, int]:
        raise error

    return raises


async def test_what_is_no_store_makes_no_backup(tmp_path: Path) -> None:
    missing = SQLiteProvider(tmp_path / "missing.db")
    with pytest.raises(StorageUnavailableError, match="does not exist"):
        await missing.back_up(tmp_path / "backup.db")
    assert not (tmp_path / "missing.db").exists()
    (tmp_path / "other.db").write_bytes(b"")
    with pytest.raises(StoreFormatError):
        await SQLiteProvider(tmp_path / "other.db").back_up(tmp_path / "backup.db")


async def test_a_store_in_memory_has_no_backup(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="its own tools"):
        await MemoryProvider().back_up(tmp_path / "backup.db")


def run(*arguments: str, text: bytes | None = None) -> None:
    done = subprocess.run(arguments, input=text, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


async def filled(url: str) -> StorageProvider:
    store = StorageFactory.create(url)
    await store.initialize()
    for change in awkward_sessions():
        await store.apply(change)
    return store


def arguments(store: StorageProvider, **values: str) -> list[str]:
    """Return the command that the store names, with its words in capitals replaced."""
    assert store.backup_command is not None
    text = store.backup_command.partition(" (")[0]
    for name, value in values.items():
        text = text.replace(name, value)
    return text.split()


async def restored(source: StorageProvider, url: str) -> None:
    """Check that the restored store holds what the source held, and close both."""
    target = StorageFactory.create(url)
    await target.initialize()
    compared = await compare_stores(source, target)
    assert (compared.sessions, compared.is_equal) == (3, True)
    await target.shutdown()
    await source.shutdown()


async def test_postgresql_is_backed_up_by_its_own_command(tmp_path: Path) -> None:
    server = postgres.shared_server()
    url = postgres.empty_store(f"{server.url()}?table_prefix=")
    store = await filled(url)
    file, schema = tmp_path / "dump", re.findall(r"database_schema=(\w+)", url)[0]
    command = arguments(store, FILE=str(file), URL=server.url())
    command[0] = postgres._program(command[0])
    run(*command, f"--schema={schema}")
    before = await everything(store)
    await store.shutdown()
    for _ in ("over the tables that there are", "where there are none"):
        restore = ("--clean", "--if-exists", f"--dbname={server.url()}", str(file))
        run(postgres._program("pg_restore"), *restore)
        store = StorageFactory.create(url)
        await store.initialize()
        assert await everything(store) == before
        await store.shutdown()
        server.sql(f"DROP SCHEMA {schema} CASCADE")


async def test_mariadb_is_backed_up_by_its_own_command(tmp_path: Path) -> None:
    url, other = mariadb.empty_store(), mariadb.empty_store()
    store = await filled(url)
    file = tmp_path / "dump"
    at, to = urlsplit(url), urlsplit(other)
    command = arguments(store, FILE=str(file), DATABASE=at.path[1:])
    login = [f"--host={at.hostname}", f"--port={at.port}", f"--user={at.username}"]
    run(program(command[0], package="mariadb-client"), *login, *command[1:])
    client = program("mariadb", package="mariadb-client")
    run(client, *login, to.path[1:], text=file.read_bytes())
    await restored(store, other)


async def test_valkey_is_backed_up_by_its_own_command(tmp_path: Path) -> None:
    url = empty_store(shared_valkey().url)
    store = await filled(url)
    file = tmp_path / "dump.rdb"
    command = arguments(store, URL=shared_valkey().url, FILE=str(file))
    run(program(command[0], package="redis-tools"), *command[1:])
    server = RedisServer()
    shutil.copy(file, server._folder / "dump.rdb")
    with server:
        query = urlsplit(url).query
        await restored(store, f"{server.url}?{query}")


@pytest.mark.parametrize("server_program", [redis_program, valkey_program])
def test_a_server_with_an_append_only_file_is_restored_as_the_page_says(
    tmp_path: Path, server_program: Callable[[], str]
) -> None:
    with RedisServer("--appendonly", "yes", program=server_program()) as server:
        server.command("SET", "kept", "1")
        file = tmp_path / "dump.rdb"
        run("redis-cli", "-u", server.url, "--rdb", str(file))
        server.command("SET", "later", "1")
        server.stop()
        shutil.copy(file, server._folder / "dump.rdb")
        server._arguments = ("--appendonly", "no")
        server.start()
        server.command("CONFIG", "SET", "appendonly", "yes")
        ends = time.monotonic() + SECONDS
        while _is_rewriting(server):
            assert time.monotonic() < ends, "the file is not rewritten"
            time.sleep(0.02)
        server.stop()
        server._arguments = ("--appendonly", "yes")
        server.start()
        assert (server.command("GET", "kept"), server.command("GET", "later")) == ("1", None)


def _is_rewriting(server: RedisServer) -> bool:
    with server.client() as client:
        found = client.info("persistence")
    return bool(found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"])


async def test_after_a_restore_seqs_are_given_again_and_the_erased_are_back(
    tmp_path: Path,
) -> None:
    url, file = f"sqlite:///{tmp_path / 'sessions.db'}", tmp_path / "backup.db"
    settings = SessionSettings()
    async with SessionManager(url, settings=settings) as manager:
        for user in ("ann", "bob"):
            await manager.create_session(user, session_id=f"of-{user}")
            await manager.add_message(f"of-{user}", user, "user", "kept")
        await manager.runtime.storage.back_up(file)
        await manager.add_message("of-ann", "ann", "user", "lost")
        await manager.erase_user("bob")
    for ending in ("", "-wal", "-shm"):
        (tmp_path / f"sessions.db{ending}").unlink(missing_ok=True)
    file.rename(tmp_path / "sessions.db")
    async with SessionManager(url, settings=settings) as manager:
        assert await manager.get_session_messages("of-ann", "ann", after_seq=2) == []
        again = await manager.add_message("of-ann", "ann", "user", "after the restore")
        assert again.seq == 2
        assert await manager.get_session_messages("of-ann", "ann", after_seq=2) == []
        assert len(await manager.get_session_messages("of-bob", "bob")) == 1
        await manager.erase_user("bob")
