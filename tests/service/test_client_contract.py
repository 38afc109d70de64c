"""Every case that a manager has to pass, through the client and a live service."""

from __future__ import annotations

import pytest

from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.testing import ManagerContract, Store
from tests.service.served import ServedStore


class TestServedManager(ManagerContract):
    @pytest.fixture
    def store(self) -> Store:
        return ServedStore(MemoryProvider)
