"""Connections that break: before the server saw the request, and after it had carried it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import ConflictError, StorageUnavailableError
from agent_cores.session.models.times import utc_now
from agent_cores.session.session_manager import SessionManager
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.testing import suite_settings
from agent_cores.session.testing.samples import creation, new_context, new_header
from tests.postgres.support import append, change, create, message_ids
from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.postgres import empty_store, shared_server

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


async def test_an_append_whose_answer_was_lost_is_told_so_and_its_repetition_is_a_replay(
    provider: PostgresProvider, proxy: CuttingProxy
) -> None:
    header = await create(provider)
    await provider.apply(append(header, "warm"))
    lost = append(header, "lost-message")
    proxy.lose_answer(b"lost-message")
    with pytest.raises(StorageUnavailableError) as caught:
        await provider.apply(lost)
    assert caught.value.outcome_unknown
    assert await message_ids(provider) == ["warm", "lost-message"]
    again = await provider.apply(lost)
    assert again.replayed
    assert await message_ids(provider) == ["warm", "lost-message"]


async def test_an_append_that_never_arrived_is_written_once_when_repeated(
    provider: PostgresProvider, proxy: CuttingProxy
) -> None:
    header = await create(provider)
    await provider.apply(append(header, "warm"))
    proxy.lose_request(b"lost-message")
    with pytest.raises(StorageUnavailableError) as caught:
        await provider.apply(append(header, "lost-message"))
    assert caught.value.outcome_unknown
    assert await message_ids(provider) == ["warm"]
    await provider.apply(append(header, "lost-message"))
    assert await message_ids(provider) == ["warm", "lost-message"]


async def test_a_change_whose_commit_was_executed_but_not_answered_says_that_it_may_be_in(
    provider: PostgresProvider, proxy: CuttingProxy
) -> None:
    header = await create(provider)
    proxy.lose_answer(b"COMMIT\x00")
    with pytest.raises(StorageUnavailableError) as caught:
        await provider.apply(change(header, context_set=new_context(key=1)))
    assert caught.value.outcome_unknown
    look = await provider.read("default", "talk", context=True)
    assert look is not None
    assert look.context == new_context(key=1)


async def test_a_connection_lost_before_the_commit_is_replaced_and_the_change_made_once(
    provider: PostgresProvider, proxy: CuttingProxy
) -> None:
    header = await create(provider)
    proxy.lose_answer(b"new-value")
    applied = await provider.apply(change(header, context_set=new_context(key="new-value")))
    assert proxy.cuts == 1
    assert applied.header.revision == header.revision + 1


async def test_a_read_goes_on_over_another_connection(
    provider: PostgresProvider, proxy: CuttingProxy
) -> None:
    await create(provider, "readable-session")
    proxy.lose_answer(b"readable-session")
    look = await provider.read("default", "readable-session")
    assert look is not None
    assert proxy.cuts == 1


async def test_the_manager_repeats_an_append_and_a_create_and_nothing_is_doubled(
    provider: PostgresProvider, proxy: CuttingProxy
) -> None:
    async with SessionManager(provider, settings=suite_settings()) as manager:
        proxy.lose_answer(b"COMMIT\x00")
        session_id = await manager.create_session("ann")
        await manager.add_message(session_id, "ann", "user", "first")
        proxy.lose_answer(b"the second")
        second = await manager.add_message(session_id, "ann", "user", "the second")
        messages = await manager.get_session_messages(session_id, "ann")
        assert proxy.cuts == 2
        assert [message.content for message in messages] == ["first", "the second"]
        assert second.seq == 2


async def test_a_create_repeated_after_a_lost_answer_is_a_replay_and_another_one_is_refused(
    provider: PostgresProvider, proxy: CuttingProxy
) -> None:
    header = new_header("talk", at=utc_now())
    proxy.lose_answer(b"COMMIT\x00")
    with pytest.raises(StorageUnavailableError):
        await provider.apply(creation(header))
    assert (await provider.apply(creation(header))).replayed
    other = new_header("talk", at=utc_now(), incarnation=2)
    with pytest.raises(Exception, match="exists") as caught:
        await provider.apply(creation(other))
    assert not isinstance(caught.value, ConflictError)


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
