"""Replace and pop the last messages of a session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    LastSeqMismatchError,
    RevisionMismatchError,
    SessionArchivedError,
    SessionError,
    SessionNotFoundError,
    TurnLostError,
)
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.manager.messages import said, seqs

if TYPE_CHECKING:
    from agent_cores.session.session_manager import SessionManager


class TailCases(ManagerCases):
    """The last messages of one session."""

    async def test_a_tail_is_replaced_in_one_write(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2, 3, 4))
        before = (await manager.get_session(talk, "ann")).metadata
        new = await manager.replace_messages(
            talk, "ann", said(5, 6), after_seq=2, context_updates={"summary": "short"}
        )
        assert seqs(new) == [5, 6]
        assert await texts(manager, talk) == ["1", "2", "5", "6"]
        session = await manager.get_session(talk, "ann")
        assert session.context == {"summary": "short"}
        assert session.metadata.message_count == 4
        assert session.metadata.revision == before.revision + 1

    async def test_a_replacement_may_keep_messages_by_their_ids(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(*range(1, 7)))
        summary = {"id": "sum", "role": "system", "content": "1 to 4"}
        new = await manager.replace_messages(talk, "ann", [summary, *said(5, 6)], after_seq=0)
        assert seqs(new) == [7, 8, 9]
        assert [message.id for message in new] == ["sum", "m5", "m6"]
        assert await texts(manager, talk) == ["1 to 4", "5", "6"]

    async def test_a_replacement_with_what_was_expected_is_repeatable(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2, 3))
        replace: dict[str, Any] = {"after_seq": 1, "expected_last_seq": 3}
        first = await manager.replace_messages(talk, "ann", said(4, 3), **replace)
        again = await manager.replace_messages(talk, "ann", said(4, 3), **replace)
        assert again == first
        assert await texts(manager, talk) == ["1", "4", "3"]

    async def test_what_comes_after_the_last_message_replaces_nothing(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2))
        assert seqs(await manager.replace_messages(talk, "ann", said(3), after_seq=99)) == [3]
        assert await texts(manager, talk) == ["1", "2", "3"]
        with pytest.raises(ConflictError):
            await manager.replace_messages(talk, "ann", said(1), after_seq=2)

    async def test_a_replacement_is_refused_as_a_whole(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2))
        session = await manager.get_session(talk, "ann")
        refusals: tuple[tuple[type[SessionError], dict[str, Any]], ...] = (
            (LastSeqMismatchError, {"expected_last_seq": 1}),
            (RevisionMismatchError, {"expected_revision": 9}),
            (TurnLostError, {"turn": "nobody's"}),
            (InvalidInputError, {"expected_last_seq": -1}),
            (InvalidInputError, {"after_seq": -1}),
        )
        for error, arguments in refusals:
            given: dict[str, Any] = {"after_seq": 1, "context_updates": {"k": 1}, **arguments}
            with pytest.raises(error):
                await manager.replace_messages(talk, "ann", said(3), **given)
        with pytest.raises(InvalidInputError):
            await manager.replace_messages(talk, "ann", [], after_seq=1)
        same = await manager.get_session(talk, "ann")
        assert (same.metadata, same.messages, same.context) == (
            session.metadata,
            session.messages,
            session.context,
        )

    async def test_only_the_owner_replaces_and_pops(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1))
        await manager.share_session(talk, "ann", "bob", role="editor")
        for user_id, refusal in (("bob", AccessDeniedError), ("eve", SessionNotFoundError)):
            with pytest.raises(refusal):
                await manager.replace_messages(talk, user_id, said(2), after_seq=0)
            with pytest.raises(refusal):
                await manager.pop_messages(talk, user_id)
        await manager.archive_session(talk, "ann")
        with pytest.raises(SessionArchivedError):
            await manager.replace_messages(talk, "ann", said(2), after_seq=0)
        with pytest.raises(SessionArchivedError):
            await manager.pop_messages(talk, "ann")
        assert await texts(manager, talk) == ["1"]

    async def test_concurrent_replacements_and_appends_lose_and_double_nothing(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2, 3))
        await asyncio.gather(
            *(manager.replace_messages(talk, "ann", said(n), after_seq=1) for n in range(10, 16)),
            *(manager.add_messages(talk, "ann", said(n)) for n in range(20, 24)),
        )
        left = await texts(manager, talk)
        replaced = [text for text in left if text in {str(n) for n in range(10, 16)}]
        assert left[:2] == ["1", *replaced[:1]]
        assert len(replaced) == 1
        assert len(set(left)) == len(left)

    async def test_popped_messages_are_the_last_ones_and_gone(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2, 3, 4))
        await manager.delete_message(talk, "ann", 3)
        [last] = await manager.pop_messages(talk, "ann")
        assert (last.seq, last.id, last.content) == (4, "m4", "4")
        assert seqs(await manager.pop_messages(talk, "ann", 5)) == [1, 2]
        assert await manager.pop_messages(talk, "ann") == []
        header = (await manager.get_session(talk, "ann")).metadata
        assert (header.message_count, header.last_seq) == (0, 4)
        assert seqs(await manager.add_messages(talk, "ann", said(4))) == [5]

    async def test_two_callers_never_pop_the_same_message(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(*range(1, 13)))
        popped = await asyncio.gather(
            *(manager.pop_messages(talk, "ann", 1 + n % 3) for n in range(6))
        )
        taken = [seq for messages in popped for seq in seqs(messages)]
        assert sorted(taken) == list(range(1, 13))

    async def test_a_pop_is_refused_as_a_whole(self, manager: SessionManager, talk: str) -> None:
        await manager.add_messages(talk, "ann", said(1, 2))
        with pytest.raises(LastSeqMismatchError):
            await manager.pop_messages(talk, "ann", expected_last_seq=1)
        with pytest.raises(TurnLostError):
            await manager.pop_messages(talk, "ann", turn="nobody's")
        for count in (0, -1, 1_001):
            with pytest.raises(InvalidInputError):
                await manager.pop_messages(talk, "ann", count)
        assert seqs(await manager.pop_messages(talk, "ann", expected_last_seq=2)) == [2]

    async def test_a_rewind_and_a_deletion_may_expect_the_last_seq_and_a_turn(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2, 3))
        refusals: tuple[tuple[type[SessionError], dict[str, Any]], ...] = (
            (LastSeqMismatchError, {"expected_last_seq": 2}),
            (TurnLostError, {"turn": "nobody's"}),
        )
        for error, arguments in refusals:
            with pytest.raises(error):
                await manager.rewind_session(talk, "ann", 1, **arguments)
            with pytest.raises(error):
                await manager.delete_message(talk, "ann", 3, **arguments)
        turn = await manager.take_turn(talk, "ann")
        held: dict[str, Any] = {"expected_last_seq": 3, "turn": turn.token}
        await manager.delete_message(talk, "ann", 3, **held)
        await manager.rewind_session(talk, "ann", 1, **held)
        assert await texts(manager, talk) == ["1"]
