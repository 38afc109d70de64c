"""``/readyz`` names why a store cannot be used: full, unwritable, replaced, without its tables."""

# ruff: noqa: SLF001 - one test looks behind the provider

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.errors import QuotaExceededError, StoreFormatError
from agent_cores.session.models.times import utc_now
from agent_cores.session.service import Service, ServiceSettings, readiness
from agent_cores.session.service.auth.api_keys import (
    ApiKey,
    StoredKeys,
    hashed,
    key_text,
    new_secret,
)
from agent_cores.session.service.readiness import Readiness
from agent_cores.session.storage.base import StorageProvider
from agent_cores.session.storage.mysql.provider import MysqlProvider
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.storage.sql import server_provider
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from agent_cores.session.testing.samples import creation, new_header, new_message
from agent_cores.session.wire.problems import problem_of
from tests.postgres.support import connected
from tests.servers import mariadb, postgres
from tests.servers.redis import RedisServer, redis_program, valkey_program
from tests.service.processes import SECONDS, get, run, serving
from tests.service.wire import Caller, request

Ask = Callable[[], Awaitable[str | None]]


@asynccontextmanager
async def asking(provider: StorageProvider) -> AsyncIterator[Ask]:
    """Check a store that is ready; each call asks it anew."""

    async def ask() -> str | None:
        now.append(now[-1] + 10)
        return await ready.ask()

    now = [0.0]
    ready = Readiness(lambda: provider, lambda: now[-1])
    await provider.initialize()
    assert await ask() is None
    try:
        yield ask
    finally:
        await provider.shutdown()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a check take long, for stores that respond at once but for a busy machine."""
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 30.0)


def no_store(path: Path) -> Path:
    empty = path.with_name("empty.db")
    empty.touch()
    return empty


async def new_store(path: Path) -> None:
    async with asking(SQLiteProvider(path)):
        pass


@pytest.mark.usefixtures("patient")
async def test_an_sqlite_file_is_ready_if_a_backup_takes_its_place_and_not_if_another_store_does(
    path: Path, tmp_path: Path
) -> None:
    provider, other, backup = SQLiteProvider(path), tmp_path / "other.db", tmp_path / "backup.db"
    await new_store(other)
    async with asking(provider) as ask:
        await provider.back_up(backup)
        for there, expected in ((other, "replaced"), (backup, None), (no_store(path), "replaced")):
            os.replace(there, path)  # noqa: PTH105 - in an async test
            assert await ask() == expected


@pytest.mark.usefixtures("patient")
async def test_an_sqlite_file_that_no_write_reaches_is_unwritable(path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with asking(SQLiteProvider(path)) as ask:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
        try:
            assert await ask() == "unwritable"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert await ask() is None


async def test_a_write_to_an_sqlite_file_that_may_not_grow_says_that_it_is_full(path: Path) -> None:
    provider = SQLiteProvider(path)
    async with asking(provider):
        assert provider._opened is not None
        connection = provider._opened.writer._file.connection
        connection.pragma("max_page_count", connection.pragma("page_count"))
        header = new_header("talk", at=utc_now())
        message = new_message("m", "x" * 100_000, at=utc_now())
        with pytest.raises(QuotaExceededError, match="full") as caught:
            await provider.apply(creation(header, append=(message,)))
    assert str(path) in str(caught.value)  # for those who run the store, not for those who call
    assert str(path) not in problem_of(caught.value, utc_now())[2].detail


async def test_valkey_is_full_unwritable_or_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    # Longer, for a busy machine, but not very long: a replica is asked for most of the time.
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 8.0)
    with RedisServer() as server, RedisServer() as other:
        async with asking(RedisProvider(url=server.url)) as ask:
            server.command("CONFIG", "SET", "maxmemory", "1")
            assert await ask() == "full"
            server.command("CONFIG", "SET", "maxmemory", "0")
            assert await ask() is None
            server.command("REPLICAOF", "127.0.0.1", other.port)
            assert await ask() == "unwritable"
            server.command("REPLICAOF", "NO", "ONE")
            server.command("FLUSHALL")
            assert await ask() == "replaced"
            assert await ask() == "replaced", "it does not take the new store for its own"


def test_a_service_goes_on_with_a_new_store_once_its_workers_are_replaced(tmp_path: Path) -> None:
    """As docs/operations.md tells."""

    def reasons(address: str) -> set[str | None]:
        """Return what several connections are told, so that each worker is asked."""
        return {get(f"{address}/readyz")[1].get("reason") for _ in range(12)}

    with RedisServer() as server:
        url = {"SESSION_STORAGE_URL": server.url}
        run(tmp_path, "keys", "create", "before", **url)
        with serving(tmp_path, "--workers", "2", first_run=False, **url) as (process, address, _):
            assert reasons(address) == {None}
            server.command("FLUSHALL")
            time.sleep(readiness.ASK_AGAIN_SECONDS)
            assert reasons(address) == {"replaced"}
            key = run(tmp_path, "keys", "create", "after", **url).stdout.strip()
            assert reasons(address) == {"replaced"}
            process.send_signal(signal.SIGHUP)
            until = time.monotonic() + SECONDS
            while reasons(address) != {None}:
                assert time.monotonic() < until
            assert get(f"{address}/v1/me", {"Authorization": f"Bearer {key}"})[0] == 200


@pytest.mark.parametrize("program", [redis_program, valkey_program])
async def test_redis_without_a_right_or_a_working_snapshot_is_unwritable(
    program: Callable[[], str], tmp_path: Path
) -> None:
    with RedisServer("--enable-protected-configs", "yes", program=program()) as server:
        async with asking(RedisProvider(url=server.url)) as ask:
            server.command("ACL", "SETUSER", "default", "-set")
            assert await ask() == "unwritable"
            server.command("ACL", "SETUSER", "default", "+@all")
            assert await ask() is None
            gone = tmp_path / "gone"
            gone.mkdir()
            server.command("CONFIG", "SET", "save", "3600 1", "dir", str(gone))
            gone.rmdir()
            server.command("BGSAVE")
            async with asyncio.timeout(30):
                while await ask() is None:  # noqa: ASYNC110 - the snapshot fails in the background
                    await asyncio.sleep(0.05)
            assert await ask() == "unwritable"


async def fill(provider: StorageProvider) -> None:
    """Send a write that the server refuses as a full one does."""
    change = creation(new_header("talk", at=utc_now()), append=(new_message("m", at=utc_now()),))
    with pytest.raises(QuotaExceededError, match="is full"):
        await provider.apply(change)


@pytest.mark.usefixtures("patient")
async def test_postgres_is_full_without_its_tables_unusable_and_with_new_ones_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = postgres.shared_server()
    url = postgres.empty_store(server.url())
    schema = url.rpartition("=")[2]
    provider = PostgresProvider.from_url(url)
    async with asking(provider) as ask:
        server.sql(
            f"SET client_min_messages = error; CREATE FUNCTION {schema}.no_room() RETURNS trigger"
            " LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END$$;"
            f"CREATE TRIGGER no_room BEFORE INSERT ON {schema}.agent_cores_messages"
            f" EXECUTE FUNCTION {schema}.no_room()"
        )
        await fill(provider)
        assert await ask() == "full"
        monkeypatch.setattr(server_provider, "FULL_SECONDS", 0)
        assert await ask() is None
        server.sql(f"DROP SCHEMA {schema} CASCADE")
        assert await ask() == "unusable"
        async with asking(PostgresProvider.from_url(url)):
            assert await ask() == "replaced"


@pytest.mark.usefixtures("patient")
async def test_mariadb_is_full_without_its_tables_unusable_and_with_new_ones_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = mariadb.shared_server()
    database = server.new_database()
    url = server.url(database)
    provider = MysqlProvider.from_url(url)
    async with asking(provider) as ask:
        server.sql(
            f"CREATE TRIGGER {database}.no_room BEFORE INSERT ON agent_cores_messages"
            " FOR EACH ROW SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114",
            database,
        )
        await fill(provider)
        assert await ask() == "full"
        monkeypatch.setattr(server_provider, "FULL_SECONDS", 0)
        assert await ask() is None
        server.sql(f"DROP DATABASE {database}; CREATE DATABASE {database}")
        assert await ask() == "unusable"
        async with asking(MysqlProvider.from_url(url)):
            assert await ask() == "replaced"


Sql = Callable[[str], Awaitable[object]]


async def reasons_without_each_column(ask: Ask, sql: Sql, columns: list[tuple[str, str]]) -> None:
    """Rename each column of a store, then each table, and ask."""
    assert len(columns) > 50
    for table, column in columns:
        await sql(f"ALTER TABLE {table} RENAME COLUMN {column} TO lost")
        assert await ask() == "unusable", (table, column)
        await sql(f"ALTER TABLE {table} RENAME COLUMN lost TO {column}")
    for table in sorted({table for table, _ in columns}):
        await sql(f"ALTER TABLE {table} RENAME TO lost")
        assert await ask() == "unusable", table
        await sql(f"ALTER TABLE lost RENAME TO {table}")
    assert await ask() is None


@pytest.mark.usefixtures("patient")
async def test_an_sqlite_file_that_lacks_a_table_or_a_column_is_unusable(path: Path) -> None:
    import apsw

    async with asking(SQLiteProvider(path)) as ask:
        other = apsw.Connection(str(path))
        found = other.execute(
            "SELECT m.name, c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c"
            " WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
        )
        columns = [(f'"{table}"', f'"{column}"') for table, column in found]

        async def sql(statement: str) -> None:
            other.execute(statement)

        await reasons_without_each_column(ask, sql, columns)
        other.close()


COLUMNS = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = "


@pytest.mark.usefixtures("patient")
async def test_postgres_without_a_table_or_a_column_is_unusable() -> None:
    url = postgres.empty_store(f"{postgres.shared_server().url()}?table_prefix=")
    async with asking(PostgresProvider.from_url(url)) as ask, connected(url) as connection:
        found = await connection.fetch(f"{COLUMNS} current_schema()")
        columns = [(f'"{table}"', f'"{column}"') for table, column in found]
        await reasons_without_each_column(ask, connection.execute, columns)


@pytest.mark.usefixtures("patient")
async def test_mariadb_without_a_table_or_a_column_is_unusable() -> None:
    server = mariadb.shared_server()
    database = server.new_database()
    async with asking(MysqlProvider.from_url(server.url(database))) as ask:
        found = server.sql(f"{COLUMNS} '{database}'", database).splitlines()
        columns = [(f"`{table}`", f"`{column}`") for table, column in map(str.split, found)]

        async def sql(statement: str) -> None:
            server.sql(statement, database)

        await reasons_without_each_column(ask, sql, columns)


async def test_what_a_store_lacks_is_named_to_those_who_run_it_and_not_to_those_who_call() -> None:
    url = postgres.empty_store(f"{postgres.shared_server().url()}?table_prefix=")
    provider = PostgresProvider.from_url(url)
    manager = SessionManager(provider, settings=SessionSettings(cleanup_interval=0))
    service = Service(manager, ServiceSettings())
    assert (await request(service, "GET", "/readyz")).status == 200
    key_id, secret = new_secret()
    key = ApiKey(
        id=key_id,
        name="test",
        secret_hash=hashed(secret),
        namespace="default",
        rights=("read", "write", "act-as"),
        created_at=utc_now(),
    )
    await StoredKeys(provider, utc_now).add(key)
    ann = Caller(service, "ann", key_text(key_id, secret), {})
    talk = await ann.new_session()
    async with connected(url) as connection:
        await connection.execute("DROP TABLE messages")
    for reply in (await ann("GET", f"/v1/sessions/{talk}/messages"), await ann.say(talk, "a")):
        assert (reply.status, reply.code) == (503, "store_format")
        assert reply.headers["retry-after"]
        assert "messages" not in reply.json()["detail"]
    with pytest.raises(
        StoreFormatError, match=r'"[\w.]*messages" .*restore the store from a backup'
    ):
        await provider.check()
    await service.aclose()
