"""Pages of listings: how many round trips one costs, and what stands on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import OverloadedError
from agent_cores.session.models import AccessRole, Cursor, Grant, Query, SessionStatus
from agent_cores.session.models.times import to_millis, utc_now
from agent_cores.session.storage.redis.commands import Command
from agent_cores.session.storage.redis.connection import Node
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing.samples import creation, new_header
from tests.redis.talks import opened
from tests.servers.redis import RedisServer, empty_store

MANY = 1_050
ANN: dict[str, Any] = {"namespace": "default", "owner_id": "ann"}


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many commands each flight of reads held: one after another, so round trips."""
    sizes: list[int] = []
    exchange = Node._exchange  # noqa: SLF001 - counted here, not timed

    async def counted(self: Node, commands: Sequence[Command]) -> list[Any]:
        if commands[0].reads:
            sizes.append(len(commands))
        return await exchange(self, commands)

    monkeypatch.setattr(Node, "_exchange", counted)
    return sizes


async def _fill(
    provider: RedisProvider,
    at: datetime,
    number: int,
    *,
    name: str = "talk",
    ttl_seconds: int | None = None,
    **fields: Any,  # noqa: ANN401 - fields of a header
) -> None:
    """Create sessions, a millisecond apart, the first one the newest."""
    headers = [
        new_header(
            f"{name}-{n}", at=at - timedelta(milliseconds=n), ttl_seconds=ttl_seconds, **fields
        )
        for n in range(number)
    ]
    for first in range(0, number, 500):
        some = headers[first : first + 500]
        await asyncio.gather(*(provider.apply(creation(header)) for header in some))


async def test_a_page_is_two_round_trips_whatever_it_lists(
    trips: list[int], provider: RedisProvider
) -> None:
    at = utc_now()
    grant = Grant(subject="bob", role=AccessRole.VIEWER, granted_by="ann", granted_at=at)
    shared: dict[str, Any] = {"tags": ("x", "y"), "grants": {"bob": grant}}
    await _fill(provider, at, MANY, name="new", **shared)
    await _fill(provider, at, MANY, name="old", archived=True, **shared)
    archived = SessionStatus.ARCHIVED
    listings = [
        Query(**ANN, at=at, status=SessionStatus.ACTIVE),
        Query(**ANN, at=at, status=SessionStatus.ACTIVE, tags=("x",)),
        Query(**ANN, at=at, status=SessionStatus.ACTIVE, tags=("x", "y")),
        Query(**ANN, at=at, status=archived),
        Query(**ANN, at=at, status=archived, tags=("y",)),
        Query(**ANN, at=at),
        Query(**ANN, at=at, tags=("x", "y")),
        Query(namespace="default", at=at, subjects=("bob",)),
        Query(namespace="default", at=at, subjects=("bob", "group:a"), status=archived),
    ]
    await provider.find(listings[0])  # the server knows the scripts from now on
    for query in listings:
        for limit, offset in ((10, 0), (1_000, 0), (10, 900)):
            trips.clear()
            found = await provider.find(_with(query, limit=limit, offset=offset))
            assert 1 <= len(trips) <= 2, (query, limit, offset)
            assert len(found.headers) == limit, (query, limit, offset)


def _with(query: Query, **fields: Any) -> Query:  # noqa: ANN401 - fields of a query
    return msgspec.structs.replace(query, **fields)


async def test_tags_that_never_meet_are_walked_a_page_at_a_time_after_a_cursor(
    server: RedisServer, trips: list[int]
) -> None:
    at = utc_now()
    url = empty_store(server.url)
    prefix = url.rpartition("prefix=")[2]
    with server.client() as client:
        for tag in ("x", "y"):
            names = {f"{tag}{n}\0{n + 1}": to_millis(at) - n for n in range(25_000)}
            client.zadd(f"{prefix}owner:{{default/ann}}:active:tag:{tag}", names)
    async with opened(url) as provider:
        query = Query(**ANN, at=at, tags=("x", "y"))
        await provider.find(query)
        trips.clear()
        found = await provider.find(query)
        assert found.headers == []
        assert 20 <= len(trips) <= 42  # nobody walks on for ever, without a cursor either
        pages = 0
        while found.next is not None:
            trips.clear()
            found = await provider.find(_with(query, after=found.next))
            pages += 1
            assert found.headers == []
            assert 1 <= len(trips) <= 2
    assert 4 <= pages <= 6


async def test_an_offset_is_used_up_before_a_page_with_several_tags_ends(
    server: RedisServer,
) -> None:
    at = utc_now()
    url = empty_store(server.url)
    prefix = url.rpartition("prefix=")[2]
    with server.client() as client:
        names = {f"x{n}\0{n + 1}": to_millis(at) + 1 + n for n in range(2_500)}
        client.zadd(f"{prefix}owner:{{default/ann}}:active:tag:x", names)
        names = {f"y{n}\0{n + 1}": to_millis(at) + 1 + n for n in range(2_500)}
        client.zadd(f"{prefix}owner:{{default/ann}}:active:tag:y", names)
    async with opened(url) as provider:
        await _fill(provider, at, 30, tags=("x", "y"))
        found = await provider.find(Query(**ANN, at=at, tags=("x", "y"), offset=5))
        assert [header.session_id for header in found.headers] == [
            f"talk-{number}" for number in range(5, 15)
        ]


async def test_ended_sessions_shorten_a_page_after_a_cursor_and_hide_nothing(
    trips: list[int], provider: RedisProvider
) -> None:
    at = utc_now()
    await _fill(provider, at, 60, name="short", ttl_seconds=60)
    await _fill(provider, at - timedelta(seconds=1), 12, name="long")
    query = Query(**ANN, at=at + timedelta(seconds=61), status=SessionStatus.ACTIVE)
    await provider.find(_with(query, limit=1))
    names: list[str] = []
    after: Cursor | None = Cursor(to_millis(at) + 1, "short-0")
    while after is not None:
        trips.clear()
        found = await provider.find(_with(query, after=after))
        names += [header.session_id for header in found.headers]
        assert 1 <= len(trips) <= 2
        after = found.next
    assert names == [f"long-{number}" for number in range(12)]


@pytest.mark.parametrize("tags", [(), ("x",), ("x", "y")])
async def test_pages_by_offset_are_full_and_skip_nothing_right_after_changes(
    trips: list[int], provider: RedisProvider, tags: tuple[str, ...]
) -> None:
    at = utc_now()
    await _fill(provider, at, 40, name="short", ttl_seconds=60, tags=("x", "y"))
    await _fill(provider, at - timedelta(seconds=1), 25, name="long", tags=("x", "y"))
    query = Query(
        **ANN, at=at + timedelta(seconds=61), status=SessionStatus.ACTIVE, limit=10, tags=tags
    )
    await provider.find(query)  # the server knows the scripts from now on
    names: list[str] = []
    for offset in (0, 10, 20):
        trips.clear()
        found = await provider.find(_with(query, offset=offset))
        names += [header.session_id for header in found.headers]
        assert len(found.headers) == min(10, 25 - offset)
        assert (found.next is None) is (offset == 20)
        assert len(trips) <= 6
    assert names == [f"long-{number}" for number in range(25)]


@pytest.mark.parametrize("listing", [ANN, {"namespace": "default", "subjects": ("bob",)}])
@pytest.mark.parametrize("offset", [3, 5_000, 2**31, 2**53 + 1, 2**63 - 2, 2**63, 2**70])
async def test_an_offset_past_the_end_gives_an_empty_page(
    provider: RedisProvider, offset: int, listing: dict[str, Any]
) -> None:
    at = utc_now()
    grant = Grant(subject="bob", role=AccessRole.VIEWER, granted_by="ann", granted_at=at)
    await _fill(provider, at, 3, grants={"bob": grant}, tags=("x", "y"))
    for fields in ({}, {"tags": ("x", "y")}, {"namespace": None}):
        query = _with(Query(**listing, at=at, offset=offset), **fields)
        found = await provider.find(query)
        assert (found.headers, found.next) == ([], None)


async def test_an_offset_larger_than_the_queues_is_answered(server: RedisServer) -> None:
    at = utc_now()
    async with opened(f"{empty_store(server.url)}&max_queued=150") as provider:
        for first in range(0, 200, 25):
            await _fill(provider, at - timedelta(seconds=first), 25, name=f"at{first:03}")
        found = await provider.find(Query(**ANN, at=at, offset=180))
        assert [header.session_id for header in found.headers] == [
            f"at175-{number}" for number in range(5, 15)
        ]


async def test_a_store_of_many_namespaces_is_swept_and_counted(server: RedisServer) -> None:
    at = utc_now()
    url = empty_store(server.url)
    with server.client() as client:
        names = [f"team-{number}" for number in range(1_300)]
        client.sadd(f"{url.rpartition('prefix=')[2]}due:namespaces", *names)
    async with opened(url) as provider:
        await _fill(provider, at, 3, ttl_seconds=60)
        later = at + timedelta(seconds=61)
        counts = await provider.count(None, later)
        assert (counts.sessions, counts.due) == (3, 3)
        assert len(await provider.due(later, 10, 30)) == 3


async def test_a_list_with_contexts_and_messages_is_one_call_in_the_queue(
    server: RedisServer,
) -> None:
    async with SessionManager(empty_store(server.url), max_queued=50) as manager:
        for number in range(100):
            messages = [{"role": "user", "content": "Hello"}]
            await manager.create_session("ann", session_id=f"s{number}", messages=messages)
        names = [f"s{number}" for number in range(0, 100, 7)]
        for name in names:  # of these the updated messages are read as well
            [message] = await manager.get_session_messages(name, "ann")
            await manager.update_message(name, "ann", message.seq, content="changed")

        async def listed() -> list[str]:
            page = await manager.list_user_sessions(
                "ann", limit=100, include=["context", "last_message"]
            )
            changed = [s.id for s in page for one in s.messages or () if one.content == "changed"]
            assert sorted(changed) == sorted(names)
            return [session.id for session in page]

        pages = await asyncio.gather(*(listed() for _ in range(40)))
        assert {len(page) for page in pages} == {100}
        outcomes = await asyncio.gather(*(listed() for _ in range(150)), return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, BaseException)]
        assert 0 < len(refused) < 150
        assert all(isinstance(one, OverloadedError) for one in refused)
