"""Fork: a session of the caller's own that begins as a copy of another."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import (
    InvalidInputError,
    SessionExistsError,
    SessionNotFoundError,
)
from agent_cores.session.models import Visibility
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.manager.messages import said

if TYPE_CHECKING:
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock


class ForkCases(ManagerCases):
    """``fork_session``."""

    @pytest.fixture
    async def source(self, manager: SessionManager, clock: ManualClock) -> str:
        """Create a session with holes, context, grants, a turn and all kinds of metadata."""
        session_id = await manager.create_session(
            "ann", {"tags": ["x"], "a": 1}, 2, title="t", context={"k": 1}
        )
        await manager.share_session(session_id, "ann", "bob", role="editor")
        await manager.share_session(session_id, "ann", "val")
        await manager.add_messages(session_id, "ann", said(1, 2, 3))
        clock.advance(1)
        await manager.add_messages(session_id, "bob", said(4, 5))
        await manager.delete_message(session_id, "ann", 2)
        await manager.take_turn(session_id, "ann")
        clock.advance(1)
        return session_id

    async def test_a_fork_keeps_messages_as_they_are(
        self, manager: SessionManager, source: str, clock: ManualClock
    ) -> None:
        before = await manager.get_session(source, "ann")
        copy = await manager.fork_session(source, "bob")
        session = await manager.get_session(copy, "bob")
        assert session.messages == before.messages
        header = session.metadata
        assert (header.owner_id, header.title, header.tags) == ("bob", "t", ("x",))
        assert header.attributes == {"a": 1}
        assert session.context == {"k": 1}
        assert (header.grants, header.turn) == ({}, None)
        assert session.visibility is Visibility.PRIVATE
        assert (header.last_seq, header.message_count) == (5, 4)
        assert header.created_at == clock()
        assert await manager.get_session(source, "ann") == before
        added = await manager.add_message(copy, "bob", "user", "on")
        assert added.seq == 6
        assert await texts(manager, source) == ["1", "3", "4", "5"]

    async def test_context_goes_along_only_to_who_may_read_it(
        self, manager: SessionManager, source: str
    ) -> None:
        copy = await manager.fork_session(source, "val")
        session = await manager.get_session(copy, "val")
        assert session.context == {}
        assert [message.content for message in session.messages or ()] == ["1", "3", "4", "5"]
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(copy, "ann")
        with pytest.raises(SessionNotFoundError):
            await manager.fork_session(source, "eve")

    async def test_a_fork_may_stop_at_a_seq(self, manager: SessionManager, source: str) -> None:
        for up_to_seq, expected in ((0, []), (2, ["1"]), (4, ["1", "3", "4"])):
            copy = await manager.fork_session(source, "ann", up_to_seq=up_to_seq)
            assert await texts(manager, copy) == expected
        whole = await manager.fork_session(source, "ann", up_to_seq=99)
        assert await texts(manager, whole) == ["1", "3", "4", "5"]
        for wrong in (-1, 1.5, "1"):
            with pytest.raises(InvalidInputError):
                await manager.fork_session(source, "ann", up_to_seq=wrong)  # type: ignore[arg-type]

    async def test_title_and_metadata_are_set_over_the_copied_ones(
        self, manager: SessionManager, source: str
    ) -> None:
        copy = await manager.fork_session(
            source, "ann", title="new", metadata={"b": 2, "tags": None, "a": None}
        )
        header = (await manager.get_session(copy, "ann")).metadata
        assert (header.title, header.tags, header.attributes) == ("new", (), {"b": 2})
        with pytest.raises(InvalidInputError):
            await manager.fork_session(source, "ann", metadata={"owner_id": "eve"})

    async def test_a_fork_has_an_end_of_its_own(
        self, manager: SessionManager, source: str, clock: ManualClock
    ) -> None:
        for given, seconds in (({}, 86_400), ({"ttl_hours": 1}, 3_600)):
            copy = await manager.fork_session(source, "ann", **given)  # type: ignore[arg-type]
            header = (await manager.get_session(copy, "ann")).metadata
            assert header.expires_at == clock() + timedelta(seconds=seconds)
        endless = await manager.fork_session(source, "ann", ttl_hours=None)
        assert (await manager.get_session(endless, "ann")).metadata.expires_at is None

    async def test_a_fork_under_a_taken_id_is_refused_and_changes_nothing(
        self, manager: SessionManager, source: str, talk: str
    ) -> None:
        before = await manager.get_session(talk, "ann")
        for user_id in ("ann", "bob"):
            with pytest.raises(SessionExistsError):
                await manager.fork_session(source, user_id, new_session_id=talk)
        assert await manager.get_session(talk, "ann") == before
        with pytest.raises(SessionExistsError):
            await manager.fork_session(talk, "ann", new_session_id=talk)

    async def test_a_long_session_is_forked_whole(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        for start in range(1, 2_400, 800):
            await manager.add_messages(talk, "ann", said(*range(start, start + 800)))
        clock.advance(1)
        copy = await manager.fork_session(talk, "ann", new_session_id="copy", up_to_seq=2_300)
        assert await texts(manager, copy) == [str(number) for number in range(1, 2_301)]
        (listed, _) = await manager.list_user_sessions("ann")
        assert listed.id == "copy"

    async def test_a_fork_and_its_source_are_two_sessions(
        self, manager: SessionManager, source: str
    ) -> None:
        copy = await manager.fork_session(source, "ann")
        await manager.rewind_session(copy, "ann", 1)
        await manager.update_session(copy, "ann", {"k": 2})
        await manager.delete_session(source, "ann")
        session = await manager.get_session(copy, "ann")
        assert session.context == {"k": 2}
        assert await texts(manager, copy) == ["1"]
