"""URLs as providers of PostgreSQL hand them out, and what is told where one cannot be used."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import asyncpg
import pytest

from agent_cores.session.errors import ConfigurationError, SessionError, StorageUnavailableError
from agent_cores.session.storage import StorageFactory
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.postgres.url import driver_tls, split_url
from tests.postgres.test_server import new_certificate
from tests.servers.postgres import (
    PgBouncer,
    PostgresServer,
    empty_store,
    shared_pooler,
    shared_server,
)
from tests.sql_stores import create

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

HANDED_OUT = {
    "Neon": (
        (
            "postgresql://alex:pw@ep-cool-1-pooler.eu.aws.neon.tech/db?sslmode=require"
            "&channel_binding=require"
        ),
        "?sslmode=verify-full&sslrootcert=system",
        {},
    ),
    "Neon, old clients": (
        "postgres://alex:pw@neon.tech/db?sslmode=require&options=endpoint%3Dep-cool-1",
        "?sslmode=require&options=endpoint%3Dep-cool-1",
        {},
    ),
    "Supabase": (
        "postgresql://postgres.ref:pw@aws-0.pooler.supabase.com:6543/postgres?pgbouncer=true",
        "",
        {"pooler": "transaction"},
    ),
    "Heroku": ("postgres://u:pw@ec2-1.compute.amazonaws.com:5432/d1", "", {}),
    "RDS": (
        (
            "postgresql://u:pw@db.rds.amazonaws.com:5432/d?sslmode=verify-full&sslrootcert=rds.pem"
            "&connect_timeout=10&application_name=chat"
        ),
        "?sslmode=verify-full&sslrootcert=rds.pem&application_name=chat",
        {"connect_timeout": 10.0},
    ),
    "SQLAlchemy": ("postgresql+asyncpg://u:pw@host/d?ssl=require", "?sslmode=require", {}),
    "libpq": (
        (
            "postgres+asyncpg://u:pw@a:5432,b:5433/d?target_session_attrs=read-write&gssencmode=disable"
            "&channel_binding=prefer&connect_timeout=0&client_encoding=utf8"
            "&fallback_application_name=psql"
        ),
        "?target_session_attrs=read-write&application_name=psql",
        {},
    ),
    "Node": ("postgresql://u:pw@host/d?ssl=true&pgbouncer=false", "?sslmode=require", {}),
}
REFUSED = {
    "gssencmode=require": "gssencmode=require.*verify-full",
    "gssencmode=yes": "gssencmode.*disable, prefer, require",
    "channel_binding=always": "channel_binding.*disable, prefer, require",
    "sslmode=disable&channel_binding=require": "channel_binding=require.*TLS",
    "sslmode=required": "sslmode.*verify-full",
    "sslmode=require&ssl=disable": "two values of sslmode",
    "target_session_attrs=master": "target_session_attrs.*read-write",
    "pgbouncer=maybe": "pgbouncer.*true, false",
    "connect_timeout=soon": "connect_timeout",
    "connect_timeout=-1": "connect_timeout",
    "connection_limit=5": "connection_limit.*pool_size",
    "prepareThreshold=0": "prepareThreshold.*pooler=transaction",
    "keepalives_idle=30": "keepalives_idle.*tcp_keepalives_idle",
    "currentSchema=app": "currentSchema.*database_schema",
    "schema=public": "database_schema",
    "client_encoding=latin1": "client_encoding.*utf8",
}


@pytest.mark.parametrize("given", HANDED_OUT.values(), ids=HANDED_OUT)
def test_a_url_is_taken_as_it_is_handed_out(given: tuple[str, str, dict[str, object]]) -> None:
    url, options, own = given
    dsn, found = split_url(url)
    address = url.partition("?")[0].replace("+asyncpg", "")
    assert (dsn, found) == (f"{address}{options}", own)
    assert isinstance(StorageFactory.create(url), PostgresProvider)


@pytest.mark.parametrize(("option", "problem"), REFUSED.items())
def test_what_cannot_be_done_is_refused_by_name_with_the_way_out(option: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        PostgresProvider.from_url(f"postgresql://localhost/db?{option}")


@pytest.mark.parametrize("scheme", ["postgresql+psycopg2", "postgresql+psycopg"])
def test_a_url_of_another_driver_is_refused_by_its_name(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match=r"psycopg.*postgresql\+asyncpg"):
        StorageFactory.create(f"{scheme}://localhost/db")


async def test_the_options_of_a_pooled_store_work_as_handed_out() -> None:
    address = shared_pooler().url().replace("pooler=transaction", "pgbouncer=true")
    url = address.replace("postgresql:", "postgresql+asyncpg:")
    provider = PostgresProvider.from_url(empty_store(f"{url}&connect_timeout=5&sslmode=disable"))
    await provider.initialize()
    await create(provider)
    await provider.shutdown()


async def test_the_server_sees_application_name_and_options() -> None:
    url = empty_store(f"{shared_server().url()}?application_name=chat&options=-c%20work_mem%3D9MB")
    provider = PostgresProvider.from_url(url)
    await provider.initialize()
    async with provider.database.transaction() as transaction:
        shown = await transaction.fetch(
            "SELECT current_setting('application_name') AS name,"
            " current_setting('work_mem') AS memory"
        )
    assert dict(shown[0]) == {"name": "chat", "memory": "9MB"}
    await provider.shutdown()


async def refusal(url: str) -> SessionError:
    with pytest.raises(SessionError) as caught:
        await PostgresProvider.from_url(url, timeout=5).initialize()
    assert "s3cret" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("mode", ["require", "verify-full&sslrootcert=system"])
async def test_a_server_without_tls_is_said_to_be_one(mode: str) -> None:
    error = await refusal(f"{shared_server().url()}?sslmode={mode}")
    assert isinstance(error, StorageUnavailableError)
    assert "does not offer TLS" in str(error)
    assert "sslmode" in str(error)


async def test_a_wrong_password_role_or_database_is_named() -> None:
    with PostgresServer(authentication="scram-sha-256") as server:
        address = f"127.0.0.1:{server.port}"
        wrong_password = await refusal(f"postgresql://postgres:s3cret@{address}/postgres")
        assert 'password authentication failed for user "postgres"' in str(wrong_password)
        assert "check the user and the password" in str(wrong_password)
    missing_role = await refusal(f"postgresql://nobody:s3cret@127.0.0.1:{shared_server().port}/x")
    assert 'role "nobody" does not exist' in str(missing_role)
    missing_database = await refusal(shared_server().url("none"))
    assert 'database "none" does not exist' in str(missing_database)
    assert "create the database" in str(missing_database)


async def test_a_setting_that_the_server_does_not_know_is_named() -> None:
    error = await refusal(f"{shared_server().url()}?options=-c%20colour%3Dred")
    assert 'unrecognized configuration parameter "colour"' in str(error)


async def test_what_is_not_there_and_what_is_silent_are_told_apart() -> None:
    assert "nothing accepts connections" in str(await refusal("postgresql://u@127.0.0.1:1/db"))
    assert "host" in str(await refusal("postgresql://u@no-such-host.invalid/db"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u:s3cret@127.0.0.1:{silent.getsockname()[1]}/db?connect_timeout=0.2"
        assert "did not answer within 0.2 s" in str(await refusal(url))


async def test_files_and_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    missing = await refusal(f"{shared_server().url()}?sslmode=verify-full&sslrootcert=/none.pem")
    assert isinstance(missing, ConfigurationError)
    assert "sslrootcert" in str(missing)
    own, other = (new_certificate(tmp_path, name) for name in ("own", "other"))
    key = own.with_suffix(".key").read_bytes()
    with PgBouncer(shared_server(), certificate=own.read_bytes(), key=key) as pooler:
        address = f"{pooler.url()}&sslmode=require"
        for wrong in (f"&sslrootcert={other}", "&channel_binding=require"):
            error = str(await refusal(f"{address}{wrong}"))
            assert "certificate of the PostgreSQL server cannot be verified" in error
            assert "sslrootcert" in error
        provider = PostgresProvider.from_url(
            empty_store(f"{address}&channel_binding=require&sslrootcert={own}")
        )
        await provider.initialize()
        await create(provider)
        await provider.shutdown()


def test_the_systems_certificates_verify_the_name_too() -> None:
    dsn, context = driver_tls("postgresql://u@h/d?sslrootcert=system&application_name=chat")
    assert dsn == "postgresql://u@h/d?application_name=chat"
    assert context is not None
    assert context.check_hostname
    with pytest.raises(ConfigurationError, match="verify-full"):
        driver_tls("postgresql://u@h/d?sslmode=require&sslrootcert=system")


async def test_a_url_that_cannot_be_read_shows_nothing_of_its_password() -> None:
    error = await refusal("postgresql://u:pa/s3cret@127.0.0.1/db")
    assert "percent-encoding" in str(error)


async def test_a_pool_that_loses_its_rights_says_so_later_too() -> None:
    server = shared_server()
    server.sql("CREATE ROLE passing LOGIN SUPERUSER")
    url = empty_store(server.url().replace("postgres@", "passing@"))
    provider = PostgresProvider.from_url(url)
    await provider.initialize()
    server.sql("ALTER ROLE passing NOLOGIN")
    first = await asyncpg.connect(server.url())
    await first.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'passing'"
    )
    await first.close()
    with pytest.raises(StorageUnavailableError, match="not permitted to log in"):
        await provider.read("default", "talk")
    await provider.shutdown()
