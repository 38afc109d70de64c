"""When sessions expire: at the exact instant, before any sweep; and what postpones it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import SessionExpiredError, SessionNotFoundError
from agent_cores.session.models import RenewOn
from agent_cores.session.testing.manager.access import VERBS
from agent_cores.session.testing.manager.cases import ManagerCases, texts

if TYPE_CHECKING:
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock

HOUR = 3_600.0


async def seconds_left(manager: SessionManager, clock: ManualClock, session_id: str) -> float:
    """Return a session's remaining time from a listing, which does not renew the session."""
    listed = await manager.list_user_sessions("ann", limit=100)
    (header,) = (session.metadata for session in listed if session.id == session_id)
    assert header.expires_at is not None
    return (header.expires_at - clock()).total_seconds()


class ExpiryCases(ManagerCases):
    """Expiry and renewal."""

    @pytest.mark.parametrize("verb", VERBS)
    async def test_an_ended_session_is_absent_from_the_exact_instant(
        self, manager: SessionManager, clock: ManualClock, verb: str
    ) -> None:
        await manager.create_session("ann", session_id="talk", ttl_hours=1, renew_on="never")
        await manager.share_session("talk", "ann", "bob", role="editor")
        await manager.add_message("talk", "ann", "user", "hi")
        await manager.set_visibility("talk", "ann", "public")
        clock.advance(HOUR - 0.001)
        for user_id in ("ann", "bob", "eve"):
            await manager.get_session("talk", user_id)
        clock.advance(0.001)
        _, call = VERBS[verb]
        with pytest.raises(SessionExpiredError):
            await call(manager, "ann")
        for user_id in ("bob", "eve"):
            with pytest.raises(SessionNotFoundError) as caught:
                await call(manager, user_id)
            assert type(caught.value) is SessionNotFoundError

    async def test_no_list_shows_an_ended_session(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        for session_id in ("kept", "archived", "ended"):
            hours = 2 if session_id == "kept" else 1
            await manager.create_session("ann", session_id=session_id, ttl_hours=hours)
            await manager.share_session(session_id, "ann", "bob")
        await manager.archive_session("archived", "ann")
        clock.advance(HOUR)
        assert [s.id for s in await manager.list_user_sessions("ann")] == ["kept"]
        assert await manager.list_user_sessions("ann", "archived") == []
        assert [s.id for s in await manager.list_user_sessions("bob", shared=True)] == ["kept"]

    async def test_a_create_under_an_ended_id_starts_anew(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        await manager.create_session("ann", {"tags": ["x"]}, 1, session_id="talk", context={"k": 1})
        await manager.add_message("talk", "ann", "user", "old", message_id="m1")
        await manager.share_session("talk", "ann", "bob", role="editor")
        clock.advance(HOUR)
        await manager.create_session("eve", session_id="talk", ttl_hours=1)
        session = await manager.get_session("talk", "eve")
        assert (session.messages, session.context, session.metadata.grants) == ([], {}, {})
        for user_id in ("ann", "bob"):
            with pytest.raises(SessionNotFoundError) as caught:
                await manager.add_message("talk", user_id, "user", "no")
            assert type(caught.value) is SessionNotFoundError
        assert (await manager.add_message("talk", "eve", "user", "new", message_id="m1")).seq == 1
        assert await manager.list_user_sessions("ann", tags=["x"]) == []
        assert await manager.list_user_sessions("bob", shared=True) == []

    async def test_writes_move_the_end_and_reads_do_not(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        talk = await manager.create_session("ann", ttl_hours=1)
        await manager.share_session(talk, "ann", "bob", role="editor")
        for call in (
            lambda: manager.add_message(talk, "bob", "user", "hi"),
            lambda: manager.update_session(talk, "ann", {"k": clock().isoformat()}),
            lambda: manager.update_session(talk, "ann", None, {"k": clock().isoformat()}),
            lambda: manager.rewind_session(talk, "ann", 0),
            lambda: manager.share_session(talk, "ann", "val"),
        ):
            clock.advance(HOUR / 2)
            await call()
            assert await seconds_left(manager, clock, talk) == HOUR
        clock.advance(HOUR / 2)
        await manager.get_session(talk, "ann")
        await manager.get_session_messages(talk, "ann")
        await manager.take_turn(talk, "ann")
        assert await seconds_left(manager, clock, talk) == HOUR / 2

    async def test_a_replay_does_not_move_the_end(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        talk = await manager.create_session("ann", ttl_hours=1)
        await manager.add_message(talk, "ann", "user", "hi", message_id="m")
        clock.advance(HOUR / 2)
        await manager.add_message(talk, "ann", "user", "hi", message_id="m")
        assert await seconds_left(manager, clock, talk) == HOUR / 2

    async def test_reads_of_editors_and_the_owner_move_the_end_if_asked_for(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        talk = await manager.create_session("ann", ttl_hours=1, renew_on=RenewOn.ACCESS)
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.share_session(talk, "ann", "val")
        clock.advance(HOUR / 2)
        await manager.get_session(talk, "val")
        await manager.get_session_messages(talk, "val")
        await manager.list_user_sessions("ann")
        assert await seconds_left(manager, clock, talk) == HOUR / 2
        await manager.get_session(talk, "bob")
        assert await seconds_left(manager, clock, talk) == HOUR
        clock.advance(HOUR / 2)
        await manager.get_session_messages(talk, "ann")
        assert await seconds_left(manager, clock, talk) == HOUR
        clock.advance(HOUR / 2)
        await manager.add_message(talk, "ann", "user", "hi")
        assert await seconds_left(manager, clock, talk) == HOUR
        await manager.set_visibility(talk, "ann", "public")
        clock.advance(HOUR / 2)
        await manager.get_session(talk, "eve")
        assert await seconds_left(manager, clock, talk) == HOUR / 2

    async def test_a_read_is_written_only_if_it_moves_the_end_by_a_twentieth(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        talk = await manager.create_session("ann", ttl_hours=1, renew_on="access")
        before = (await manager.get_session(talk, "ann")).metadata
        clock.advance(HOUR / 20)
        await manager.get_session(talk, "ann")
        assert await seconds_left(manager, clock, talk) == HOUR - HOUR / 20
        clock.advance(0.001)
        await manager.get_session(talk, "ann")
        assert await seconds_left(manager, clock, talk) == HOUR
        after = (await manager.get_session(talk, "ann")).metadata
        assert (after.revision, after.last_active_at) == (before.revision, before.last_active_at)

    async def test_a_read_of_an_archived_session_moves_nothing(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        talk = await manager.create_session("ann", ttl_hours=1, renew_on="access")
        await manager.archive_session(talk, "ann")
        clock.advance(HOUR / 2)
        session = await manager.get_session(talk, "ann")
        assert session.metadata.expires_at is not None
        assert (session.metadata.expires_at - clock()).total_seconds() == HOUR / 2
        await manager.share_session(talk, "ann", "bob")
        await manager.renew_session(talk, "ann")
        session = await manager.unarchive_session(talk, "ann")
        assert session.metadata.expires_at is not None
        assert (session.metadata.expires_at - clock()).total_seconds() == HOUR

    async def test_never_means_that_nothing_but_a_renewal_moves_the_end(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        talk = await manager.create_session("ann", ttl_hours=1, renew_on="never")
        clock.advance(HOUR / 2)
        await manager.add_message(talk, "ann", "user", "hi", context_updates={"k": 1})
        await manager.update_session(talk, "ann", None, {"a": 1})
        await manager.get_session(talk, "ann")
        assert await seconds_left(manager, clock, talk) == HOUR / 2
        await manager.renew_session(talk, "ann")
        assert await seconds_left(manager, clock, talk) == HOUR

    async def test_nothing_moves_the_end_past_the_longest_lifetime(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        talk = await manager.create_session("ann", ttl_hours=1, max_lifetime_hours=1.5)
        clock.advance(HOUR)
        with pytest.raises(SessionExpiredError):
            await manager.get_session(talk, "ann")
        talk = await manager.create_session("ann", ttl_hours=1, max_lifetime_hours=1.5)
        clock.advance(0.75 * HOUR)
        await manager.add_message(talk, "ann", "user", "hi")
        assert await seconds_left(manager, clock, talk) == 0.75 * HOUR
        await manager.renew_session(talk, "ann", ttl_hours=100)
        assert await seconds_left(manager, clock, talk) == 0.75 * HOUR
        await manager.renew_session(talk, "ann", ttl_hours=None)
        assert await seconds_left(manager, clock, talk) == 0.75 * HOUR
        endless = await manager.create_session("ann", ttl_hours=None, max_lifetime_hours=1)
        assert await seconds_left(manager, clock, endless) == HOUR

    async def test_a_renewal_counts_a_given_idle_time_anew(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        talk = await manager.create_session("ann", ttl_hours=1)
        await manager.renew_session(talk, "ann", ttl_hours=3)
        assert await seconds_left(manager, clock, talk) == 3 * HOUR
        clock.advance(HOUR)
        await manager.renew_session(talk, "ann")
        assert await seconds_left(manager, clock, talk) == 3 * HOUR
        nearer = await manager.renew_session(talk, "ann", ttl_hours=0.5)
        assert nearer.metadata.ttl_seconds == HOUR / 2
        assert await seconds_left(manager, clock, talk) == HOUR / 2
        endless = await manager.renew_session(talk, "ann", ttl_hours=None)
        assert (endless.metadata.ttl_seconds, endless.metadata.expires_at) == (None, None)
        again = await manager.renew_session(talk, "ann")
        assert again.metadata.expires_at is None
        await manager.renew_session(talk, "ann", ttl_hours=1)
        clock.advance(HOUR)
        with pytest.raises(SessionExpiredError):
            await manager.add_message(talk, "ann", "user", "late")

    async def test_a_session_without_an_end_does_not_end(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        talk = await manager.create_session("ann", ttl_hours=None)
        clock.advance(20 * 365 * 24 * HOUR)
        await manager.add_message(talk, "ann", "user", "hi")
        assert await texts(manager, talk) == ["hi"]
