"""A store that lost its last writes: restored from a snapshot, or failed over to a stale replica.

Revisions count on from the older state. That must not restore any rights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import AccessDeniedError, SessionNotFoundError
from agent_cores.session.testing.manager.cases import ManagerCases, texts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store

    Lost = Callable[[SessionManager], Awaitable[object]]

LATER: dict[str, Lost] = {
    "share": lambda m: m.share_session("talk", "ann", "carl", role="editor"),
    "archive": lambda m: m.archive_session("talk", "ann"),
    "visibility": lambda m: m.set_visibility("talk", "ann", "public"),
    "transfer": lambda m: m.transfer_ownership("talk", "ann", "carl"),
    "idle time": lambda m: m.renew_session("talk", "ann", ttl_hours=2),
}
"""Changes of access after the loss. Each results in the revision of a lost change."""


class RestoredStoreCases(ManagerCases):
    """``stale`` is a manager that has the lost state in its cache, ``manager`` one without it."""

    @pytest.fixture
    async def stale(
        self, opened: Store, manager: SessionManager, clock: ManualClock
    ) -> SessionManager:
        """Open another manager."""
        await manager.create_session("ann", session_id="talk")
        return await opened.open_manager(clock)

    @pytest.mark.parametrize("saved_over", [False, True])
    @pytest.mark.parametrize("later", LATER)
    async def test_a_lost_grant_does_not_come_back(
        self,
        *,
        opened: Store,
        manager: SessionManager,
        stale: SessionManager,
        later: str,
        saved_over: bool,
    ) -> None:
        provider = await opened.open()
        snapshot = await provider.load_session("talk")
        assert snapshot is not None
        await manager.share_session("talk", "ann", "bob", role="editor")
        await stale.add_message("talk", "bob", "user", "lost")
        if not saved_over:
            await provider.delete_session("talk")
        await provider.save_session(snapshot)
        await LATER[later](manager)
        with pytest.raises((SessionNotFoundError, AccessDeniedError)):
            await stale.add_message("talk", "bob", "user", "no longer allowed")
        owner = "carl" if later == "transfer" else "ann"
        assert await texts(manager, "talk", owner) == []

    async def test_a_lost_transfer_does_not_come_back(
        self, opened: Store, manager: SessionManager, stale: SessionManager
    ) -> None:
        provider = await opened.open()
        snapshot = await provider.load_session("talk")
        assert snapshot is not None
        await manager.transfer_ownership("talk", "ann", "bob")
        await stale.update_session("talk", "bob", None, {"title": "lost"})
        await provider.delete_session("talk")
        await provider.save_session(snapshot)
        await manager.share_session("talk", "ann", "carl")
        with pytest.raises(SessionNotFoundError):
            await stale.delete_session("talk", "bob")
        assert (await manager.get_session("talk", "ann")).owner_id == "ann"
