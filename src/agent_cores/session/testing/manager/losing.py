"""A manager on a provider that loses responses on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.testing.manager.cases import ManagerCases
from agent_cores.session.testing.manager.messages import said
from agent_cores.session.testing.wrapping import LosingProvider

if TYPE_CHECKING:
    from agent_cores.session.lifecycle import SessionEvent
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store

GUARDS: dict[str, dict[str, Any]] = {
    "none": {},
    "revision": {"expected_revision": 2},
    "last seq": {"expected_last_seq": 1},
    "turn": {"turn": "held"},
    "all": {"expected_revision": 2, "expected_last_seq": 1, "turn": "held"},
}
"""Conditions that hold in the session of ``repeating``."""


class LosingCases(ManagerCases):
    """The fixtures of cases in which a response is lost."""

    @pytest.fixture
    async def losing(self, opened: Store) -> LosingProvider:
        """Wrap a provider."""
        return LosingProvider(await opened.open())

    @pytest.fixture
    async def repeating(
        self, opened: Store, losing: LosingProvider, clock: ManualClock
    ) -> SessionManager:
        """Open a manager on it, with a session of Ann's that has one message and a turn."""
        manager = await opened.open_manager(clock, provider=losing)
        await manager.create_session("ann", session_id="talk")
        await manager.add_messages("talk", "ann", said(1))
        await manager.share_session("talk", "ann", "eve", role="editor")
        await manager.take_turn("talk", "ann", token="held")
        return manager

    @pytest.fixture
    def hook_events(self, repeating: SessionManager) -> list[SessionEvent]:
        """Collect the events that hooks receive."""
        seen: list[SessionEvent] = []
        for name in ("session.created", "session.deleted", "message.appended", "message.updated"):
            repeating.lifecycle.on(name, seen.append)
        return seen
