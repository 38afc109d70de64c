"""Lists by creation of a store that an earlier program filled, which kept none."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.models import Query
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.redis.due import DueQueue
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing.samples import creation, new_header
from tests.redis.talks import opened
from tests.servers.redis import RedisServer, empty_store

pytestmark = pytest.mark.anyio
AT = utc_now()


def unavailable(*_: object) -> None:
    raise StorageUnavailableError("for this test")


async def listed(provider: RedisProvider, *tags: str) -> list[str]:
    found = await provider.find(
        Query(namespace="default", at=AT, tags=tags, limit=100, by_creation=True)
    )
    return [header.session_id for header in found.headers]


@pytest.mark.parametrize("failing", [None, "lists_every_session", "pages"])
async def test_sessions_of_an_earlier_program_are_added_in_the_background(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, failing: str | None
) -> None:
    url = empty_store(server.url)
    prefix = url.rpartition("prefix=")[2]
    async with opened(url) as earlier:
        for number in range(20):
            at = AT + timedelta(seconds=number)
            header = new_header(f"s{number:02}", at=at, incarnation=number + 1, tags=("x",))
            await earlier.apply(creation(header))
    with server.client() as client:
        client.delete(*client.scan_iter(f"{prefix}created:*", count=1_000))
    async with opened(url) as provider:
        if failing is not None:
            with monkeypatch.context() as patch, suppress(StorageUnavailableError):
                patch.setattr(DueQueue, failing, unavailable)
                await listed(provider)
                await asyncio.sleep(0.05)  # what goes on in the background fails
        await listed(provider)
        for _ in range(1_000):
            if len(await listed(provider, "x")) == 20:
                break
            await asyncio.sleep(0.01)
        names = [f"s{number:02}" for number in reversed(range(20))]
        assert await listed(provider) == await listed(provider, "x") == names
