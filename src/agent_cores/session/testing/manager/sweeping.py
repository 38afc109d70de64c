"""Sweeping: expired sessions are removed, and their hooks run, never twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import SessionExpiredError, SessionNotFoundError
from agent_cores.session.models import Hold
from agent_cores.session.testing.manager.cases import ManagerCases
from agent_cores.session.testing.samples import creation, new_header

if TYPE_CHECKING:
    from agent_cores.session.lifecycle import SessionEvent
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store

HOUR = 3_600.0


class SweepCases(ManagerCases):
    """``clean_expired_sessions`` and ``session.expired``."""

    @pytest.fixture
    def expired(self, manager: SessionManager) -> list[SessionEvent]:
        """Collect the events of expired sessions."""
        seen: list[SessionEvent] = []
        manager.lifecycle.on("session.expired", seen.append)
        return seen

    async def test_what_has_ended_is_removed_and_told(
        self, manager: SessionManager, clock: ManualClock, expired: list[SessionEvent]
    ) -> None:
        for number, hours in enumerate((1, 1, 2, None)):
            talk = await manager.create_session("ann", None, hours, session_id=f"s{number}")
            await manager.add_message(talk, "ann", "user", "hi", context_updates={"k": 1})
        await manager.archive_session("s1", "ann")
        assert await manager.clean_expired_sessions() == 0
        clock.advance(HOUR)
        assert await manager.clean_expired_sessions() == 2
        assert await manager.clean_expired_sessions() == 0
        assert sorted(event.session_id for event in expired) == ["s0", "s1"]
        assert {event.user_id for event in expired} == {None}
        assert all(event.session is None or event.session.owner_id == "ann" for event in expired)
        assert (await manager.get_statistics())["sessions"] == 2
        with pytest.raises(SessionNotFoundError) as caught:
            await manager.get_session("s0", "ann")
        assert type(caught.value) is not SessionExpiredError

    async def test_a_renewed_session_is_not_removed(
        self, manager: SessionManager, clock: ManualClock, expired: list[SessionEvent]
    ) -> None:
        talk = await manager.create_session("ann", ttl_hours=1)
        clock.advance(HOUR / 2)
        await manager.add_message(talk, "ann", "user", "hi")
        clock.advance(HOUR / 2)
        assert await manager.clean_expired_sessions() == 0
        assert expired == []
        clock.advance(HOUR / 2)
        assert await manager.clean_expired_sessions() == 1

    async def test_a_create_over_an_ended_session_tells_its_end_first(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        names: list[str] = []
        for name in ("session.expired", "session.created", "session.deleted"):
            manager.lifecycle.on(name, lambda event: names.append(event.name))
        await manager.create_session("ann", ttl_hours=1, session_id="talk")
        clock.advance(HOUR)
        await manager.create_session("eve", session_id="talk")
        assert names == ["session.created", "session.expired", "session.created"]
        assert await manager.clean_expired_sessions() == 0

    async def test_a_handler_may_still_move_what_it_needs_elsewhere(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        async def archive(event: SessionEvent) -> None:
            await manager.create_session("archive", {"of": event.session_id})

        manager.lifecycle.on("session.expired", archive)
        await manager.create_session("ann", ttl_hours=1, session_id="talk")
        clock.advance(HOUR)
        await manager.clean_expired_sessions()
        (kept,) = await manager.list_user_sessions("archive")
        assert kept.metadata["of"] == "talk"

    async def test_several_sweepers_at_once_tell_each_end_once(
        self, opened: Store, manager: SessionManager, clock: ManualClock
    ) -> None:
        managers = [manager, await opened.open_manager(clock), await opened.open_manager(clock)]
        expired: Counter[str] = Counter()
        for chosen in managers:
            chosen.lifecycle.on("session.expired", lambda event: expired.update([event.session_id]))
        for number in range(30):
            await manager.create_session("ann", ttl_hours=1, session_id=f"s{number}")
        clock.advance(HOUR)
        removed = await asyncio.gather(*(chosen.clean_expired_sessions() for chosen in managers))
        assert sum(removed) == 30
        assert expired == Counter({f"s{number}": 1 for number in range(30)})

    async def test_a_sweep_covers_every_namespace_and_counts_its_own(
        self, manager: SessionManager, clock: ManualClock, expired: list[SessionEvent]
    ) -> None:
        view = manager.for_namespace("team-a")
        await manager.create_session("ann", ttl_hours=1)
        await view.create_session("ann", ttl_hours=1)
        await view.create_session("ann", ttl_hours=1)
        clock.advance(HOUR)
        assert await view.clean_expired_sessions() == 2
        assert sorted(event.namespace for event in expired) == ["default", "team-a", "team-a"]
        assert await manager.get_statistics() == {"sessions": 0, "due": 0}

    async def test_a_fork_left_behind_is_swept_without_hooks(
        self,
        opened: Store,
        manager: SessionManager,
        clock: ManualClock,
        expired: list[SessionEvent],
    ) -> None:
        provider = await opened.open()
        await provider.apply(creation(new_header("copy", at=clock(), hold=Hold.OPENING)))
        for user_id in ("ann", "eve"):
            with pytest.raises(SessionNotFoundError):
                await manager.get_session("copy", user_id)
        assert await manager.list_user_sessions("ann") == []
        clock.advance(60)
        assert await manager.clean_expired_sessions() == 1
        assert expired == []
        assert (await manager.get_statistics())["sessions"] == 0
