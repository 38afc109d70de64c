"""A separate store for each test, on the server that the tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.storage.postgres.provider import PostgresProvider
from tests.servers.postgres import empty_store, shared_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def url() -> str:
    """Return a store whose tables have no prefix, as the tests here name them."""
    return empty_store(f"{shared_server().url()}?table_prefix=")


@pytest.fixture
async def provider(url: str) -> AsyncIterator[PostgresProvider]:
    provider = PostgresProvider.from_url(url)
    await provider.initialize()
    yield provider
    await provider.shutdown()
