"""What takes more than one write: rewinding past the bound of a change."""

from __future__ import annotations

import pytest

from agent_cores.session.models import SeqRange
from agent_cores.session.session_manager import SessionManager
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.testing import ManualClock, suite_settings
from agent_cores.session.testing.wrapping import LosingProvider


@pytest.fixture
async def losing() -> LosingProvider:
    return LosingProvider(MemoryProvider())


@pytest.fixture
async def manager(losing: LosingProvider) -> SessionManager:
    return SessionManager(losing, settings=suite_settings(), clock=ManualClock())


async def test_a_rewind_past_ten_thousand_messages_takes_the_tail_first(
    manager: SessionManager, losing: LosingProvider
) -> None:
    talk = await manager.create_session("ann")
    batch = [{"role": "user", "content": "x"}] * 1_000
    for _ in range(21):
        await manager.add_messages(talk, "ann", batch)
    seqs: list[int | None] = []
    manager.lifecycle.on("session.rewound", lambda event: seqs.append(event.seq))
    before = len(losing.applied)
    session = await manager.rewind_session(talk, "ann", 500, expected_revision=1)
    ranges = [change.remove for change in losing.applied[before:]]
    assert [(part.first, part.last) for part in ranges if isinstance(part, SeqRange)] == [
        (501, 21_000),
        (501, 11_000),
        (501, 1_000),
    ]
    assert seqs == [500]
    assert (session.metadata.message_count, session.metadata.last_seq) == (500, 21_000)
    assert (await manager.add_message(talk, "ann", "user", "on")).seq == 21_001


async def test_keeping_the_last_hundred_removes_the_oldest_first(
    manager: SessionManager, losing: LosingProvider
) -> None:
    talk = await manager.create_session("ann")
    batch = [{"role": "user", "content": "x"}] * 1_000
    for _ in range(21):
        await manager.add_messages(talk, "ann", batch)
    seqs: list[int | None] = []
    manager.lifecycle.on("message.deleted", lambda event: seqs.append(event.seq))
    before = len(losing.applied)
    assert await manager.delete_messages(talk, "ann", keep_last=100, expected_last_seq=21_000) == (
        20_900
    )
    assert len(losing.applied) - before == 3
    assert seqs == list(range(1, 20_901))
    page = await manager.get_session_messages(talk, "ann", 1_000)
    assert [message.seq for message in page] == list(range(20_901, 21_001))
