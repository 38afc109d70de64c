"""An erasure trusts no list: what the lists lost is found in the sessions themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.storage.redis.provider import RedisProvider
from tests.servers.redis import RedisServer, empty_store

LISTS = ("owner:{default/ann}:*", "owner:{default/bob}:*", "subject:{default/bob}")


@pytest.fixture
def url(server: RedisServer) -> str:
    return empty_store(server.url)


@pytest.fixture
async def manager(url: str) -> AsyncIterator[SessionManager]:
    manager = SessionManager(RedisProvider.from_url(url))
    await manager.initialize()
    yield manager
    await manager.shutdown()


def lose_the_lists(server: RedisServer, url: str) -> None:
    """Do what a failover may do to lists: the sessions stay."""
    prefix = url.rpartition("prefix=")[2]
    with server.client() as client:
        keys = [key for pattern in LISTS for key in client.keys(f"{prefix}{pattern}")]
        assert client.delete(*keys) == len(keys) >= 1


async def test_it_finds_the_sessions_and_grants_that_no_list_has(
    server: RedisServer, url: str, manager: SessionManager
) -> None:
    anns = [await manager.create_session("ann", {"tags": ["x"]}) for _ in range(3)]
    bobs = [await manager.create_session("bob") for _ in range(2)]
    await manager.archive_session(bobs[0], "bob")
    for session_id in anns[:2]:
        await manager.share_session(session_id, "ann", "bob", role="editor")
    lose_the_lists(server, url)
    receipt = await manager.erase_user("bob")
    assert (receipt.sessions, receipt.grants, receipt.complete) == (2, 2, True)
    for session_id in anns:
        session = await manager.get_session(session_id, "ann")
        assert session.metadata.grants == {}
    assert (await manager.get_statistics())["sessions"] == 3
    assert (await manager.erase_user("ann")).sessions == 3


async def test_it_walks_through_all_sessions_of_a_namespace_some_at_a_time(
    server: RedisServer, url: str, manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_cores.session.storage.redis.due.PAGE", 50)
    many = (manager.create_session(f"user-{number}") for number in range(1_300))
    ids = await asyncio.gather(*many)
    for number in (0, 700, 1_299):
        await manager.share_session(ids[number], f"user-{number}", "bob")
    lose_the_lists(server, url)
    receipt = await manager.erase_user("bob")
    assert (receipt.grants, receipt.complete) == (3, True)
