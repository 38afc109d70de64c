"""``erase_user``: removes everything of a user, and returns a receipt."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import SessionNotFoundError
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.manager.messages import said

if TYPE_CHECKING:
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock


class ErasureCases(ManagerCases):
    """What is removed, what stays, what is counted."""

    async def test_everything_a_user_owns_goes_and_is_counted(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        for number in range(3):
            talk = await manager.create_session("ann", {"tags": ["x"]}, session_id=f"s{number}")
            await manager.add_messages(talk, "ann", said(*range(number + 1)))
            await manager.share_session(talk, "ann", "bob")
        await manager.archive_session("s1", "ann")
        await manager.create_session("ann", ttl_hours=1, session_id="ended")
        await manager.create_session("bob", session_id="bob's", ttl_hours=None)
        clock.advance(3_600)
        receipt = await manager.erase_user("ann")
        assert (receipt.sessions, receipt.messages, receipt.complete) == (4, 6, True)
        for session_id in ("s0", "s1", "s2", "ended"):
            with pytest.raises(SessionNotFoundError) as caught:
                await manager.get_session(session_id, "ann")
            assert type(caught.value) is SessionNotFoundError
        assert await manager.list_user_sessions("bob", shared=True) == []
        assert await manager.get_statistics() == {"sessions": 1, "due": 0}

    async def test_grants_elsewhere_go_and_what_was_written_stays(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        end = clock() + timedelta(seconds=1)
        other = await manager.create_session("ann")
        archived = await manager.create_session("ann")
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.share_session(other, "ann", "bob", expires_at=end)
        await manager.share_session(archived, "ann", "bob")
        await manager.share_session(talk, "ann", "eve")
        await manager.archive_session(archived, "ann")
        await manager.add_message(talk, "bob", "user", "hi")
        clock.advance(2)
        receipt = await manager.erase_user("bob")
        assert (receipt.sessions, receipt.messages, receipt.complete) == (0, 0, True)
        assert receipt.grants >= 2
        for session_id in (talk, other, archived):
            session = await manager.get_session(session_id, "ann")
            assert "bob" not in session.metadata.grants
        assert list((await manager.get_session(talk, "ann")).metadata.grants) == ["eve"]
        assert await texts(manager, talk) == ["hi"]
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(talk, "bob")

    async def test_an_erasure_can_be_repeated(self, manager: SessionManager, talk: str) -> None:
        assert (await manager.erase_user("ann")).sessions == 1
        again = await manager.erase_user("ann")
        assert (again.sessions, again.messages, again.grants, again.complete) == (0, 0, 0, True)
        assert (await manager.erase_user("nobody")).complete

    async def test_many_sessions_and_grants_are_erased_in_one_call(
        self, manager: SessionManager
    ) -> None:
        for number in range(120):
            owner, other = ("ann", "bob") if number % 2 else ("bob", "ann")
            talk = await manager.create_session(owner, session_id=f"s{number}")
            await manager.share_session(talk, owner, other)
        receipt = await manager.erase_user("ann")
        assert (receipt.sessions, receipt.grants, receipt.complete) == (60, 60, True)
        assert await manager.list_user_sessions("ann") == []
        assert await manager.list_user_sessions("ann", shared=True) == []
        assert len(await manager.list_user_sessions("bob", limit=100)) == 60
