"""``ProviderCases``: the fixtures of the provider part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.testing.beside import Beside
from agent_cores.session.testing.contract import Contract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.store import Store


class ProviderCases(Contract):
    """A provider of the store, opened for the case and closed after it."""

    @pytest.fixture
    async def provider(self, store: Store) -> AsyncIterator[StorageProvider]:
        """Open a provider."""
        yield await store.open()
        await store.close()

    @pytest.fixture
    def beside(self, provider: StorageProvider) -> Beside:
        """Pair the provider with the oracle."""
        return Beside(provider)
