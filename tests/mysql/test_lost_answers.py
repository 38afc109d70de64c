"""Connections that break: before the server saw the request, and after it had carried it out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.session_manager import SessionManager
from agent_cores.session.storage.mysql.provider import MysqlProvider
from agent_cores.session.testing import suite_settings
from agent_cores.session.testing.samples import new_context
from tests.mysql.support import append, change, create, message_ids
from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.mariadb import shared_server

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


async def test_an_append_whose_response_was_lost_says_so_and_its_repetition_is_a_replay(
    provider: MysqlProvider, proxy: CuttingProxy
) -> None:
    header = await create(provider)
    await provider.apply(append(header, "warm"))
    lost = append(header, "lost-message")
    proxy.lose_answer(b"lost-message")
    with pytest.raises(StorageUnavailableError) as caught:
        await provider.apply(lost)
    assert caught.value.outcome_unknown
    assert await message_ids(provider) == ["warm", "lost-message"]
    assert (await provider.apply(lost)).replayed
    assert await message_ids(provider) == ["warm", "lost-message"]


async def test_an_append_that_never_arrived_is_written_once_when_repeated(
    provider: MysqlProvider, proxy: CuttingProxy
) -> None:
    header = await create(provider)
    proxy.lose_request(b"lost-message")
    with pytest.raises(StorageUnavailableError) as caught:
        await provider.apply(append(header, "lost-message"))
    assert caught.value.outcome_unknown
    assert await message_ids(provider) == []
    await provider.apply(append(header, "lost-message"))
    assert await message_ids(provider) == ["lost-message"]


async def test_a_change_whose_commit_was_executed_but_not_answered_says_that_it_may_be_in(
    provider: MysqlProvider, proxy: CuttingProxy
) -> None:
    header = await create(provider)
    proxy.lose_answer(b"COMMIT")
    with pytest.raises(StorageUnavailableError) as caught:
        await provider.apply(change(header, context_set=new_context(key=1)))
    assert caught.value.outcome_unknown
    snapshot = await provider.read("default", "talk", context=True)
    assert snapshot is not None
    assert snapshot.context == new_context(key=1)


async def test_a_connection_lost_before_the_commit_is_replaced_and_the_change_made_once(
    provider: MysqlProvider, proxy: CuttingProxy
) -> None:
    header = await create(provider)
    proxy.lose_answer(b"FOR UPDATE")
    applied = await provider.apply(change(header, context_set=new_context(key="new-value")))
    assert proxy.cuts == 1
    assert applied.header.revision == header.revision + 1


async def test_a_read_is_repeated_on_another_connection(
    provider: MysqlProvider, proxy: CuttingProxy
) -> None:
    await create(provider, "readable-session")
    proxy.lose_answer(b"readable-session")
    assert await message_ids(provider, "readable-session") == []
    assert proxy.cuts == 1


async def test_the_manager_repeats_an_append_and_a_create_and_nothing_is_doubled(
    provider: MysqlProvider, proxy: CuttingProxy
) -> None:
    async with SessionManager(provider, settings=suite_settings()) as manager:
        proxy.lose_answer(b"COMMIT")
        session_id = await manager.create_session("ann")
        await manager.add_message(session_id, "ann", "user", "first")
        proxy.lose_answer(b"the second")
        second = await manager.add_message(session_id, "ann", "user", "the second")
        messages = await manager.get_session_messages(session_id, "ann")
        assert proxy.cuts == 2
        assert [message.content for message in messages] == ["first", "the second"]
        assert second.seq == 2


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
