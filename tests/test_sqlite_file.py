"""The SQLite file: whose it is, where it lies, and who may open it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from agent_cores.session.errors import (
    ConfigurationError,
    StorageUnavailableError,
    StoreFormatError,
)
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage import StorageFactory
from agent_cores.session.storage.sqlite.provider import SQLiteProvider, default_folder
from tests.sqlite_stores import NOON, create, opened, python, rows

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


def execute(path: Path, *statements: str) -> list[Any]:
    with closing(apsw.Connection(str(path))) as connection:
        return [connection.execute(statement).fetchall() for statement in statements]


async def test_the_file_is_in_wal_mode_and_commits_are_fully_synchronous(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        assert execute(path, "PRAGMA journal_mode") == [[("wal",)]]
        writer = provider._use().writer._connection  # noqa: SLF001 - a setting of one connection
        assert writer.execute("PRAGMA synchronous").fetchall() == [(2,)]


async def test_missing_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "sessions.db"
    async with opened(path):
        assert path.exists()


async def test_what_was_written_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    provider = SQLiteProvider(tmp_path / "sessions.db")
    await provider.initialize()
    header = await create(provider)
    await provider.shutdown()
    with pytest.raises(StorageUnavailableError):
        await provider.read("default", "talk")
    await provider.initialize()
    snapshot = await provider.read("default", "talk")
    assert snapshot is not None
    assert snapshot.header == header
    await provider.shutdown()


async def test_the_last_of_several_users_closes_the_file(tmp_path: Path) -> None:
    provider = SQLiteProvider(tmp_path / "sessions.db")
    await provider.initialize()
    await provider.initialize()
    await provider.shutdown()
    assert await provider.read("default", "talk") is None
    await provider.shutdown()
    with pytest.raises(StorageUnavailableError):
        await provider.read("default", "talk")


async def test_two_prefixes_are_two_stores_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with (
        opened(path, table_prefix="a_") as first,
        opened(path, table_prefix="b_") as second,
    ):
        await create(first)
        assert await second.read("default", "talk") is None
        assert (await first.count(None, NOON)).sessions == 1
        assert (await second.count(None, NOON)).sessions == 0


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10_000])


def overwritten(path: Path) -> None:
    path.write_bytes(b"x" * 20_000)


def table_overwritten(path: Path) -> None:
    """Spoil the root page of a table, which SQLite does not look at to open the file."""
    [[(root,)]] = execute(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'messages'")
    damaged = bytearray(path.read_bytes())
    damaged[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(damaged)


def foreign(path: Path) -> None:
    path.unlink()
    execute(path, "CREATE TABLE sessions (id TEXT)", "INSERT INTO sessions VALUES ('theirs')")


def newer(path: Path) -> None:
    execute(path, 'UPDATE "schema" SET version = 99, oldest_program = 98')


def of_no_version(path: Path) -> None:
    execute(path, 'DELETE FROM "schema"')


@pytest.mark.parametrize(
    "spoil", [cut_short, overwritten, table_overwritten, foreign, newer, of_no_version]
)
async def test_a_file_that_is_not_to_be_touched_is_refused_and_left_as_it_is(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        await create(provider)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(StoreFormatError, match=r"sessions\.db"):
        await SQLiteProvider(path).initialize()
    assert path.read_bytes() == before


async def test_a_schema_that_is_newer_but_tolerates_this_program_is_used(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        await create(provider)
    execute(
        path,
        'UPDATE "schema" SET version = 3',
        "ALTER TABLE sessions ADD COLUMN colour TEXT DEFAULT 'red'",
        "ALTER TABLE messages ADD COLUMN mood TEXT",
        "UPDATE sessions SET colour = 'blue'",
    )
    async with opened(path) as provider:
        assert await provider.update_metadata("talk", {"title": "changed"})
        await create(provider, "second")
    assert [row["colour"] for row in rows(path)["sessions"]] == ["blue", "red"]
    assert rows(path)["schema"] == [{"version": 3, "oldest_program": 1}]


async def test_damage_found_later_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        await create(provider)
        await provider.shutdown()
        [[(root,)]] = execute(
            path, "SELECT rootpage FROM sqlite_schema WHERE name = 'sessions_due'"
        )
        damaged = bytearray(path.read_bytes())
        damaged[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
        path.write_bytes(damaged)
        await provider.initialize()
        with pytest.raises(StoreFormatError):
            await provider.due(NOON, 10, 30)
        with pytest.raises(StoreFormatError):
            await provider.count("default", NOON)


async def test_check_makes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sessions.db"
    with pytest.raises(StoreFormatError, match="agent-sessions migrate"):
        await SQLiteProvider(path, schema="check").initialize()
    assert not path.parent.exists()


async def test_check_opens_what_is_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path):
        pass
    async with opened(path, schema="check") as provider:
        await create(provider)


async def test_ten_processes_that_start_at_once_make_one_schema(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    code = """
import asyncio, sys
from pathlib import Path
from tests.sqlite_stores import create, opened
async def main():
    sys.stdin.readline()
    async with opened(Path(sys.argv[1])) as provider:
        await create(provider, f"talk-{sys.argv[2]}")
asyncio.run(main())
"""
    processes = [python(code, path, number, stdin=subprocess.PIPE) for number in range(10)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * 10
    stored = rows(path)
    assert stored["schema"] == [{"version": 2, "oldest_program": 1}]
    assert sorted(row["session_id"] for row in stored["sessions"]) == [
        f"talk-{number}" for number in range(10)
    ]


def test_use_after_a_fork_is_refused(tmp_path: Path) -> None:
    code = """
import asyncio, os, sys, warnings
from agent_cores.session.errors import WrongContextError
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
warnings.simplefilter("ignore", DeprecationWarning)
provider = SQLiteProvider(sys.argv[1])
loop = asyncio.new_event_loop()
loop.run_until_complete(provider.initialize())
child = os.fork()
if child == 0:
    refused = 0
    for call in (provider.read("default", "talk"), provider.initialize(), provider.shutdown()):
        try:
            asyncio.new_event_loop().run_until_complete(call)
        except WrongContextError:
            refused += 1
    os._exit(refused)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert loop.run_until_complete(provider.read("default", "talk")) is None
loop.run_until_complete(provider.shutdown())
loop.close()
"""
    process = python(code, tmp_path / "sessions.db")
    assert process.communicate()[0] == "3\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///relative.db", Path("relative.db").absolute()),
        ("sqlite:////tmp/absolute.db", Path("/tmp/absolute.db")),  # noqa: S108 - only named
        ("sqlite:////tmp/with%20blank.db", Path("/tmp/with blank.db")),  # noqa: S108
        ("sqlite://", default_folder() / "sessions.db"),
        ("sqlite", default_folder() / "sessions.db"),
    ],
)
def test_a_url_names_the_file(url: str, path: Path) -> None:
    provider = StorageFactory.create(url)
    assert isinstance(provider, SQLiteProvider)
    assert provider.path == path
    assert str(path) in provider.describe()


def test_a_home_folder_is_found_and_no_folder_is_named_after_its_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    home = tmp_path / "data" / "x.db"
    for url in ("sqlite:///~/data/x.db", "sqlite:///%7E/data/x.db"):
        assert StorageFactory.create(url).describe() == f"SQLite, {home}"
    assert SQLiteProvider("~/data/x.db").path == SQLiteProvider(Path("~/data/x.db")).path == home
    assert SQLiteProvider("./~/x.db").path == Path.cwd() / "~" / "x.db"
    assert SQLiteProvider("/srv/~/x.db").path == Path("/srv/~/x.db")
    with pytest.raises(ConfigurationError, match="~nobody-of-this-name"):
        SQLiteProvider("~nobody-of-this-name/x.db")


async def test_a_path_that_names_no_file_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="folder is a folder"):
        await SQLiteProvider(folder).initialize()
    with pytest.raises(ConfigurationError, match="not the folder"):
        StorageFactory.create(f"sqlite:///{folder}/")
    with pytest.raises(ConfigurationError, match="no ordinary file"):
        await SQLiteProvider(tmp_path / "pipe").initialize()
    with pytest.raises(ConfigurationError, match="a file and no folder"):
        await SQLiteProvider(tmp_path / "file" / "sessions.db").initialize()
    with pytest.raises(ConfigurationError, match="a file and no folder"):
        await SQLiteProvider(tmp_path / "file" / "more" / "sessions.db").initialize()
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "pipe"]  # noqa: PTH208 - names


async def test_a_new_file_is_its_users_alone_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    path, link = tmp_path / "sessions.db", tmp_path / "link.db"
    link.symlink_to(tmp_path / "linked.db")
    for new, made in ((path, path), (link, tmp_path / "linked.db")):
        async with opened(new) as provider:
            await create(provider)
            for suffix in ("", "-wal", "-shm"):
                assert made.with_name(made.name + suffix).stat().st_mode & 0o777 == 0o600
    path.chmod(0o660)
    async with opened(path) as provider:
        await create(provider, "second")
        for suffix in ("", "-wal", "-shm"):
            assert path.with_name(path.name + suffix).stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///:memory:",
        "sqlite://:memory:",
        "sqlite:///",
        "sqlite:relative.db",
        "sqlite://host/file.db",
        "sqlite:///a.db?mode=ro",
        "sqlite:///a.db?timeout=soon",
        "sqlite:///a.db?timeout=0",
        "sqlite:///a.db?synchronous=OFF",
    ],
)
def test_a_url_that_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        StorageFactory.create(url)


def test_memory_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="memory://"):
        SQLiteProvider(":memory:")


@pytest.mark.parametrize(
    "option",
    [
        {"pool_size": 0},
        {"max_queued": 0},
        {"schema": "drop"},
        {"table_prefix": 'x"; DROP TABLE sessions; --'},
        {"colour": "red"},
    ],
)
def test_an_option_out_of_range_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        StorageFactory.create("sqlite:///a.db", **option)


async def test_options_of_the_url_come_before_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    provider = StorageFactory.create(
        f"sqlite:///{path}?synchronous=normal&timeout=2.5",
        settings=SessionSettings(timeout=7, table_prefix="ours_"),
    )
    assert isinstance(provider, SQLiteProvider)
    await provider.initialize()
    writer = provider._use().writer  # noqa: SLF001 - settings of one connection
    assert writer._connection.execute("PRAGMA synchronous").fetchall() == [(1,)]  # noqa: SLF001
    assert writer._timeout == 2.5  # noqa: SLF001
    assert "ours_sessions" in rows(path)
    await provider.shutdown()


async def test_the_default_file_lies_in_a_folder_of_its_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    provider = SQLiteProvider()
    await provider.initialize()
    await provider.shutdown()
    folder = tmp_path / "agent-cores-session"
    assert (folder / "sessions.db").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_data_folder_that_is_not_absolute_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_folder() == Path.home() / ".local" / "share" / "agent-cores-session"
    monkeypatch.setattr(sys, "platform", "darwin")
    expected = Path.home() / "Library" / "Application Support" / "agent-cores-session"
    assert default_folder() == expected
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert default_folder() == Path("/local/agent-cores-session")


async def test_a_file_whose_folder_takes_no_wal_says_what_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path):
        pass
    (tmp_path / "sessions.db-wal").mkdir()
    with pytest.raises(StorageUnavailableError, match="able to write into its folder"):
        await SQLiteProvider(path).initialize()
