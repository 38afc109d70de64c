"""A separate store for each test, on the MariaDB server that the tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.storage.mysql.provider import MysqlProvider
from tests.servers.mariadb import empty_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def url() -> str:
    """Return a store whose tables have no prefix, as the tests here name them."""
    return f"{empty_store()}?table_prefix="


@pytest.fixture
async def provider(url: str) -> AsyncIterator[MysqlProvider]:
    provider = MysqlProvider.from_url(url)
    await provider.initialize()
    yield provider
    await provider.shutdown()
