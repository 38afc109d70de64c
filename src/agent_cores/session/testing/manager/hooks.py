"""Hooks: each event once, in order, after the write was acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import InvalidInputError, SessionError
from agent_cores.session.lifecycle import EVENT_NAMES
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.manager.messages import said

if TYPE_CHECKING:
    from agent_cores.session.lifecycle import SessionEvent
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store


class HookCases(ManagerCases):
    """``manager.lifecycle.on``."""

    @pytest.fixture
    def events(self, manager: SessionManager) -> list[SessionEvent]:
        """Collect every event, half of them by async handlers."""
        seen: list[SessionEvent] = []

        async def later(event: SessionEvent) -> None:
            seen.append(event)

        for number, name in enumerate(EVENT_NAMES):
            manager.lifecycle.on(name, later if number % 2 else seen.append)
        return seen

    async def test_every_change_is_told_once_and_in_order(
        self, manager: SessionManager, events: list[SessionEvent], clock: ManualClock
    ) -> None:
        m = manager
        talk = await m.create_session("ann", session_id="talk")
        await m.add_messages(talk, "ann", said(1, 2), context_updates={"k": 1})
        await m.add_message(talk, "ann", "user", "3")
        await m.update_session(talk, "ann", None, {"a": 1})
        await m.share_session(talk, "ann", "bob", role="editor")
        await m.set_visibility(talk, "ann", "public")
        await m.archive_session(talk, "ann")
        await m.unarchive_session(talk, "ann")
        await m.update_message(talk, "ann", 2, content="two")
        await m.delete_message(talk, "ann", 2)
        await m.rewind_session(talk, "ann", 1)
        await m.revoke_access(talk, "bob", "bob")
        await m.delete_session(talk, "ann")
        assert [event.name for event in events] == [
            "session.created",
            "message.appended",
            "message.appended",
            "session.updated",
            "message.appended",
            "session.updated",
            "session.access_changed",
            "session.access_changed",
            "session.archived",
            "session.unarchived",
            "message.updated",
            "message.deleted",
            "session.rewound",
            "session.access_changed",
            "session.deleted",
        ]
        assert {event.session_id for event in events} == {talk}
        assert {event.namespace for event in events} == {"default"}
        assert {event.at for event in events} == {clock()}
        assert [event.user_id for event in events] == ["ann"] * 13 + ["bob", "ann"]

    async def test_an_event_carries_what_it_is_about(
        self, manager: SessionManager, events: list[SessionEvent]
    ) -> None:
        talk = await manager.create_session("ann", {"a": 1})
        first, second = await manager.add_messages(talk, "ann", said(1, 2))
        await manager.take_turn(talk, "ann", token="secret")
        await manager.update_session(talk, "ann", None, {"a": 2})
        updated_message = await manager.update_message(talk, "ann", 1, content="one")
        await manager.delete_message(talk, "ann", 2)
        await manager.rewind_session(talk, "ann", 0)
        by_name: dict[str, list[SessionEvent]] = {}
        for event in events:
            by_name.setdefault(event.name, []).append(event)
        appended = by_name["message.appended"]
        assert [(event.message, event.seq) for event in appended] == [(first, 1), (second, 2)]
        (changed,) = by_name["message.updated"]
        assert (changed.message, changed.seq, changed.session) == (updated_message, 1, None)
        assert [event.seq for event in by_name["message.deleted"]] == [2]
        assert [event.seq for event in by_name["session.rewound"]] == [0]
        (updated,) = by_name["session.updated"]
        assert updated.session is not None
        assert (updated.session.attributes, updated.session.revision) == ({"a": 2}, 2)
        assert updated.session.access_revision is None
        assert updated.session.turn is not None
        assert updated.session.turn.token is None

    async def test_each_message_of_a_deletion_is_told(
        self, manager: SessionManager, events: list[SessionEvent]
    ) -> None:
        talk = await manager.create_session("ann")
        await manager.add_messages(talk, "ann", said(*range(1, 8)))
        del events[:]
        await manager.delete_messages(talk, "ann", ids=["m5", "m3"])
        await manager.delete_messages(talk, "ann", keep_last=2)
        await manager.delete_messages(talk, "ann", keep_last=2)
        assert [(event.name, event.seq) for event in events] == [
            ("message.deleted", seq) for seq in (3, 5, 1, 2, 4)
        ]

    async def test_what_changes_nothing_is_not_told(
        self, manager: SessionManager, events: list[SessionEvent]
    ) -> None:
        talk = await manager.create_session("ann", session_id="talk")
        await manager.add_messages(talk, "ann", said(1), context_updates={"k": 1})
        events.clear()
        await manager.add_messages(talk, "ann", said(1), context_updates={"k": 2})
        await manager.update_session(talk, "ann", {"k": 1})
        await manager.update_message(talk, "ann", 1, content="1")
        await manager.renew_session(talk, "ann")
        await manager.take_turn(talk, "ann")
        await manager.revoke_access(talk, "ann", "nobody")
        await manager.unarchive_session(talk, "ann")
        await manager.rewind_session(talk, "ann", 1)
        await manager.create_session("ann", session_id=talk, if_exists="return")
        for call in (
            manager.add_message(talk, "ann", "user", "no", turn="lost"),
            manager.create_session("eve", session_id=talk),
            manager.get_session(talk, "eve"),
            manager.delete_session("absent", "ann"),
        ):
            with pytest.raises(SessionError):
                await call
        assert events == []

    async def test_a_partly_known_batch_tells_the_new_ones(
        self, manager: SessionManager, events: list[SessionEvent]
    ) -> None:
        talk = await manager.create_session("ann")
        await manager.add_messages(talk, "ann", said(1))
        events.clear()
        await manager.add_messages(talk, "ann", said(2, 1, 3))
        assert [event.seq for event in events] == [2, 3]

    async def test_a_fork_is_told_as_one_created_session(
        self, manager: SessionManager, events: list[SessionEvent]
    ) -> None:
        talk = await manager.create_session("ann")
        await manager.add_messages(talk, "ann", said(1, 2))
        events.clear()
        copy = await manager.fork_session(talk, "ann")
        assert [(event.name, event.session_id) for event in events] == [("session.created", copy)]
        (event,) = events
        assert event.session is not None
        assert event.session.message_count == 2

    async def test_a_handler_runs_after_the_write_and_before_the_verb_returns(
        self, manager: SessionManager
    ) -> None:
        seen: list[Any] = []

        async def look(event: SessionEvent) -> None:
            seen.append(await texts(manager, event.session_id))

        manager.lifecycle.on("message.appended", look)
        talk = await manager.create_session("ann")
        await manager.add_messages(talk, "ann", said(1, 2))
        assert seen == [["1", "2"], ["1", "2"]]

    async def test_a_failing_handler_stops_nothing(
        self, manager: SessionManager, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[str] = []

        def fail(event: SessionEvent) -> None:
            seen.append("failing " + event.name)
            raise ZeroDivisionError

        async def fail_later(event: SessionEvent) -> None:
            fail(event)

        manager.lifecycle.on("session.created", fail)
        manager.lifecycle.on("session.created", fail_later)
        manager.lifecycle.on("session.created", lambda event: seen.append(event.name))
        talk = await manager.create_session("ann")
        assert seen == ["failing session.created"] * 2 + ["session.created"]
        assert (await manager.get_session(talk, "ann")).owner_id == "ann"
        assert "session.created" in caplog.text

    async def test_an_unknown_event_is_refused(self, manager: SessionManager) -> None:
        with pytest.raises(InvalidInputError):
            manager.lifecycle.on("session.exploded", print)

    async def test_a_view_of_a_namespace_shares_the_hooks(
        self, manager: SessionManager, events: list[SessionEvent]
    ) -> None:
        view = manager.for_namespace("team-a")
        talk = await view.create_session("ann")
        await view.add_message(talk, "ann", "user", "hi")
        assert {event.namespace for event in events} == {"team-a"}
        with pytest.raises(SessionError):
            await manager.get_session(talk, "ann")
        for name in ("", "A", "a/b", "-a", "a" * 64, "é"):
            with pytest.raises(InvalidInputError):
                manager.for_namespace(name)
        assert manager.for_namespace("a" * 63).namespace == "a" * 63

    async def test_a_view_may_have_groups_of_its_own(
        self, opened: Store, clock: ManualClock
    ) -> None:
        manager = await opened.open_manager(clock, groups_of=lambda _: [])
        talk = await manager.create_session("ann")
        await manager.share_session(talk, "ann", "group:team")
        view = manager.for_namespace("default", groups_of=lambda _: ["team"])
        assert (await view.get_session(talk, "bob")).id == talk
        with pytest.raises(SessionError):
            await manager.get_session(talk, "bob")
