"""A deadlock with another program: the server ends our transaction, which is counted and retried.

InnoDB ends the transaction that has written less: here ours, since the other one has written more.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.storage.mysql.provider import MysqlProvider
from agent_cores.session.storage.sql import writing
from agent_cores.session.storage.sql.deadlocks import Deadlocks
from agent_cores.session.storage.sql.dialect import Statement, Step
from tests.sql_stores import append, create, message_ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent_cores.session.storage.mysql.connection import MysqlConnection

pytestmark = pytest.mark.anyio

WRITTEN = [(-1, f"key-{number}", b"1") for number in range(100)]
"""Context of no session."""
WAITING = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"


@pytest.fixture
async def patient(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MysqlProvider]:
    """Return a provider whose batches wait for a lock until there is a deadlock."""
    monkeypatch.setattr(writing, "_SHORT_WAIT", 10.0)
    provider = MysqlProvider.from_url(f"{url}&timeout=100")
    await provider.initialize()
    yield provider
    await provider.shutdown()


async def test_a_deadlock_is_counted_and_each_append_is_there_once(
    patient: MysqlProvider, provider: MysqlProvider, caplog: pytest.LogCaptureFixture
) -> None:
    headers = [await create(provider, name) for name in ("a", "b")]
    with caplog.at_level(logging.WARNING, "agent_cores.session"):
        async with provider.database.transaction() as other:
            await other.run(Step(Statement.SET_CONTEXT, WRITTEN))
            await other.run(Step(Statement.LOCK, [("default", "b")]))
            writes = asyncio.gather(*(patient.apply(append(each, "once")) for each in headers))
            await somebody_waits(other)
            await other.run(Step(Statement.LOCK, [("default", "a")]))
        applied = await writes
    assert patient.deadlocks == 1
    assert provider.deadlocks == 0
    assert "because of a deadlock" in caplog.text
    assert [each.header.last_seq for each in applied] == [1, 1]
    assert [await message_ids(provider, name) for name in ("a", "b")] == [["once"], ["once"]]


async def somebody_waits(connection: MysqlConnection) -> None:
    """Return once a transaction of the server waits for a lock."""
    for _ in range(100):
        [[(waiting,)]] = await connection.execute(WAITING)
        if waiting:
            return
        await asyncio.sleep(0.2)  # the server renews this table only if it was not read for 0.1 s
    raise AssertionError("no transaction waits for a lock")


async def test_many_deadlocks_are_one_warning_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    deadlocks = Deadlocks()
    with caplog.at_level(logging.WARNING, "agent_cores.session"):
        for _ in range(100):
            deadlocks.add()
    assert deadlocks.count == 100
    assert len(caplog.records) == 1
