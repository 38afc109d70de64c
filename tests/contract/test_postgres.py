"""The contract kit on PostgreSQL: direct, without the fast path, and through PgBouncer."""

from __future__ import annotations

import pytest

from agent_cores.session.storage.postgres_provider import PostgresProvider
from agent_cores.session.testing import ManagerContract, ProviderContract, Store
from tests.servers.postgres import empty_store, shared_pooler, shared_server


def store_at(address: str, *, fast_path: bool = True) -> Store:
    """Return an empty store at that address."""
    url = empty_store(address)
    return Store(lambda: PostgresProvider.from_url(url, fast_path=fast_path), url=url)


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


class TestManagerOnPostgresBehindPgBouncer(ManagerContract):
    @pytest.fixture
    def store(self) -> Store:
        return store_at(shared_pooler().url())
