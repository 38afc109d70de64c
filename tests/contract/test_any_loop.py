"""The manager part of the contract, with each call from another loop than the manager's own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from agent_cores.session.testing import ManagerContract, Store
from agent_cores.session.testing.manager.concurrency import ConcurrencyCases
from agent_cores.session.testing.manager.hooks import HookCases
from agent_cores.session.testing.manager.turns import TurnCases
from tests.any_loop_store import AnyLoopStore
from tests.servers import postgres, redis


class TestMemoryFromAnotherLoop(ManagerContract):
    @pytest.fixture
    def store(self) -> Store:
        return AnyLoopStore(MemoryProvider)


class TestSQLiteFromAnotherLoop(ManagerContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        path = tmp_path / "sessions.db"
        return AnyLoopStore(partial(SQLiteProvider, path), url=f"sqlite:///{path}")


class TestValkeyFromAnotherLoop(ConcurrencyCases, TurnCases, HookCases):
    @pytest.fixture
    def store(self) -> Store:
        url = redis.empty_store(redis.shared_valkey().url)
        return AnyLoopStore(partial(RedisProvider.from_url, url), url=url)


class TestPostgresFromAnotherLoop(ConcurrencyCases, TurnCases, HookCases):
    @pytest.fixture
    def store(self) -> Store:
        url = postgres.reused_store(postgres.shared_server().url())
        return AnyLoopStore(partial(PostgresProvider.from_url, url), url=url)
