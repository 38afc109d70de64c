"""The whole contract on the memory provider."""

from __future__ import annotations

import pytest

from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.testing import ManagerContract, ProviderContract, Store


class TestMemoryProvider(ProviderContract):
    @pytest.fixture
    def store(self) -> Store:
        return Store(MemoryProvider)


class TestMemoryManager(ManagerContract):
    @pytest.fixture
    def store(self) -> Store:
        return Store(MemoryProvider)
