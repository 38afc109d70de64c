"""Fixtures of the Redis provider's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.redis.talks import opened
from tests.servers.redis import RedisServer, empty_store, shared_valkey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent_cores.session.storage.redis.provider import RedisProvider


@pytest.fixture
def server() -> RedisServer:
    """Return the server that the tests share."""
    return shared_valkey()


@pytest.fixture
async def provider(server: RedisServer) -> AsyncIterator[RedisProvider]:
    """Return a provider with its own prefix."""
    async with opened(empty_store(server.url)) as provider:
        yield provider
