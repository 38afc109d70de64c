"""Writes that are applied but whose response is lost.

The manager retries appends, updates of messages, creates, deletes and turns; for everything else it
reports that the outcome is unknown. Either way the write is applied once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import SessionNotFoundError, StorageUnavailableError
from agent_cores.session.testing.manager.cases import texts
from agent_cores.session.testing.manager.losing import GUARDS, LosingCases
from agent_cores.session.testing.manager.messages import said

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent_cores.session.lifecycle import SessionEvent
    from agent_cores.session.models import Message
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store
    from agent_cores.session.testing.wrapping import LosingProvider

    Call = Callable[[SessionManager, dict[str, Any]], Awaitable[Message | list[Message]]]

APPENDS: dict[str, Call] = {
    "add_message": lambda m, g: m.add_message("talk", "ann", "user", "2", **g),
    "add_message with id": lambda m, g: m.add_message(
        "talk", "ann", "user", "2", message_id="m2", **g
    ),
    "add_message with context": lambda m, g: m.add_message(
        "talk", "ann", "user", "2", context_updates={"k": 2}, **g
    ),
    "add_messages": lambda m, g: m.add_messages("talk", "ann", said(2, 3), **g),
    "add_messages, one known": lambda m, g: m.add_messages("talk", "ann", said(1, 2), **g),
}


async def _rewind_and_archive(manager: SessionManager) -> None:
    await manager.rewind_session("talk", "ann", 1)
    await manager.archive_session("talk", "ann")


async def _rewind_and_share(manager: SessionManager) -> None:
    await manager.rewind_session("talk", "ann", 1)
    await manager.share_session("talk", "ann", "bob", role="editor")


REMOVALS: dict[str, Callable[[SessionManager], Awaitable[object]]] = {
    "delete_message": lambda m: m.delete_message("talk", "ann", 2),
    "delete_messages": lambda m: m.delete_messages("talk", "ann", seqs=[2]),
    "rewind_session": lambda m: m.rewind_session("talk", "ann", 1),
    "replace_messages": lambda m: m.replace_messages(
        "talk", "ann", [{"role": "user", "content": "else"}], after_seq=1
    ),
    "rewind and archive": _rewind_and_archive,
    "rewind and share": _rewind_and_share,
}
"""What another manager does to message 2 before the append of it returns to its caller."""
UNREPEATABLE: dict[str, Callable[[SessionManager, int | None], Awaitable[object]]] = {
    "update_session": lambda m, r: m.update_session("talk", "ann", {"k": 2}, expected_revision=r),
    "update metadata": lambda m, r: m.update_session(
        "talk", "ann", None, {"a": 2}, expected_revision=r
    ),
    "set_visibility": lambda m, r: m.set_visibility("talk", "ann", "public", expected_revision=r),
    "transfer_ownership": lambda m, r: m.transfer_ownership(
        "talk", "ann", "bob", keep_role="editor", expected_revision=r
    ),
    "rewind_session": lambda m, r: m.rewind_session("talk", "ann", 0, expected_revision=r),
    "share_session": lambda m, _: m.share_session("talk", "ann", "bob"),
    "revoke_access": lambda m, _: m.revoke_access("talk", "ann", "eve"),
    "archive_session": lambda m, _: m.archive_session("talk", "ann"),
    "renew_session": lambda m, _: m.renew_session("talk", "ann", ttl_hours=1),
    "delete_message": lambda m, _: m.delete_message("talk", "ann", 1),
    "delete_messages by seq": lambda m, r: m.delete_messages(
        "talk", "ann", seqs=[1], expected_revision=r
    ),
    "delete_messages by number": lambda m, r: m.delete_messages(
        "talk", "ann", keep_last=0, expected_revision=r
    ),
    "pop_messages": lambda m, _: m.pop_messages("talk", "ann"),
}


class LostAnswerCases(LosingCases):
    """A manager on a provider that loses responses on demand."""

    @pytest.mark.parametrize("lost", [1, 2])
    @pytest.mark.parametrize("guard", GUARDS)
    @pytest.mark.parametrize("verb", APPENDS)
    async def test_an_append_is_repeated_and_stored_once(
        self,
        *,
        repeating: SessionManager,
        losing: LosingProvider,
        hook_events: list[SessionEvent],
        verb: str,
        guard: str,
        lost: int,
    ) -> None:
        losing.lose(lost)
        answer = await APPENDS[verb](repeating, GUARDS[guard])
        messages = answer if isinstance(answer, list) else [answer]
        session = await repeating.get_session("talk", "ann")
        assert session.messages is not None
        assert [message.content for message in session.messages] == ["1", "2", "3"][
            : len(session.messages)
        ]
        assert {message.seq for message in messages} <= {m.seq for m in session.messages}
        assert all(message in session.messages for message in messages)
        assert session.metadata.last_seq == len(session.messages) > 1
        assert session.metadata.revision == (3 if "context" in verb else 2)
        assert len(hook_events) <= len(messages)  # at most once: a replay runs no hooks

    @pytest.mark.parametrize("guard", GUARDS)
    @pytest.mark.parametrize("verb", APPENDS)
    @pytest.mark.parametrize("removal", REMOVALS)
    async def test_a_message_that_was_removed_meanwhile_does_not_come_back(
        self,
        *,
        opened: Store,
        repeating: SessionManager,
        losing: LosingProvider,
        clock: ManualClock,
        removal: str,
        verb: str,
        guard: str,
    ) -> None:
        other = await opened.open_manager(clock)

        async def remove() -> None:
            await REMOVALS[removal](other)

        losing.lose(before_error=remove)
        with pytest.raises(StorageUnavailableError) as caught:
            await APPENDS[verb](repeating, GUARDS[guard])
        assert caught.value.outcome_unknown
        assert "2" not in await texts(repeating, "talk")

    @pytest.mark.parametrize("verb", APPENDS)
    async def test_an_append_that_was_not_stored_is_repeated(
        self, repeating: SessionManager, losing: LosingProvider, verb: str
    ) -> None:
        losing.drop()
        await APPENDS[verb](repeating, {})
        stored = await texts(repeating, "talk")
        assert stored[:2] == ["1", "2"]

    async def test_an_append_that_was_not_stored_is_not_repeated_where_that_cannot_be_told(
        self,
        opened: Store,
        repeating: SessionManager,
        losing: LosingProvider,
        clock: ManualClock,
    ) -> None:
        other = await opened.open_manager(clock)

        async def revise() -> None:
            await other.update_session("talk", "ann", None, {"title": "t"})

        losing.drop(before_error=revise)
        with pytest.raises(StorageUnavailableError) as caught:
            await repeating.add_message("talk", "ann", "user", "2")
        assert caught.value.outcome_unknown
        assert await texts(repeating, "talk") == ["1"]

    async def test_a_create_is_repeated_and_is_one_session(
        self, repeating: SessionManager, losing: LosingProvider, hook_events: list[SessionEvent]
    ) -> None:
        losing.lose(2)
        session_id = await repeating.create_session("bob", {"a": 1}, context={"k": 1})
        session = await repeating.get_session(session_id, "bob")
        assert (session.context, session.metadata.attributes) == ({"k": 1}, {"a": 1})
        assert [s.id for s in await repeating.list_user_sessions("bob")] == [session_id]
        losing.lose()
        assert await repeating.create_session("bob", session_id="named") == "named"
        assert len(hook_events) <= 2

    async def test_a_create_over_an_ended_session_is_repeated(
        self, repeating: SessionManager, losing: LosingProvider, clock: ManualClock
    ) -> None:
        await repeating.renew_session("talk", "ann", ttl_hours=1)
        clock.advance(3_600)
        losing.lose()
        await repeating.create_session("bob", session_id="talk")
        assert (await repeating.get_session("talk", "bob")).messages == []

    @pytest.mark.parametrize("guard", [{}, {"expected_revision": 2}])
    async def test_a_delete_is_repeated_and_true(
        self,
        repeating: SessionManager,
        losing: LosingProvider,
        hook_events: list[SessionEvent],
        guard: dict[str, Any],
    ) -> None:
        losing.lose()
        assert await repeating.delete_session("talk", "ann", **guard) is True
        assert sum(change.delete for change in losing.applied) == 1
        assert len(hook_events) <= 1
        with pytest.raises(SessionNotFoundError):
            await repeating.delete_session("talk", "ann")

    async def test_a_repeated_delete_leaves_a_session_created_meanwhile(
        self,
        opened: Store,
        repeating: SessionManager,
        losing: LosingProvider,
        clock: ManualClock,
    ) -> None:
        other = await opened.open_manager(clock)

        async def re_create() -> None:
            await other.create_session("eve", session_id="talk")

        losing.lose(before_error=re_create)
        assert await repeating.delete_session("talk", "ann") is True
        assert (await other.get_session("talk", "eve")).owner_id == "eve"

    async def test_a_repeated_append_is_not_written_into_a_session_created_meanwhile(
        self,
        opened: Store,
        repeating: SessionManager,
        losing: LosingProvider,
        clock: ManualClock,
    ) -> None:
        other = await opened.open_manager(clock)

        async def re_create() -> None:
            await other.delete_session("talk", "ann")
            await other.create_session("ann", session_id="talk")

        losing.lose(before_error=re_create)
        with pytest.raises((StorageUnavailableError, SessionNotFoundError)):
            await repeating.add_message("talk", "ann", "user", "2")
        assert await texts(repeating, "talk") == []

    async def test_turns_are_repeated(
        self, repeating: SessionManager, losing: LosingProvider, clock: ManualClock
    ) -> None:
        losing.lose()
        renewed = await repeating.renew_turn("talk", "ann", "held", lease_seconds=60)
        assert renewed.token == "held"
        losing.lose()
        assert await repeating.release_turn("talk", "ann", "held") is True
        losing.lose()
        turn = await repeating.take_turn("talk", "ann")
        assert turn.token is not None
        await repeating.add_message("talk", "ann", "user", "2", turn=turn.token)
        losing.lose()
        clock.advance(30)
        assert (await repeating.take_turn("talk", "ann")).token != turn.token

    @pytest.mark.parametrize("expected_revision", [None, 2])
    @pytest.mark.parametrize("verb", UNREPEATABLE)
    async def test_everything_else_says_that_the_outcome_is_unknown(
        self,
        repeating: SessionManager,
        losing: LosingProvider,
        verb: str,
        expected_revision: int | None,
    ) -> None:
        sent = len(losing.applied)
        losing.lose()
        with pytest.raises(StorageUnavailableError) as caught:
            await UNREPEATABLE[verb](repeating, expected_revision)
        assert caught.value.outcome_unknown
        assert len(losing.applied) == sent + 1
        user_id = "bob" if verb == "transfer_ownership" else "ann"
        header = (await repeating.get_session("talk", user_id)).metadata
        assert header.revision == 3

    async def test_a_fork_survives_lost_answers_or_leaves_nothing(
        self, repeating: SessionManager, losing: LosingProvider
    ) -> None:
        losing.lose(2)  # of the create and of the page of messages
        copy = await repeating.fork_session("talk", "ann")
        assert await texts(repeating, copy) == ["1"]
        losing.lose(3)  # and of the opening
        copy = await repeating.fork_session("talk", "ann")
        assert await texts(repeating, copy) == ["1"]

    async def test_a_fork_whose_source_goes_on_the_way_leaves_nothing(
        self,
        opened: Store,
        repeating: SessionManager,
        losing: LosingProvider,
        clock: ManualClock,
    ) -> None:
        other = await opened.open_manager(clock)

        async def re_create() -> None:
            await other.delete_session("talk", "ann")
            await other.create_session("eve", session_id="talk", public=True)

        losing.lose(before_error=re_create)
        with pytest.raises(SessionNotFoundError):
            await repeating.fork_session("talk", "ann")
        assert await repeating.get_statistics() == {"sessions": 1, "due": 0}

    async def test_a_store_that_does_not_answer_at_all_is_said_so(
        self, repeating: SessionManager, losing: LosingProvider
    ) -> None:
        losing.refuse()
        for call in (
            repeating.add_message("talk", "ann", "user", "2"),
            repeating.delete_session("talk", "ann"),
            repeating.create_session("ann"),
            repeating.update_session("talk", "ann", {"k": 1}),
        ):
            with pytest.raises(StorageUnavailableError) as caught:
                await call
            assert not caught.value.outcome_unknown
        losing.refuse(refusing=False)
        assert await texts(repeating, "talk") == ["1"]
