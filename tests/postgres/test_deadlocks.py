"""A hundred callers in four processes write to twenty sessions, and none deadlocks."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.models import Window
from tests.postgres.hammer import SESSIONS
from tests.postgres.support import connected, create

if TYPE_CHECKING:
    from agent_cores.session.storage.postgres_provider import PostgresProvider

pytestmark = pytest.mark.anyio

SECONDS = "60" if os.environ.get("CI") else "6"
PROCESSES = 4
CALLERS = 25
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


async def hammer(url: str) -> list[str]:
    """Run one process; return the ids that it was told were stored."""
    command = (sys.executable, "-m", "tests.postgres.hammer", url, SECONDS, str(CALLERS))
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    acknowledged: list[str] = json.loads(out)
    return acknowledged


async def consecutive_ids(provider: PostgresProvider, session_id: str) -> list[str]:
    """Return the ids of all messages, which are numbered without a gap."""
    window = Window(limit=10**9, max_bytes=10**9, after_seq=0)
    look = await provider.read("default", session_id, window=window)
    assert look is not None
    assert look.messages is not None
    assert [message.seq for message in look.messages] == list(range(1, len(look.messages) + 1))
    assert look.header.message_count == look.header.last_seq == len(look.messages)
    return [message.id for message in look.messages]
