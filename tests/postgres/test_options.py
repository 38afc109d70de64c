"""How a provider is made: URLs, pools that were given, and a driver that is missing."""

from __future__ import annotations

import secrets
import subprocess
import sys

import asyncpg
import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import ConfigurationError, StorageUnavailableError
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage import StorageFactory
from agent_cores.session.storage.postgres.provider import PostgresProvider
from tests.servers.postgres import shared_pooler, shared_server
from tests.sql_stores import append, create

pytestmark = pytest.mark.anyio


async def test_a_pool_that_was_given_stays_open(url: str) -> None:
    async with asyncpg.create_pool(shared_server().url(), min_size=1) as pool:
        schema = url.rpartition("=")[2]
        provider = PostgresProvider(pool=pool, database_schema=schema)
        await provider.initialize()
        header = await create(provider)
        await provider.apply(append(header, "m"))
        await provider.shutdown()
        assert await pool.fetchval("SELECT 1") == 1


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("pool_sizee=3", "pool_sizee"),
        ("pool_size=many", "pool_size"),
        ("pool_size=1", "pool_size"),
        ("pooler=session", "pooler"),
        ("servicefile=/etc/pg_service.conf", "servicefile"),
        ("default_transaction_isolation=serializable", "default_transaction_isolation"),
        ("schema=create", "schema"),
        ("table_prefix=a-b", "table_prefix"),
        ("database_schema=a%22b", "database_schema"),
    ],
)
def test_a_wrong_option_is_refused_by_name(option: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        PostgresProvider.from_url(f"postgresql://localhost/db?{option}")


def test_a_description_holds_no_password() -> None:
    provider = PostgresProvider.from_url(
        "postgresql://me:s3cret@db.example:6432/chat?sslmode=require"
    )
    assert provider.describe() == "PostgreSQL at db.example:6432/chat"


@pytest.mark.parametrize("password", ["s3c?r3t", "half?secret", "half?sec=ret"])
def test_a_password_with_a_question_mark_is_not_shown_as_an_option(password: str) -> None:
    with pytest.raises(ConfigurationError, match="%3F") as caught:
        PostgresProvider.from_url(f"postgresql://me:{password}@db.example/chat")
    assert password.partition("?")[2].partition("=")[0] not in str(caught.value)


async def test_a_setting_that_the_pooler_refuses_is_not_blamed_on_its_announcement() -> None:
    provider = PostgresProvider.from_url(f"{shared_pooler().url()}&lock_timeout=5")
    with pytest.raises(StorageUnavailableError, match="setting of the URL"):
        await provider.initialize()


async def test_a_pooler_that_was_not_announced_is_named_as_the_cause() -> None:
    address = shared_pooler().url().partition("?")[0]
    with pytest.raises(StorageUnavailableError, match="pooler=transaction"):
        await PostgresProvider.from_url(address).initialize()


@pytest.mark.parametrize("name", ["postgres://localhost/db", "postgresql://localhost/db"])
def test_both_schemes_and_the_settings_make_this_provider(name: str) -> None:
    made = StorageFactory.create(name, settings=SessionSettings(pool_size=1))
    assert isinstance(made, PostgresProvider)


async def test_the_settings_say_where_the_tables_are() -> None:
    name = f"case_{secrets.token_hex(8)}"
    settings = SessionSettings(database_schema=name, table_prefix="Ours_")
    async with SessionManager(shared_server().url(), settings=settings) as manager:
        await manager.create_session("ann")
    count = f'SELECT count(*) FROM "{name}"."Ours_sessions"'  # noqa: S608 - named above
    assert shared_server().sql(count).strip() == "1"


def test_without_the_driver_the_error_says_what_to_install() -> None:
    program = """
import sys
sys.modules["asyncpg"] = None
from agent_cores.session.errors import MissingDependencyError
from agent_cores.session.storage import StorageFactory
try:
    StorageFactory.create("postgresql://localhost/db")
except MissingDependencyError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "pip install 'agent-cores-session[postgres]'" in done.stdout
