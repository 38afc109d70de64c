"""What is gone leaves no row behind, whoever removed it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent_cores.session.models import AccessRole, Grant, Query, SeqRange
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.testing.samples import creation, new_context, new_header
from tests.postgres.support import TABLES, connected, row_counts
from tests.sql_stores import append, change, create

if TYPE_CHECKING:
    from agent_cores.session.models import SessionMetadata

pytestmark = pytest.mark.anyio

NOTHING = dict.fromkeys(TABLES, 0)


async def full_session(provider: PostgresProvider, session_id: str = "talk") -> SessionMetadata:
    grant = Grant(subject="bob", role=AccessRole.VIEWER, granted_by="ann", granted_at=utc_now())
    header = await create(provider, session_id, tags=("x", "y"), grants={"bob": grant})
    header = (await provider.apply(change(header, context_set=new_context(a=1, b=2)))).header
    return (await provider.apply(append(header, "m", "n"))).header


async def purged(url: str) -> dict[str, int]:
    """Return the row counts once the queue of deleted sessions is empty."""
    while (await row_counts(url))["deleted"]:  # noqa: ASYNC110 - only the tables tell
        await asyncio.sleep(0.01)
    return await row_counts(url)  # anew: the tables are counted one after the other


async def test_a_delete_leaves_no_row(provider: PostgresProvider, url: str) -> None:
    header = await full_session(provider)
    await provider.apply(change(header, delete=True))
    assert await purged(url) == NOTHING
    assert (await provider.count("default", utc_now())).sessions == 0


async def test_more_messages_than_one_transaction_removes_all_go(
    provider: PostgresProvider, url: str
) -> None:
    header = await full_session(provider)
    for page in range(6):
        ids = [f"{page}-{number}" for number in range(1000)]
        header = (await provider.apply(append(header, *ids))).header
    await provider.apply(change(header, delete=True))
    assert await purged(url) == NOTHING


async def test_a_new_session_under_an_ended_one_keeps_its_own_rows_only(
    provider: PostgresProvider, url: str
) -> None:
    await full_session(provider)
    later = utc_now() + timedelta(hours=2)
    applied = await provider.apply(creation(new_header("talk", at=later, incarnation=7)))
    assert applied.replaced is not None
    expected = {**NOTHING, "sessions": 1, "owned": 1}
    assert await purged(url) == expected
    assert (await provider.count("default", later)).sessions == 1


async def test_what_a_stopped_program_left_in_the_queue_the_next_one_removes(
    provider: PostgresProvider, url: str
) -> None:
    await full_session(provider)
    async with connected(url) as connection:
        await connection.execute("DELETE FROM sessions; DELETE FROM owned; DELETE FROM shared")
        await connection.execute("INSERT INTO deleted SELECT DISTINCT session_key FROM messages")
    following = PostgresProvider.from_url(url)
    await following.initialize()
    assert await purged(url) == NOTHING
    await following.shutdown()


async def test_a_removal_of_messages_frees_their_ids(provider: PostgresProvider) -> None:
    header = await full_session(provider)
    removal = change(header, remove=SeqRange(2, 2))
    header = (await provider.apply(removal)).header
    again = await provider.apply(append(header, "n"))
    assert [message.seq for message in again.messages] == [3]


async def test_sweepers_at_once_take_each_ended_session_once(
    provider: PostgresProvider, url: str
) -> None:
    other = PostgresProvider.from_url(url)
    await other.initialize()
    await asyncio.gather(
        *(create(provider, f"s{n}", ttl_seconds=10, incarnation=n + 1) for n in range(60))
    )
    later = utc_now() + timedelta(seconds=20)
    taken = await asyncio.gather(
        *(sweeper.due(later, 7, 30) for sweeper in (provider, other) for _ in range(6))
    )
    names = [ended.session_id for batch in taken for ended in batch]
    assert sorted(names) == sorted(f"s{number}" for number in range(60))
    await other.shutdown()


async def test_a_session_that_lives_on_is_put_off_and_not_taken(
    provider: PostgresProvider,
) -> None:
    header = await create(provider, ttl_seconds=10)
    due_at = header.due_at
    assert due_at is not None
    late = append(header, "m")
    later = header.created_at + timedelta(seconds=5)
    await provider.apply(msgspec.structs.replace(late, at=later))
    assert await provider.due(due_at, 10, 30) == []
    look = await provider.read("default", "talk")
    assert look is not None
    assert look.header.due_at == look.header.expires_at == later + timedelta(seconds=10)


async def test_a_listing_walks_on_over_many_ended_sessions_and_reaches_the_living(
    provider: PostgresProvider,
) -> None:
    living = await create(provider, "living")
    later = utc_now() + timedelta(seconds=60)
    await asyncio.gather(
        *(
            create(provider, f"e{number}", created=later, ttl_seconds=1, incarnation=number + 2)
            for number in range(1_100)
        )
    )
    at = later + timedelta(seconds=60)
    query = Query(namespace="default", owner_id="ann", at=at, status=living.status_at(at), limit=1)
    found = await provider.find(query)
    assert found.headers == []
    assert found.next is not None
    page = await provider.find(msgspec.structs.replace(query, after=found.next))
    assert [header.session_id for header in page.headers] == ["living"]
