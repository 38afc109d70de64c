"""Servers that stop, start again, want TLS, or cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import ConfigurationError, StorageUnavailableError
from agent_cores.session.storage.mysql import connection
from agent_cores.session.storage.mysql.provider import MysqlProvider
from tests.mysql.support import sql
from tests.postgres.test_server import new_certificate
from tests.servers.launching import give
from tests.servers.mariadb import MariaDBServer, shared_server
from tests.sql_stores import append, create, message_ids

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_server_that_restarts_loses_nothing_that_was_answered(at_once: bool) -> None:
    with MariaDBServer() as server:
        provider = MysqlProvider.from_url(server.url(server.new_database()), timeout=2)
        await provider.initialize()
        header = await create(provider)
        await provider.apply(append(header, "before"))
        server.stop(at_once=at_once)
        with pytest.raises(StorageUnavailableError):
            await provider.apply(append(header, "meanwhile"))
        with pytest.raises(StorageUnavailableError) as caught:
            await provider.read("default", "talk")
        assert not caught.value.outcome_unknown
        server.start()
        await provider.apply(append(header, "after"))
        assert await message_ids(provider) == ["before", "after"]
        await provider.shutdown()


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1:1", "nothing accepts connections"),
        ("no-such-host.invalid", "the host of the storage URL is not known"),
    ],
)
async def test_a_server_that_is_not_there_is_unavailable_and_no_driver_error(
    host: str, said: str
) -> None:
    provider = MysqlProvider.from_url(f"mysql://root@{host}/none", timeout=1)
    with pytest.raises(StorageUnavailableError, match=said):
        await provider.initialize()


async def test_a_unix_socket_is_an_address() -> None:
    server = shared_server()
    provider = MysqlProvider.from_url(server.url_by_socket(server.new_database()))
    await provider.initialize()
    header = await create(provider)
    await provider.apply(append(header, "m"))
    assert await message_ids(provider) == ["m"]
    await provider.shutdown()


@pytest.mark.parametrize(
    ("user", "database", "said"),
    [("nobody:wrong", "mysql", "Access denied"), ("root", "missing", "Unknown database")],
)
async def test_a_login_that_fails_says_why(user: str, database: str, said: str) -> None:
    url = f"mysql://{user}@127.0.0.1:{shared_server().port}/{database}"
    with pytest.raises(StorageUnavailableError, match=said) as caught:
        await MysqlProvider.from_url(url).initialize()
    assert "wrong" not in str(caught.value)


async def test_tls_is_used_and_the_certificate_checked(tmp_path: Path) -> None:
    with MariaDBServer() as server:  # its folder can be read by the user it runs as
        own, other = (new_certificate(server.folder, name) for name in ("own", "other"))
        key = own.with_suffix(".key")
        give(own)
        give(key)
        server.stop()
        server.configure(ssl_cert=str(own), ssl_key=str(key), require_secure_transport="1")
        server.start()
        url = server.url(server.new_database())
        for mode in (
            f"ssl_ca={own}",
            f"ssl_mode=verify_identity&ssl_ca={own}",
            "ssl_mode=required",
        ):
            provider = MysqlProvider.from_url(f"{url}?{mode}")
            await provider.initialize()
            await provider.shutdown()
        for mode in (f"ssl_ca={other}", "ssl_mode=verify_ca", "ssl_mode=disabled"):
            with pytest.raises(StorageUnavailableError):
                await MysqlProvider.from_url(f"{url}?{mode}").initialize()


async def test_tls_where_the_server_has_none_is_refused_and_not_left_out(url: str) -> None:
    with pytest.raises(StorageUnavailableError, match="TLS"):
        await MysqlProvider.from_url(f"{url}&ssl_mode=required").initialize()


async def test_a_packet_size_that_is_too_small_is_refused_by_name(url: str) -> None:
    sql(url, "SET GLOBAL max_allowed_packet = 1048576")
    try:
        with pytest.raises(ConfigurationError, match="max_allowed_packet"):
            await MysqlProvider.from_url(url).initialize()
    finally:
        sql(url, "SET GLOBAL max_allowed_packet = 16777216")


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("10.5.21-MariaDB", "MariaDB 10.5.21"),
        ("5.7.44-log", "MySQL 5.7.44"),
        ("8.0.11-TiDB-v7.5.0", "MySQL 8.0.11"),
    ],
)
def test_a_server_that_is_too_old_is_refused_by_name(version: str, said: str) -> None:
    with pytest.raises(StorageUnavailableError, match=said):
        connection.check_server(version, 2**24)


@pytest.mark.parametrize("version", ["10.6.0-MariaDB", "11.8.2-MariaDB-ubu2404", "8.0.22", "9.4.0"])
def test_a_server_that_is_new_enough_is_taken(version: str) -> None:
    connection.check_server(version, 2**24)


async def test_a_replica_answers_reads_and_says_that_it_takes_no_writes(url: str) -> None:
    with MariaDBServer() as server:
        database = server.new_database()
        server.sql("CREATE USER app@'127.0.0.1'; GRANT ALL ON *.* TO app@'127.0.0.1'")
        server.sql("REVOKE READ_ONLY ADMIN, SUPER ON *.* FROM app@'127.0.0.1'")
        provider = MysqlProvider.from_url(server.url(database).replace("root@", "app@"))
        await provider.initialize()
        header = await create(provider)
        server.sql("SET GLOBAL read_only = 1")
        with pytest.raises(StorageUnavailableError, match="read-only"):
            await provider.apply(append(header, "m"))
        with pytest.raises(StorageUnavailableError, match="read-only") as caught:
            await provider.check()
        assert caught.value.why == "unwritable"
        assert await message_ids(provider) == []
        server.sql("SET GLOBAL read_only = 0")
        await provider.check()
        await provider.shutdown()


async def test_the_rights_that_the_docs_grant_are_enough(url: str) -> None:
    provider = MysqlProvider.from_url(url)
    await provider.initialize()
    await provider.shutdown()
    user = "service@'127.0.0.1'"
    database = url.rpartition("/")[2].partition("?")[0]
    sql(url, f"CREATE OR REPLACE USER {user}")
    sql(url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO {user}")
    serving = MysqlProvider.from_url(url.replace("root@", "service@"), schema="check")
    await serving.initialize()
    header = await create(serving)
    await serving.apply(append(header, "m"))
    assert await message_ids(serving) == ["m"]
    await serving.check()
    await serving.shutdown()
