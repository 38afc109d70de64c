"""One session whose record cannot be read: all others keep working."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import CorruptRecordError, SessionNotFoundError
from agent_cores.session.testing.manager.cases import ManagerCases
from agent_cores.session.testing.wrapping import SpoiltProvider

if TYPE_CHECKING:
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store

READABLE = ["s0", "s1", "s3", "s4", "s5"]


class UnreadableCases(ManagerCases):
    """Six sessions of Ann's, shared with Bob, of which ``s2`` is corrupt."""

    @pytest.fixture
    async def spoilt(self, opened: Store, clock: ManualClock) -> SessionManager:
        """Return a manager that has not read the sessions yet."""
        provider, spoil = None, opened.spoil
        if spoil is None:
            provider = SpoiltProvider(await opened.open())
            spoil = provider.spoil
        async with await opened.open_manager(clock, provider=provider) as manager:
            for number in range(6):
                await manager.create_session("ann", session_id=f"s{number}", ttl_hours=1)
                await manager.share_session(f"s{number}", "ann", "bob")
        await spoil(manager.namespace, "s2")
        return await opened.open_manager(clock, provider=provider)

    async def test_the_session_itself_is_refused_by_name(self, spoilt: SessionManager) -> None:
        with pytest.raises(CorruptRecordError) as refused:
            await spoilt.get_session("s2", "ann")
        assert (refused.value.namespace, refused.value.session_id) == ("default", "s2")

    async def test_the_listings_of_its_owner_and_of_others_show_the_rest(
        self, spoilt: SessionManager
    ) -> None:
        own = await spoilt.list_user_sessions("ann")
        assert sorted(session.id for session in own) == READABLE
        shared = await spoilt.list_user_sessions("bob", shared=True)
        assert sorted(session.id for session in shared) == READABLE
        own = await spoilt.list_user_sessions("ann", include=["context", "last_message"])
        assert sorted(session.id for session in own) == READABLE

    async def test_the_erasure_of_its_owner_removes_the_rest_and_names_it(
        self, spoilt: SessionManager
    ) -> None:
        receipt = await spoilt.erase_user("ann")
        assert (receipt.sessions, receipt.complete, receipt.failed) == (5, False, ("s2",))
        for session_id in READABLE:
            with pytest.raises(SessionNotFoundError):
                await spoilt.get_session(session_id, "ann")
        again = await spoilt.erase_user("ann")
        assert (again.sessions, again.complete, again.failed) == (0, False, ("s2",))

    async def test_the_erasure_of_a_guest_removes_the_other_grants_and_names_it(
        self, spoilt: SessionManager
    ) -> None:
        receipt = await spoilt.erase_user("bob")
        assert (receipt.grants, receipt.complete, receipt.failed) == (5, False, ("s2",))
        assert await spoilt.list_user_sessions("bob", shared=True) == []

    async def test_the_others_are_swept(self, spoilt: SessionManager, clock: ManualClock) -> None:
        clock.advance(3_601)
        assert await spoilt.clean_expired_sessions() == 5
        assert await spoilt.clean_expired_sessions() == 0
