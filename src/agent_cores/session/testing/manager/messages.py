"""Append, read, delete and rewind messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    LastSeqMismatchError,
    MessageNotFoundError,
    TurnLostError,
)
from agent_cores.session.models import NewMessage
from agent_cores.session.testing.manager.cases import ManagerCases, texts

if TYPE_CHECKING:
    from agent_cores.session.models import Message
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock


def said(*numbers: int) -> list[dict[str, Any]]:
    """Return messages to append; number 3 has the id ``m3`` and the content 3."""
    return [{"id": f"m{n}", "role": "user", "content": str(n)} for n in numbers]


def seqs(messages: list[Message]) -> list[int]:
    """Return the seq of each message."""
    return [message.seq for message in messages]


class MessageCases(ManagerCases):
    """The messages of one session."""

    async def test_a_message_is_returned_as_it_is_stored(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        await manager.share_session(talk, "ann", "bob", role="editor")
        parts = [{"type": "text", "text": "你好"}]
        given = [
            await manager.add_message(talk, "ann", "user", "hi"),
            await manager.add_message(talk, "bob", "anything", parts, metadata={"k": 1}),
            await manager.add_message(talk, "ann", "tool", "", message_id="mine"),
        ]
        assert seqs(given) == [1, 2, 3]
        assert [message.author_id for message in given] == ["ann", "bob", "ann"]
        assert [message.role for message in given] == ["user", "anything", "tool"]
        assert [message.content for message in given] == ["hi", parts, ""]
        assert given[1].metadata == {"k": 1}
        assert given[2].id == "mine"
        assert {message.created_at for message in given} == {clock()}
        assert await manager.get_session_messages(talk, "ann") == given
        assert (await manager.get_session(talk, "ann")).messages == given

    async def test_a_batch_takes_mappings_and_new_messages(
        self, manager: SessionManager, talk: str
    ) -> None:
        messages = await manager.add_messages(
            talk, "ann", [NewMessage("user", "a", "m1", {"k": 1}), {"role": "tool", "content": "b"}]
        )
        assert seqs(messages) == [1, 2]
        assert (messages[0].id, messages[0].metadata, messages[1].role) == ("m1", {"k": 1}, "tool")

    async def test_windows_are_ascending_and_know_whether_more_follows(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(*range(1, 61)))
        await manager.delete_message(talk, "ann", 5)
        read = manager.get_session_messages
        windows: tuple[tuple[dict[str, int], list[int], bool], ...] = (
            ({}, list(range(11, 61)), True),
            ({"limit": 3}, [58, 59, 60], True),
            ({"limit": 3, "before_seq": 7}, [3, 4, 6], True),
            ({"limit": 5, "before_seq": 7}, [1, 2, 3, 4, 6], False),
            ({"limit": 3, "after_seq": 3}, [4, 6, 7], True),
            ({"limit": 3, "after_seq": 57}, [58, 59, 60], False),
            ({"limit": 3, "after_seq": 60}, [], False),
            ({"limit": 3, "before_seq": 1}, [], False),
            ({"limit": 3, "after_seq": 0}, [1, 2, 3], True),
            ({"limit": 1_000}, [*range(1, 5), *range(6, 61)], False),
        )
        for arguments, expected, more in windows:
            page = await read(talk, "ann", **arguments)
            assert (seqs(page), page.has_more) == (expected, more), arguments
        for message_limit, found in ((0, None), (2, [59, 60]), (50, list(range(11, 61)))):
            session = await manager.get_session(talk, "ann", message_limit=message_limit)
            assert (session.messages and seqs(session.messages)) == found
        with pytest.raises(InvalidInputError):
            await read(talk, "ann", before_seq=3, after_seq=1)

    async def test_a_page_ends_at_four_mib(self, manager: SessionManager, talk: str) -> None:
        for number in range(6):
            await manager.add_message(talk, "ann", "user", str(number) * 1_000_000)
        read = manager.get_session_messages
        latest = await read(talk, "ann")
        assert (seqs(latest), latest.has_more) == ([3, 4, 5, 6], True)
        before = await read(talk, "ann", before_seq=3)
        assert (seqs(before), before.has_more) == ([1, 2], False)
        after = await read(talk, "ann", after_seq=0)
        assert (seqs(after), after.has_more) == ([1, 2, 3, 4], True)
        session = await manager.get_session(talk, "ann")
        assert seqs(session.messages or []) == [3, 4, 5, 6]

    async def test_a_known_message_is_returned_as_stored(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        first = await manager.add_messages(talk, "ann", said(1, 2))
        clock.advance(5)
        alone = await manager.add_message(talk, "ann", "user", "1", message_id="m1")
        assert alone == first[0]
        assert await manager.add_messages(talk, "ann", said(2, 1)) == first[::-1]
        mixed = await manager.add_messages(talk, "ann", said(3, 1, 4))
        assert seqs(mixed) == [3, 1, 4]
        assert mixed[1] == first[0]
        assert await texts(manager, talk) == ["1", "2", "3", "4"]

    async def test_a_repetition_with_keys_in_another_order_is_the_same_message(
        self, manager: SessionManager, talk: str
    ) -> None:
        part, same_part = {"type": "t", "in": {"a": 1, "b": 2.0}}, {"in": {"b": 2.0, "a": 1}}
        first = await manager.add_message(
            talk, "ann", "tool", [part], message_id="m1", metadata={"k": part, "l": 1}
        )
        again: dict[str, Any] = {"message_id": "m1", "metadata": {"l": 1, "k": part}}
        swapped = [{**same_part, "type": "t"}]
        assert await manager.add_message(talk, "ann", "tool", swapped, **again) == first
        assert len(await texts(manager, talk)) == 1
        revision = (await manager.update_session(talk, "ann", {"c": part})).metadata.revision
        updated = await manager.update_session(talk, "ann", {"c": swapped[0]})
        assert updated.metadata.revision == revision

    async def test_a_known_id_with_another_message_refuses_all(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.add_message(talk, "ann", "user", [1], message_id="m1", metadata={"k": 1})
        same: dict[str, Any] = {"message_id": "m1", "metadata": {"k": 1}}
        for call in (
            manager.add_message(talk, "ann", "user", [2], **same),
            manager.add_message(talk, "ann", "user", [1.0], **same),
            manager.add_message(talk, "ann", "user", [True], **same),
            manager.add_message(talk, "ann", "tool", [1], **same),
            manager.add_message(talk, "bob", "user", [1], **same),
            manager.add_message(talk, "ann", "user", [1], message_id="m1"),
            manager.add_messages(talk, "ann", [*said(2), {**said(1)[0]}], context_updates={"k": 1}),
        ):
            with pytest.raises(ConflictError):
                await call
        assert await texts(manager, talk) == [[1]]
        assert (await manager.get_session(talk, "ann")).context == {}

    async def test_the_same_id_twice_in_one_call_is_invalid(
        self, manager: SessionManager, talk: str
    ) -> None:
        with pytest.raises(InvalidInputError):
            await manager.add_messages(talk, "ann", said(1, 2, 1))
        assert await texts(manager, talk) == []

    async def test_a_replay_with_context_updates_changes_nothing(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2), context_updates={"k": 1})
        before = await manager.get_session(talk, "ann")
        clock.advance(60)
        await manager.add_messages(
            talk, "ann", said(1, 2), context_updates={"k": 2}, context_removals=["l"]
        )
        await manager.add_message(
            talk,
            "ann",
            "user",
            "1",
            message_id="m1",
            context_updates={"k": 3},
            expected_revision=99,
            expected_last_seq=99,
            turn="lost",
        )
        assert await manager.get_session(talk, "ann") == before

    async def test_a_replay_into_an_archived_session_is_answered(
        self, manager: SessionManager, talk: str
    ) -> None:
        first = await manager.add_messages(talk, "ann", said(1, 2))
        await manager.archive_session(talk, "ann")
        assert await manager.add_messages(talk, "ann", said(1, 2)) == first

    async def test_a_partly_known_batch_keeps_every_later_check(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1))
        guards: tuple[dict[str, Any], ...] = ({"expected_last_seq": 0}, {"turn": "lost"})
        for guard in guards:
            with pytest.raises((LastSeqMismatchError, TurnLostError)):
                await manager.add_messages(
                    talk,
                    "ann",
                    said(1, 2),
                    context_updates={"k": 1},
                    **guard,
                )
        assert (await manager.get_session(talk, "ann")).context == {}
        added = await manager.add_messages(
            talk, "ann", said(1, 2), context_updates={"k": 1}, expected_last_seq=1
        )
        assert seqs(added) == [1, 2]
        assert (await manager.get_session(talk, "ann")).context == {"k": 1}

    async def test_an_expected_last_seq_is_held_to(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_message(talk, "ann", "user", "1", expected_last_seq=0)
        with pytest.raises(LastSeqMismatchError):
            await manager.add_message(talk, "ann", "user", "2", expected_last_seq=0)
        await manager.add_message(talk, "ann", "user", "2", expected_last_seq=1)
        assert await texts(manager, talk) == ["1", "2"]

    @pytest.mark.parametrize(
        ("bad", "field"),
        [
            ({"role": "user", "content": 1}, "messages/1/content"),
            ({"role": "user", "content": [float("nan")]}, "messages/1/content"),
            ({"role": "user", "content": "\ud800"}, "messages/1/content"),
            ({"role": "user", "content": [b""]}, "messages/1/content"),
            ({"role": "", "content": "x"}, "messages/1/role"),
            ({"role": 1, "content": "x"}, "messages/1/role"),
            ({"role": "user", "content": "x", "id": ""}, "messages/1/id"),
            ({"role": "user", "content": "x", "id": "a/b"}, "messages/1/id"),
            ({"role": "user", "content": "x", "metadata": {"k": {1}}}, "messages/1/metadata"),
            ({"role": "user", "content": "x", "metadata": {1: 2}}, "messages/1/metadata"),
            ({"role": "user"}, "messages/1"),
            ({"role": "user", "content": "x", "seq": 1}, "messages/1"),
            ("user", "messages/1"),
        ],
    )
    async def test_a_batch_with_one_bad_item_writes_nothing(
        self,
        manager: SessionManager,
        talk: str,
        bad: Any,  # noqa: ANN401
        field: str,
    ) -> None:
        batch = [said(1)[0], bad, said(2)[0]]
        with pytest.raises(InvalidInputError, match=f"^{field}: "):
            await manager.add_messages(talk, "ann", batch, context_updates={"k": 1})
        session = await manager.get_session(talk, "ann")
        assert (session.messages, session.context) == ([], {})

    async def test_an_empty_batch_is_refused(self, manager: SessionManager, talk: str) -> None:
        with pytest.raises(InvalidInputError):
            await manager.add_messages(talk, "ann", [])

    async def test_context_goes_with_a_message_or_not_at_all(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_message(talk, "ann", "user", "1", context_updates={"a": 1, "b": 2})
        await manager.add_message(talk, "ann", "user", "2", context_removals=["a"])
        with pytest.raises(LastSeqMismatchError):
            await manager.add_message(
                talk, "ann", "user", "3", context_updates={"b": 3}, expected_last_seq=1
            )
        assert (await manager.get_session(talk, "ann")).context == {"b": 2}

    async def test_a_message_is_deleted_by_its_author_or_the_owner(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.share_session(talk, "ann", "val", role="viewer")
        for user_id in ("ann", "bob", "bob"):
            await manager.add_message(talk, user_id, "user", "by " + user_id)
        for user_id, seq in (("bob", 1), ("val", 1), ("val", 99)):
            with pytest.raises(AccessDeniedError):
                await manager.delete_message(talk, user_id, seq)
        assert await manager.delete_message(talk, "bob", 2) is True
        assert await manager.delete_message(talk, "ann", 3) is True
        for seq in (2, 3, 99):
            with pytest.raises(MessageNotFoundError):
                await manager.delete_message(talk, "ann", seq)
        assert await texts(manager, talk) == ["by ann"]
        await manager.share_session(talk, "ann", "bob", role="viewer")
        await manager.set_visibility(talk, "ann", "public")
        with pytest.raises(AccessDeniedError):
            await manager.delete_message(talk, "bob", 1)

    async def test_what_was_deleted_leaves_a_hole_and_frees_its_id(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2, 3))
        await manager.delete_message(talk, "ann", 3)
        await manager.delete_message(talk, "ann", 1)
        header = (await manager.get_session(talk, "ann")).metadata
        assert (header.last_seq, header.message_count, header.revision) == (3, 1, 3)
        again = await manager.add_message(talk, "ann", "user", "other", message_id="m3")
        assert again.seq == 4
        assert await texts(manager, talk) == ["2", "other"]

    async def test_a_rewind_takes_the_tail_and_no_seq_comes_back(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(*range(1, 11)))
        session = await manager.rewind_session(talk, "ann", 4)
        header = session.metadata
        assert (header.last_seq, header.message_count, header.revision) == (10, 4, 2)
        assert await texts(manager, talk) == ["1", "2", "3", "4"]
        added = await manager.add_messages(talk, "ann", said(5, 4))
        assert seqs(added) == [11, 4]
        for to_seq in (11, 99):
            same = await manager.rewind_session(talk, "ann", to_seq)
            assert same.metadata.revision == 2
        await manager.rewind_session(talk, "ann", 0)
        assert await texts(manager, talk) == []
        assert (await manager.add_message(talk, "ann", "user", "x")).seq == 12

    @pytest.mark.parametrize("seq", [0, -1, 1.0, "1", True, None])
    async def test_a_seq_that_is_none_is_refused(
        self,
        manager: SessionManager,
        talk: str,
        seq: Any,  # noqa: ANN401
    ) -> None:
        with pytest.raises(InvalidInputError):
            await manager.delete_message(talk, "ann", seq)
        if seq != 0:
            with pytest.raises(InvalidInputError):
                await manager.rewind_session(talk, "ann", seq)
