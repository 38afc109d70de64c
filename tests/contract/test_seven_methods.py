"""The whole contract on a provider that writes the seven methods and nothing else."""

from __future__ import annotations

import pytest

from agent_cores.session.testing import ManagerContract, ProviderContract, Store
from tests.contract.dict_provider import DictProvider


class TestSevenMethodProvider(ProviderContract):
    @pytest.fixture
    def store(self) -> Store:
        return Store(DictProvider)


class TestSevenMethodManager(ManagerContract):
    @pytest.fixture
    def store(self) -> Store:
        return Store(DictProvider)
