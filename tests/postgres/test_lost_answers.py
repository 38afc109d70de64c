"""Connections that break: before the server saw the request, and after it had carried it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.session_manager import SessionManager
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.testing import suite_settings
from tests.lost_answers import LostAnswers
from tests.round_trips import of_an_append_that_expects_a_version, of_replace_and_pop
from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.postgres import empty_store, shared_server
from tests.sql_stores import append, create, message_ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


@pytest.fixture
async def proxy() -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy(shared_server().port) as proxy:
        yield proxy


@pytest.fixture
async def provider(proxy: CuttingProxy) -> AsyncIterator[PostgresProvider]:
    url = empty_store(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable")
    provider = PostgresProvider.from_url(url)
    await provider.initialize()
    yield provider
    await provider.shutdown()


class TestLostAnswers(LostAnswers):
    commit = b"COMMIT\x00"
    within = b"new-value"
    created = b'"owner_id":"ann"'


async def test_a_lone_append_is_one_round_trip_and_one_transaction(
    provider: PostgresProvider, proxy: CuttingProxy
) -> None:
    header = await create(provider)
    header = (await provider.apply(append(header, "warm"))).header
    before = proxy.round_trips, int(shared_server().sql(_NEXT_TRANSACTION))
    await provider.apply(append(header, "counted"))
    after = proxy.round_trips, int(shared_server().sql(_NEXT_TRANSACTION))
    assert after[0] - before[0] == 1
    assert after[1] - before[1] == 1


async def test_header_context_and_messages_come_in_one_round_trip(
    provider: PostgresProvider, proxy: CuttingProxy
) -> None:
    header = await create(provider)
    await provider.apply(append(header, *(f"m{number}" for number in range(60))))
    await message_ids(provider)
    before = proxy.round_trips
    assert len(await message_ids(provider)) == 60
    assert proxy.round_trips == before + 1


async def test_the_manager_adds_nothing_to_the_round_trip_of_an_append_or_a_read(
    provider: PostgresProvider, proxy: CuttingProxy
) -> None:
    async with SessionManager(provider, settings=suite_settings()) as manager:
        session_id = await manager.create_session("ann")
        for number in range(60):
            await manager.add_message(session_id, "ann", "user", f"warm {number}")
        await manager.get_session_messages(session_id, "ann", limit=50)
        before = proxy.round_trips, int(shared_server().sql(_NEXT_TRANSACTION))
        await manager.add_message(session_id, "ann", "user", "counted")
        after = proxy.round_trips, int(shared_server().sql(_NEXT_TRANSACTION))
        assert (after[0] - before[0], after[1] - before[1]) == (1, 1)
        assert len(await manager.get_session_messages(session_id, "ann", limit=50)) == 50
        assert proxy.round_trips == after[0] + 1


_NEXT_TRANSACTION = "SELECT pg_snapshot_xmax(pg_current_snapshot())"


async def test_an_append_that_expects_a_version_takes_one_round_trip(
    provider: PostgresProvider, proxy: CuttingProxy
) -> None:
    assert await of_an_append_that_expects_a_version(provider, proxy) == 1


async def test_a_replacement_takes_two_round_trips_and_a_pop_two(
    provider: PostgresProvider, proxy: CuttingProxy
) -> None:
    assert await of_replace_and_pop(provider, proxy) == {"replace": 2, "pop": 2}
