"""``ManagerCases``: the fixtures and helpers that the topics of the manager part share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.testing.contract import Contract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store


class ManagerCases(Contract):
    """A manager of the store, opened for the case and closed after it."""

    @pytest.fixture
    async def opened(self, store: Store) -> AsyncIterator[Store]:
        """Return the store, and close what the case opened."""
        yield store
        await store.close()

    @pytest.fixture
    async def manager(self, opened: Store, clock: ManualClock) -> SessionManager:
        """Open a manager."""
        return await opened.open_manager(clock)

    @pytest.fixture
    async def talk(self, manager: SessionManager) -> str:
        """Create a session of Ann's and return its id."""
        return await manager.create_session("ann", session_id="talk")


async def texts(manager: SessionManager, session_id: str, user_id: str = "ann") -> list[object]:
    """Return the content of every message of a session."""
    found: list[object] = []
    seq = 0
    while page := await manager.get_session_messages(session_id, user_id, 1_000, after_seq=seq):
        found += [message.content for message in page]
        seq = page[-1].seq
    return found
