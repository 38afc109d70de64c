"""The contract kit on PostgreSQL: direct, without the fast path, and through PgBouncer."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.sql.names import DEFAULT_PREFIX
from agent_cores.session.testing import ManagerContract, ProviderContract, Store
from agent_cores.session.testing.manager.concurrency import ConcurrencyCases
from agent_cores.session.testing.manager.lost_answers import LostAnswerCases
from agent_cores.session.testing.manager.lost_edits import LostEditCases
from agent_cores.session.testing.manager.processes import ProcessCases
from tests.postgres.support import connected
from tests.servers.postgres import reused_store, shared_pooler, shared_server


def store_at(address: str, *, fast_path: bool = True) -> Store:
    """Return an empty store at that address."""
    url = reused_store(address)

    async def spoil(namespace: str, session_id: str) -> None:
        update = f"UPDATE {DEFAULT_PREFIX}sessions SET format = 99"  # noqa: S608 - written here
        direct = f"{shared_server().url()}?{urlsplit(url).query}"
        async with connected(direct) as connection:
            done = await connection.execute(
                f"{update} WHERE namespace = $1 AND session_id = $2", namespace, session_id
            )
        assert done == "UPDATE 1"

    return Store(lambda: PostgresProvider.from_url(url, fast_path=fast_path), url=url, spoil=spoil)


class TestPostgresProvider(ProviderContract):
    @pytest.fixture
    def store(self) -> Store:
        return store_at(shared_server().url())


class TestPostgresProviderWithoutItsFastPath(ProviderContract):
    @pytest.fixture
    def store(self) -> Store:
        return store_at(shared_server().url(), fast_path=False)


class TestPostgresProviderBehindPgBouncer(ProviderContract):
    @pytest.fixture
    def store(self) -> Store:
        return store_at(shared_pooler().url())


class TestManagerOnPostgres(ManagerContract):
    @pytest.fixture
    def store(self) -> Store:
        return store_at(shared_server().url())


class TestManagerOnPostgresBehindPgBouncer(
    ConcurrencyCases, LostAnswerCases, LostEditCases, ProcessCases
):
    """The topics in which a pooler can make a difference: it moves transactions to connections.

    What the verbs mean beyond that is shown without it, and what the provider does, above.
    """

    @pytest.fixture
    def store(self) -> Store:
        return store_at(shared_pooler().url())
