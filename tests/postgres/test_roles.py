"""A service whose role may use the tables and alter none, by the grants in the documentation."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import SessionNotFoundError, StorageUnavailableError
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.testing import ManualClock, suite_settings
from tests.postgres.support import row_counts
from tests.servers.postgres import shared_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

GUIDE = Path(__file__).parents[2] / "docs" / "postgres.md"


@pytest.fixture
def role() -> Iterator[str]:
    name = f"role_{secrets.token_hex(8)}"
    shared_server().sql(f"CREATE ROLE {name} LOGIN")
    yield name
    shared_server().sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
async def tables(url: str) -> str:
    """Make the tables as another user; return the schema that they are in."""
    provider = PostgresProvider.from_url(url)
    await provider.initialize()
    await provider.shutdown()
    return url.rpartition("=")[2]


@pytest.mark.parametrize("schema", ["apply", "check"])
async def test_the_documented_grants_are_enough_for_every_kind_of_write(
    url: str, tables: str, role: str, schema: Literal["apply", "check"]
) -> None:
    (grants,) = re.findall(r"```sql\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    shared_server().sql(grants.replace("public", tables).replace("chat_service", role))
    provider = PostgresProvider.from_url(url.replace("postgres@", f"{role}@"), schema=schema)
    clock = ManualClock()
    async with SessionManager(provider, settings=suite_settings(), clock=clock) as manager:
        talk = await manager.create_session("ann", {"tags": ["x"]})
        for content in ("first", "second"):
            await manager.add_message(talk, "ann", "user", content)
        await manager.update_session(talk, "ann", {"key": 1}, {"tags": ["y"]})
        await manager.update_session(talk, "ann", context_removals=["key"])
        await manager.share_session(talk, "ann", "bob")
        await manager.revoke_access(talk, "ann", "bob")
        await manager.rewind_session(talk, "ann", 1)
        assert len(await manager.list_user_sessions("ann", tags=["y"])) == 1
        await manager.delete_session(talk, "ann")
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(talk, "ann")
        await manager.create_session("ann", ttl_hours=1)
        clock.advance(3600)
        assert await manager.clean_expired_sessions() == 1
        while (await row_counts(url))["deleted"]:
            pass
        await provider.check()


async def test_a_role_without_them_is_told_where_they_stand(
    url: str, tables: str, role: str
) -> None:
    assert tables in url
    provider = PostgresProvider.from_url(url.replace("postgres@", f"{role}@"), schema="check")
    with pytest.raises(StorageUnavailableError, match=r"docs/postgres\.md"):
        await provider.initialize()
