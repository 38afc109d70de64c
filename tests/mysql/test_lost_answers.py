"""Connections that break: before the server saw the request, and after it had carried it out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.storage.mysql.provider import MysqlProvider
from tests.lost_answers import LostAnswers
from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.mariadb import shared_server
from tests.sql_stores import append, create, message_ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

QUIT = b"\x01\x00\x00\x00\x01"
"""The packet of the protocol by which a client leaves."""


@pytest.fixture
async def proxy() -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy(shared_server().port, farewell=QUIT) as proxy:
        yield proxy


@pytest.fixture
async def provider(proxy: CuttingProxy) -> AsyncIterator[MysqlProvider]:
    server = shared_server()
    url = server.url(server.new_database()).replace(f":{server.port}/", f":{proxy.port}/")
    provider = MysqlProvider.from_url(url)
    await provider.initialize()
    yield provider
    await provider.shutdown()


class TestLostAnswers(LostAnswers):
    commit = b";COMMIT"  # without the semicolon, READ COMMITTED has it too
    within = b"FOR UPDATE"
    created = commit


async def test_a_silent_server_is_given_up_at_the_deadline_and_the_connection_with_it(
    provider: MysqlProvider, proxy: CuttingProxy
) -> None:
    header = await create(provider)
    provider.database.timeout = 0.3
    proxy.fall_silent()
    with pytest.raises(StorageUnavailableError):
        await message_ids(provider)
    proxy.go_on()
    provider.database.timeout = 10.0
    await provider.apply(append(header, "after"))
    assert await message_ids(provider) == ["after"]


async def test_a_cancelled_read_leaves_no_response_for_the_next_one(
    provider: MysqlProvider, proxy: CuttingProxy
) -> None:
    header = await create(provider)
    await provider.apply(append(header, "m"))
    proxy.fall_silent()
    reads = [asyncio.create_task(message_ids(provider)) for _ in range(10)]
    await asyncio.sleep(0.05)
    for read in reads:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    proxy.go_on()
    await create(provider, "other")
    assert await message_ids(provider, "other") == []
    assert await message_ids(provider) == ["m"]
