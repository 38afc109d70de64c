"""Hooks run outside every transaction: a slow one keeps no row from anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.testing import ManualClock, suite_settings
from tests.postgres.support import connected

if TYPE_CHECKING:
    from agent_cores.session import SessionEvent
    from agent_cores.session.storage.postgres.provider import PostgresProvider

pytestmark = pytest.mark.anyio

OPEN = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'
"""


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "swept"])
async def test_while_a_session_is_told_to_have_ended_no_transaction_is_open(
    provider: PostgresProvider, url: str, replaced: bool
) -> None:
    clock, events = ManualClock(), []

    async def look(event: SessionEvent) -> None:
        async with connected(url) as connection:
            looks = [await connection.fetchval(OPEN) for _ in range(50)]
            await connection.execute("SELECT FROM sessions FOR UPDATE NOWAIT")
        events.append(
            (event.session_id, min(looks))
        )  # what is purged meanwhile has one for a moment

    async with SessionManager(provider, settings=suite_settings(), clock=clock) as manager:
        manager.lifecycle.on("session.expired", look)
        await manager.create_session("ann", session_id="talk", ttl_hours=1)
        clock.advance(3600)
        if replaced:
            await manager.create_session("ann", session_id="talk")
        else:
            await manager.clean_expired_sessions()
    assert events == [("talk", 0)]
