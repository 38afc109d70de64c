"""A hundred callers in four processes write to twenty sessions, and none deadlocks."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.sql.errors import DeadlockError
from agent_cores.session.testing.samples import creation, new_context, new_header
from tests.postgres.hammer import SESSIONS
from tests.postgres.support import connected, consecutive_ids, uncommitted, waits_for_lock
from tests.sql_stores import append, change, create

if TYPE_CHECKING:
    from agent_cores.session.models import Change
    from agent_cores.session.storage.postgres.provider import PostgresProvider

pytestmark = pytest.mark.anyio

SECONDS = "60" if os.environ.get("CI") else "6"
PROCESSES = 4
CALLERS = 25
BLOCKED_BY = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"
LOCK = "SELECT FROM sessions WHERE session_id = $1 FOR UPDATE"
EVERY_SHARD = """
INSERT INTO counters SELECT namespace, shard, 0
FROM (VALUES ('early'), ('later')) AS names(namespace), generate_series(0, 15) AS shard
ON CONFLICT DO NOTHING
"""
DEADLOCK = "DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = 'deadlock_detected'; END $$"
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


async def test_nobody_deadlocks_and_every_acknowledged_message_is_there_once(
    provider: PostgresProvider, url: str
) -> None:
    for number in range(SESSIONS):
        await create(provider, f"s{number}", incarnation=number + 1)
    async with connected(url) as connection:
        before = await connection.fetchval(DEADLOCKS)
    outputs = await asyncio.gather(*(hammer(url) for _ in range(PROCESSES)))
    async with connected(url) as connection:
        assert await connection.fetchval(DEADLOCKS) == before
    acknowledged = [message_id for output in outputs for message_id in output]
    stored: list[str] = []
    for number in range(SESSIONS):
        stored += await consecutive_ids(provider, f"s{number}")
    assert len(acknowledged) > SESSIONS
    assert sorted(stored) == sorted(acknowledged)


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


async def carry_out(provider: PostgresProvider, *changes: Change) -> None:
    async with uncommitted(provider, *changes):
        pass


async def hammer(url: str) -> list[str]:
    """Run one process; return the ids that it was told were stored."""
    command = (sys.executable, "-m", "tests.postgres.hammer", url, SECONDS, str(CALLERS))
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    acknowledged: list[str] = json.loads(out)
    return acknowledged
