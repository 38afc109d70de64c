"""A batch that fails as a whole: its changes run one by one, and answer for themselves."""

from __future__ import annotations

import asyncio

import pytest

from agent_cores.session.models import Applied, Change
from agent_cores.session.models.change import State, apply_change
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.sql import batch as sql_batch
from agent_cores.session.testing.samples import new_context
from tests.postgres.support import change, connected, create

pytestmark = pytest.mark.anyio

WAITING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def test_an_error_of_ours_is_the_answer_of_the_change_that_met_it_alone(
    provider: PostgresProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(state: State, change: Change) -> Applied:
        if change.metadata == {"title": "bad"}:
            raise RuntimeError
        return apply_change(state, change)

    monkeypatch.setattr(sql_batch, "apply_change", failing)
    header = await create(provider)
    titles = ("first", "bad", "last")
    answers = await asyncio.gather(
        *(provider.apply(change(header, metadata={"title": title})) for title in titles),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Applied, RuntimeError, Applied]
    look = await provider.read("default", "talk")
    assert look is not None
    assert look.header.title == "last"


async def test_a_session_that_is_locked_for_long_keeps_one_connection_waiting(
    provider: PostgresProvider, url: str
) -> None:
    locked, other = await create(provider), await create(provider, "other")
    writer = PostgresProvider.from_url(url, timeout=2, pool_size=6)
    await writer.initialize()
    changes = [change(locked, context_set=new_context(key=number)) for number in range(20)]
    async with connected(url) as watcher:
        async with connected(url) as connection, connection.transaction():
            await connection.execute("SELECT FROM sessions WHERE session_id = 'talk' FOR UPDATE")
            free = asyncio.ensure_future(
                writer.apply(change(other, context_set=new_context(key=1)))
            )
            waiting = [asyncio.ensure_future(writer.apply(item)) for item in changes]
            while not await watcher.fetchval("SELECT count(*) FROM context"):
                pass  # the batch waited in vain, and its changes run one by one
            samples = [await watcher.fetchval(WAITING) for _ in range(50)]
        await asyncio.gather(free, *waiting)
    assert max(samples) == 1
    look = await provider.read("default", "talk", context=True)
    assert look is not None
    assert look.context == new_context(key=19)
    await writer.shutdown()
