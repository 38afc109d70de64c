"""What appending, replacing and popping messages costs on Redis."""

from __future__ import annotations

import pytest

from tests.redis.talks import opened
from tests.round_trips import of_an_append_that_expects_a_version, of_replace_and_pop
from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.redis import RedisServer, empty_store

pytestmark = pytest.mark.anyio


async def test_a_replacement_takes_two_round_trips_and_a_pop_two(server: RedisServer) -> None:
    async with CuttingProxy(server.port) as proxy:
        url = empty_store(server.url).replace(f":{server.port}", f":{proxy.port}")
        async with opened(url) as provider:
            assert await of_replace_and_pop(provider, proxy) == {"replace": 2, "pop": 2}


async def test_an_append_that_expects_a_version_takes_one_round_trip(server: RedisServer) -> None:
    async with CuttingProxy(server.port) as proxy:
        url = empty_store(server.url).replace(f":{server.port}", f":{proxy.port}")
        async with opened(url) as provider:
            assert await of_an_append_that_expects_a_version(provider, proxy) == 1
