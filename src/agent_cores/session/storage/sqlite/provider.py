"""``SQLiteProvider``: sessions in one SQLite file, for any number of processes on one machine.

The file is in WAL mode: readers see the last commit and never wait, and the writers of all
processes take turns. Queued changes are written together, in transactions that are on disk before
any caller gets a response (``synchronous=FULL``). ``writer.py`` writes and ``reading.py`` reads,
both with the plans of the SQL core.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import unquote

import msgspec

from agent_cores.session.deadline import end_after
from agent_cores.session.errors import (
    ConfigurationError,
    StorageUnavailableError,
    StoreFormatError,
    WrongContextError,
)
from agent_cores.session.models import Applied
from agent_cores.session.models.times import from_millis
from agent_cores.session.process import process_id
from agent_cores.session.storage.base import BackedUp, Capabilities, Counts
from agent_cores.session.storage.batching import MAX_QUEUED, Coalescer
from agent_cores.session.storage.headers import HeaderReader
from agent_cores.session.storage.native import NativeProvider
from agent_cores.session.storage.sql.dialect import Plan, Statement, Step
from agent_cores.session.storage.sql.reading import (
    archived_plan,
    count_plan,
    find_plan,
    namespaces_plan,
    read_plan,
    read_several_plan,
)
from agent_cores.session.storage.sqlite.backup import back_up
from agent_cores.session.storage.sqlite.batches import Waiting
from agent_cores.session.storage.sqlite.connection import newest_version, stored_version
from agent_cores.session.storage.sqlite.errors import translating
from agent_cores.session.storage.sqlite.file import StoreFile
from agent_cores.session.storage.sqlite.inspecting import findings_of
from agent_cores.session.storage.sqlite.options import READERS, SQLiteOptions
from agent_cores.session.storage.sqlite.queries import Queries
from agent_cores.session.storage.sqlite.reading import Readers
from agent_cores.session.storage.sqlite.writer import Writer
from agent_cores.session.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent_cores.session.errors import CorruptRecordError
    from agent_cores.session.models import Change, Ended, Found, Query, Snapshot, Window
    from agent_cores.session.settings import SessionSettings
    from agent_cores.session.storage.findings import Finding
    from agent_cores.session.storage.pool_use import PoolUse

DEFAULT_FILE = "sessions.db"
_FILE_MODE = 0o600
"""For a new file; SQLite gives the ``-wal`` and ``-shm`` files the same mode."""
_FEW_MESSAGES = 100
"""A read of so many messages is brief."""


class _Opened(msgspec.Struct, frozen=True):
    """What exists between ``initialize`` and ``shutdown``, in one process."""

    pid: int
    writer: Writer
    readers: Readers
    writes: Coalescer[Waiting, Applied]


class SQLiteProvider(NativeProvider):
    """Sessions in one SQLite file.

    ``path`` is the file, by default ``sessions.db`` in the user's data folder; ``~`` is the home
    folder, and missing folders are created. Only its user can access a new file. ``synchronous`` is
    ``FULL``, ``EXTRA``, or ``NORMAL``, which may lose the last commits on a power failure.
    ``timeout`` is how many seconds a write waits for other processes. ``pool_size`` limits the
    readers, ``max_queued`` the waiting writes. ``schema="check"`` refuses a file whose tables are
    missing or old instead of creating them. ``fast_path=False`` turns the fast path off, for tests.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(shared=True, durable=True, flat=True)

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        synchronous: str = "FULL",
        timeout: float = 10.0,
        pool_size: int = READERS,
        max_queued: int = MAX_QUEUED,
        schema: str = "apply",
        table_prefix: str = "",
        fast_path: bool = True,
    ) -> None:
        _refuse("path", str(path) in {"", ":memory:"}, "a file; for memory use memory://")
        options = SQLiteOptions.check(
            synchronous=synchronous,
            timeout=timeout,
            pool_size=pool_size,
            max_queued=max_queued,
            schema=schema,
            table_prefix=table_prefix,
        )
        self._is_default = path is None
        self.path: Path = default_folder() / DEFAULT_FILE if path is None else _file_at(path)
        self._synchronous = options.synchronous.upper()
        self._timeout = options.timeout
        self._pool_size = options.pool_size
        self._max_queued = options.max_queued
        self._schema = options.schema
        self._prefix = options.table_prefix
        self._fast_path = fast_path
        self._opened: _Opened | None = None
        self._headers = HeaderReader()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:  # noqa: ANN401 - checked by __init__
        """``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite:///~/home.db``.

        ``sqlite://`` is the default file.

        Its options (``?synchronous=NORMAL&timeout=5``) take precedence over ``options``.
        """
        named, _, query = url.partition("?")
        return cls(_path_of(named), **options | SQLiteOptions.from_query(query))

    @classmethod
    def options_from(cls, settings: SessionSettings) -> dict[str, Any]:
        return {
            "timeout": settings.timeout,
            "pool_size": settings.pool_size,
            "max_queued": settings.max_queued_writes,
            "schema": settings.schema,
            "table_prefix": settings.table_prefix or "",
        }

    def describe(self) -> str:
        return f"SQLite, {self.path}"

    async def initialize(self) -> None:
        self._opened = await self._open()

    async def shutdown(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await self._close(opened)

    async def _close(self, opened: _Opened) -> None:
        """Finish the accepted work and close, all within one timeout."""
        end = time.monotonic() + self._timeout
        opened.writer.closing(end)
        await asyncio.wait([asyncio.ensure_future(opened.writes.drain())], timeout=self._timeout)
        await opened.readers.close(end)
        await opened.writer.close(end)

    async def _open(self) -> _Opened:
        version = await in_thread(self._look_first, "sqlite-schema")
        queries = Queries(self._prefix)
        file = StoreFile(
            self.path, prefix=self._prefix, timeout=self._timeout, synchronous=self._synchronous
        )
        writer = Writer(
            file, queries, self._headers, timeout=self._timeout, fast_path=self._fast_path
        )
        await writer.open(version)
        readers = Readers(
            file,
            queries,
            timeout=self._timeout,
            count=self._pool_size,
            follow=writer.follow,
        )
        writes = Coalescer(writer.write, lanes=2, max_queued=self._max_queued)
        return _Opened(pid=process_id(), writer=writer, readers=readers, writes=writes)

    def _look_first(self) -> int:
        """Return the version of the tables; refuse a file that must not be touched."""
        if self.path.exists() and not self.path.is_file():
            kind = "a folder" if self.path.is_dir() else "no ordinary file"
            raise ConfigurationError(f"SQLite: path is a file, but {self.path} is {kind}")
        with translating(self.path):
            version = stored_version(self.path, self._prefix, self._timeout)
        if version < newest_version() and self._schema == "check":
            found = f"has schema {version}, this program needs {newest_version()}"
            if not version:
                found = "holds no store" if self.path.exists() else "does not exist"
            raise StoreFormatError(f"{self.path} {found}; run: agent-sessions migrate")
        mode = 0o700 if self._is_default else 0o777  # the umask applies too
        try:
            self.path.parent.mkdir(mode=mode, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                file = os.path.realpath(self.path)  # a link's target may not exist yet
                os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, _FILE_MODE))
        except (FileExistsError, NotADirectoryError) as error:
            detail = f"SQLite: a part of path is a file and no folder: {self.path.parent}"
            raise ConfigurationError(detail) from error
        except OSError as error:
            raise StorageUnavailableError(f"{self.path} cannot be made: {error}") from error
        return version

    async def back_up(self, path: Path) -> BackedUp:
        if not self.path.exists():
            raise StorageUnavailableError(f"{self.path} does not exist")
        stopped: list[bool] = []
        copy = partial(
            back_up,
            self.path,
            path,
            prefix=self._prefix,
            timeout=self._timeout,
            is_stopped=lambda: bool(stopped),
        )
        copying = asyncio.ensure_future(in_thread(copy, "sqlite-backup"))
        try:
            return await asyncio.shield(copying)
        except asyncio.CancelledError:
            stopped.append(True)
            await asyncio.gather(copying, return_exceptions=True)  # it removes its file
            raise

    async def check(self) -> None:
        await self._use().writer.check()

    def pool_use(self) -> PoolUse | None:
        return None if self._opened is None else self._opened.readers.use()

    async def inspect(self) -> list[Finding]:
        look = partial(findings_of, self.path, self._prefix, self._timeout)
        return await in_thread(look, "sqlite-inspect")

    async def store_time(self) -> datetime:
        return await self._use().readers.run(_time_plan)

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        readers = self._use().readers
        is_brief = window is None or window.limit <= _FEW_MESSAGES
        plan = partial(read_plan, namespace, session_id, context=context, window=window)
        return await (readers.run_brief if is_brief else readers.run)(plan)

    async def read_several(
        self,
        names: Sequence[tuple[str, str]],
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> list[Snapshot | CorruptRecordError | None]:
        return await self._use().readers.run(
            partial(read_several_plan, names, context=context, window=window)
        )

    async def apply(self, change: Change) -> Applied:
        size = sum([len(message.body) for message in change.append])
        if change.update is not None:
            size += change.update.size + change.update.stored_bytes
        waiting = Waiting(change, end_after(self._timeout))
        return await self._use().writes.submit(waiting, size)

    async def find(self, query: Query) -> Found:
        return await self._use().readers.run(partial(find_plan, query, self._headers))

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        return await self._use().writer.due(at, limit, lease_seconds)

    async def count(self, namespace: str | None, at: datetime) -> Counts:
        return await self._use().readers.run(partial(count_plan, namespace, at))

    async def count_archived(self) -> int:
        return await self._use().readers.run(archived_plan)

    async def namespaces(self) -> list[str]:
        return await self._use().readers.run(namespaces_plan)

    def _use(self) -> _Opened:
        opened = self._opened
        if opened is None:
            raise StorageUnavailableError(f"{self.path} is not open: initialize() comes first")
        if opened.pid != process_id():
            raise _forked()
        return opened


def _time_plan() -> Plan[datetime]:
    [(now,)] = yield Step(Statement.STORE_TIME)
    return from_millis(now)


def default_folder() -> Path:
    """Return the folder of the default file, inside the user's data folder."""
    if sys.platform == "win32":
        given = os.environ.get("LOCALAPPDATA")
        base = Path(given) if given else _home("LOCALAPPDATA") / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = _home("HOME") / "Library" / "Application Support"
    else:
        given = os.environ.get("XDG_DATA_HOME", "")
        base = Path(given) if Path(given).is_absolute() else _home("XDG_DATA_HOME") / ".local/share"
    return base / "agent-cores-session"


def _file_at(path: str | Path) -> Path:
    """Return the absolute path of a file, with ``~`` expanded."""
    text = os.fspath(path)
    _refuse("path", text.endswith(("/", os.sep)), f"a file, not the folder {text}")
    if not text.startswith("~"):
        return Path(text).absolute()
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigurationError(f"SQLite: path {text}: {error}") from error


def _home(variable: str) -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise ConfigurationError(
            "this user has no home folder to keep sessions in: set SESSION_STORAGE_URL to"
            f" sqlite:////a/folder/sessions.db or another store, or {variable} or HOME to a folder"
        ) from error


def _path_of(url: str) -> str | None:
    """Return the path in a URL without its query, or ``None`` for the default file."""
    _, scheme_ends, rest = url.partition("://")
    if scheme_ends and not rest:
        return None
    path = unquote(rest.removeprefix("/"))
    _refuse("path", ":memory:" in {rest, path}, "a file; for memory use memory://")
    _refuse(
        "URL",
        not (rest.startswith("/") and path),
        "sqlite:///relative.db, sqlite:////absolute.db, or sqlite:// for the default file",
    )
    return path


def _refuse(name: str, wrong: bool, bound: str) -> None:  # noqa: FBT001 - a private check
    if wrong:
        raise ConfigurationError(f"SQLite: {name} is {bound}")


def _forked() -> WrongContextError:
    return WrongContextError(
        "this store was opened in another process; open one of its own after a fork"
    )
