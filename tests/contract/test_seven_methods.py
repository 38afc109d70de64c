"""The whole contract on a provider that writes the seven methods and nothing else."""

from __future__ import annotations

import pytest

from agent_cores.session.examples.custom_provider import CustomStorageProvider
from agent_cores.session.testing import ManagerContract, ProviderContract, Store


class TestSevenMethodProvider(ProviderContract):
    @pytest.fixture
    def store(self) -> Store:
        return Store(CustomStorageProvider)


class TestSevenMethodManager(ManagerContract):
    @pytest.fixture
    def store(self) -> Store:
        return Store(CustomStorageProvider)
