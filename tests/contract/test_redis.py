"""The contract on Redis and Valkey, alone and as a cluster."""

from __future__ import annotations

import pytest

from agent_cores.session.storage.redis.commands import Command
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing import ManagerContract, ProviderContract, Store
from agent_cores.session.testing.manager.concurrency import ConcurrencyCases
from agent_cores.session.testing.manager.lost_answers import LostAnswerCases
from agent_cores.session.testing.manager.lost_edits import LostEditCases
from agent_cores.session.testing.manager.processes import ProcessCases
from agent_cores.session.testing.manager.sweeping import SweepCases
from tests.servers.redis import empty_store, shared_cluster, shared_redis, shared_valkey


def _store(address: str, **options: bool) -> Store:
    url = empty_store(address)

    async def spoil(namespace: str, session_id: str) -> None:
        provider = RedisProvider.from_url(url)
        await provider.initialize()
        key = provider._keys.session(namespace, session_id).header  # noqa: SLF001
        command = Command.write("HSET", key, "expires_at", "soon", key=key)
        await provider._wire.call(command)  # noqa: SLF001
        await provider.shutdown()

    return Store(lambda: RedisProvider.from_url(url, **options), url=url, spoil=spoil)


class TestRedisProviderOnValkey(ProviderContract):
    @pytest.fixture
    def store(self) -> Store:
        return _store(shared_valkey().url)


class TestRedisProviderWithoutItsFastPath(ProviderContract):
    @pytest.fixture
    def store(self) -> Store:
        return _store(shared_valkey().url, fast_path=False)


class TestRedisProviderOnRedis7(ProviderContract):
    @pytest.fixture
    def store(self) -> Store:
        return _store(shared_redis().url)


class TestRedisProviderOnACluster(ProviderContract):
    @pytest.fixture
    def store(self) -> Store:
        return _store(shared_cluster().url)


class TestManagerOnValkey(ManagerContract):
    @pytest.fixture
    def store(self) -> Store:
        return _store(shared_valkey().url)


class TestManagerOnRedis7(
    ConcurrencyCases, LostAnswerCases, LostEditCases, ProcessCases, SweepCases
):
    """The topics in which the server's version can make a difference: timing, failures, expiry.

    The commands and scripts themselves run on it in the provider's contract, above; what the verbs
    make of their replies is shown on Valkey.
    """

    @pytest.fixture
    def store(self) -> Store:
        return _store(shared_redis().url)


class TestManagerOnACluster(ManagerContract):
    @pytest.fixture
    def store(self) -> Store:
        return _store(shared_cluster().url)
