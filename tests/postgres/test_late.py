"""Writes that reach the server late: it judges them by the time that has passed."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent_cores.session.errors import SessionExpiredError, StaleHeaderError
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.postgres.provider import PostgresProvider
from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.postgres import empty_store, shared_server
from tests.sql_stores import append, create, message_ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent_cores.session.models import Applied, Change, SessionMetadata

pytestmark = pytest.mark.anyio

LIFE = 0.8
DELAY = LIFE + 0.2
OFFSETS = [timedelta(0), timedelta(hours=2), timedelta(hours=-2)]
"""By how much the program's clock differs from the server's."""


@pytest.fixture
async def proxy() -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy(shared_server().port) as proxy:
        yield proxy


@pytest.fixture(params=["hot", "generic"])
async def provider(
    proxy: CuttingProxy, request: pytest.FixtureRequest
) -> AsyncIterator[PostgresProvider]:
    url = empty_store(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable")
    provider = PostgresProvider.from_url(url, fast_path=request.param == "hot")
    await provider.initialize()
    await provider.apply(append(await create(provider, "warm"), "m"))
    yield provider
    await provider.shutdown()


def decided(header: SessionMetadata, offset: timedelta, message_id: str = "late") -> Change:
    """Return an append that was decided now, by a clock that is wrong by that much."""

    def clock() -> datetime:
        return utc_now() + offset

    return msgspec.structs.replace(append(header, message_id), at=clock(), clock=clock)


async def arrive_late(provider: PostgresProvider, proxy: CuttingProxy, change: Change) -> Applied:
    """Send a change that reaches the server only after a while."""
    proxy.fall_silent()
    sent = asyncio.ensure_future(provider.apply(change))
    await asyncio.sleep(DELAY)
    proxy.go_on()
    return await sent


@pytest.mark.parametrize("offset", OFFSETS)
async def test_a_session_that_ended_on_the_way_stays_ended(
    provider: PostgresProvider, proxy: CuttingProxy, offset: timedelta
) -> None:
    header = await create(provider, created=utc_now() + offset, ttl_seconds=LIFE)
    with pytest.raises(SessionExpiredError):
        await arrive_late(provider, proxy, decided(header, offset))
    assert await message_ids(provider) == []


@pytest.mark.parametrize("offset", OFFSETS)
async def test_a_grant_that_ended_on_the_way_no_longer_writes(
    provider: PostgresProvider, proxy: CuttingProxy, offset: timedelta
) -> None:
    header = await create(provider, created=utc_now() + offset)
    change = decided(header, offset)
    until = change.at + timedelta(seconds=LIFE)
    with pytest.raises(StaleHeaderError):
        await arrive_late(provider, proxy, msgspec.structs.replace(change, valid_until=until))
    assert await message_ids(provider) == []


@pytest.mark.parametrize("offset", OFFSETS)
async def test_what_lives_is_written_however_late_whatever_the_clocks_say(
    provider: PostgresProvider, proxy: CuttingProxy, offset: timedelta
) -> None:
    header = await create(provider, created=utc_now() + offset, ttl_seconds=10 * LIFE)
    applied = await arrive_late(provider, proxy, decided(header, offset))
    assert applied.messages[0].seq == 1
    await provider.apply(decided(applied.header, offset, "next"))
    assert await message_ids(provider) == ["late", "next"]
