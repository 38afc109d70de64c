"""A store of its own for each test, on the server that the tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.storage.postgres_provider import PostgresProvider
from tests.servers.postgres import empty_store, shared_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def url() -> str:
    return empty_store(shared_server().url())


@pytest.fixture
async def provider(url: str) -> AsyncIterator[PostgresProvider]:
    provider = PostgresProvider.from_url(url)
    await provider.initialize()
    yield provider
    await provider.shutdown()
