"""No two batches deadlock: sessions are locked by rising key, counters by namespace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.sql.errors import DeadlockError
from agent_cores.session.storage.sql.hot import Append, append_all
from agent_cores.session.testing.samples import creation, new_context, new_header
from tests.postgres.support import connected, uncommitted, waits_for_lock
from tests.sql_stores import append, change, create

if TYPE_CHECKING:
    from agent_cores.session.models import Change
    from agent_cores.session.storage.postgres.provider import PostgresProvider

pytestmark = pytest.mark.anyio

BLOCKED_BY = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"
LOCK = "SELECT FROM sessions WHERE session_id = $1 FOR UPDATE"
REWRITE = "UPDATE sessions SET format = format WHERE session_id = $1"
"""A row that is written anew comes last in a scan of the table."""
FREE = "SELECT session_id FROM sessions ORDER BY session_key FOR UPDATE SKIP LOCKED"
EVERY_SHARD = """
INSERT INTO counters SELECT namespace, shard, 0
FROM (VALUES ('early'), ('later')) AS names(namespace), generate_series(0, 15) AS shard
ON CONFLICT DO NOTHING
"""
DEADLOCK = "DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = 'deadlock_detected'; END $$"


@pytest.mark.parametrize("path", ["hot", "generic"])
async def test_a_batch_that_waits_for_a_session_holds_exactly_those_before_it(
    provider: PostgresProvider, url: str, path: str
) -> None:
    headers = [await create(provider, name) for name in ("c", "a", "d", "b")]  # keys rise
    names = [header.session_id for header in headers]
    free: list[list[str]] = []
    async with connected(url) as one, connected(url) as other:
        for name in names:
            changes = [append(header, f"before {name}") for header in reversed(headers)]
            for each in reversed(names):  # to a scan, the last key comes first
                await one.execute(REWRITE, each)
            async with one.transaction():
                await one.execute(LOCK, name)
                batch = asyncio.ensure_future(carry_out(provider, *changes, path=path))
                while not await other.fetchval(BLOCKED_BY, one.get_server_pid()):
                    pass
                free.append([row["session_id"] for row in await other.fetch(FREE)])
            await batch
    assert free == [names[place + 1 :] for place in range(len(names))]


async def test_a_session_that_appears_while_a_batch_waits_is_not_locked_after_later_ones(
    provider: PostgresProvider, url: str
) -> None:
    headers = [await create(provider, "first")]
    late = new_header("late", at=utc_now())
    async with connected(url) as one, connected(url) as other:
        first = one.transaction()
        async with uncommitted(provider, creation(late)):
            last = await create(provider, "last", namespace="other")  # its row comes after late's
            headers += [late, last]
            await first.start()
            await one.execute(LOCK, "first")
            writes = [
                asyncio.ensure_future(provider.apply(change(item, context_set=new_context(a=1))))
                for item in headers
            ]
            await asyncio.to_thread(asyncio.run, waits_for_lock(url))
        async with other.transaction():
            await other.execute(LOCK, "late")
            await first.commit()
            while not await one.fetchval(BLOCKED_BY, other.get_server_pid()):
                pass
            await other.execute("SET LOCAL lock_timeout = 500")  # less than deadlocks are left
            await other.execute(LOCK, "last")
        applied = await asyncio.gather(*writes)
    assert [item.header.revision for item in applied] == [2, 2, 2]


async def test_a_batch_that_waits_to_count_in_one_namespace_holds_no_count_of_a_later_one(
    provider: PostgresProvider, url: str
) -> None:
    early = await create(provider, namespace="early")
    later = await create(provider, namespace="later")
    batch = [append(early, "m"), change(later, delete=True), change(early, delete=True)]
    count = "SELECT FROM counters WHERE namespace = $1 FOR UPDATE NOWAIT"
    async with connected(url) as one, connected(url) as other:
        await one.execute(EVERY_SHARD)
        async with one.transaction():
            await one.execute(count, "early")
            waiting = asyncio.ensure_future(carry_out(provider, *batch))
            while not await other.fetchval(BLOCKED_BY, one.get_server_pid()):
                pass
            await other.execute(count, "later")
        await waiting
        assert await other.fetchval("SELECT sum(sessions) FROM counters") == 0


async def test_a_deadlock_is_counted(provider: PostgresProvider) -> None:
    with pytest.raises(DeadlockError):
        async with provider.database.transaction() as transaction:
            await transaction.script(DEADLOCK)
    assert provider.deadlocks == 1


async def carry_out(provider: PostgresProvider, *changes: Change, path: str = "generic") -> None:
    """Apply changes in one transaction, all of them."""
    if path == "generic":
        async with uncommitted(provider, *changes):
            return
    database = provider.database
    appends = [item for item in map(Append.of, changes) if item is not None]
    applied = await append_all(
        database, appends, sent_at=None, deadline=database.deadline(), lock_wait=database.timeout
    )
    assert [item is not None for item in applied] == [True] * len(changes)
