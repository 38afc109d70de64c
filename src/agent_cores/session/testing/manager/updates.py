"""Update one message in place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent_cores.session.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    LastSeqMismatchError,
    MessageNotFoundError,
    RevisionMismatchError,
    SessionError,
    SessionNotFoundError,
    TurnLostError,
)
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.manager.contents import CONTENTS
from agent_cores.session.testing.manager.messages import said

if TYPE_CHECKING:
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock


class UpdateCases(ManagerCases):
    """``update_message``."""

    async def test_an_updated_message_keeps_everything_but_its_content(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        before = await manager.add_messages(talk, "ann", said(1, 2, 3))
        header = (await manager.get_session(talk, "ann")).metadata
        assert [message.updated_at for message in before] == [None] * 3
        clock.advance(5)
        new = await manager.update_message(talk, "ann", 2, content="two")
        assert new == msgspec.structs.replace(before[1], content="two", updated_at=clock())
        session = await manager.get_session(talk, "ann")
        assert session.messages == [before[0], new, before[2]]
        assert session.metadata.revision == header.revision + 1
        assert session.metadata.updated_at == session.metadata.last_active_at == clock()
        assert (session.metadata.last_seq, session.metadata.message_count) == (3, 3)
        assert await manager.get_session_messages(talk, "ann", 1, after_seq=1) == [new]
        copy = await manager.fork_session(talk, "ann")
        assert (await manager.get_session(copy, "ann")).messages == session.messages

    async def test_content_of_every_kind_takes_the_place_of_another(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2))
        for content in CONTENTS:
            for given in (content, msgspec.Raw(msgspec.json.encode(content))):
                new = await manager.update_message(talk, "ann", 1, content=given)
                assert repr(new.content) == repr(content)
            assert repr(await texts(manager, talk)) == repr([content, "2"])

    async def test_metadata_of_a_message_is_updated_key_by_key(
        self, manager: SessionManager, talk: str
    ) -> None:
        metadata = {"a": 1, "tags": ["x"], "": None}
        await manager.add_message(talk, "ann", "user", "hi", metadata=metadata)
        new = await manager.update_message(
            talk, "ann", 1, metadata_updates={"b": {"c": None}, "": 0}, metadata_removals=["a", "z"]
        )
        assert new.metadata == {"tags": ["x"], "": 0, "b": {"c": None}}
        assert new.content == "hi"
        both = await manager.update_message(
            talk, "ann", 1, content=None, metadata_updates={"tags": None}, metadata_removals=["b"]
        )
        assert (both.content, both.metadata) == (None, {"tags": None, "": 0})
        assert await manager.get_session_messages(talk, "ann") == [both]

    async def test_a_message_is_updated_by_its_author_or_the_owner(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.share_session(talk, "ann", "val", role="viewer")
        for user_id in ("ann", "bob", "bob"):
            await manager.add_message(talk, user_id, "user", "by " + user_id)
        for user_id, seq in (("bob", 1), ("val", 1), ("val", 99)):
            with pytest.raises(AccessDeniedError):
                await manager.update_message(talk, user_id, seq, content="no")
        with pytest.raises(SessionNotFoundError):
            await manager.update_message(talk, "eve", 1, content="no")
        assert (await manager.update_message(talk, "bob", 2, content="b")).author_id == "bob"
        assert (await manager.update_message(talk, "ann", 3, content="a")).author_id == "bob"
        await manager.share_session(talk, "ann", "bob", role="viewer")
        with pytest.raises(AccessDeniedError):
            await manager.update_message(talk, "bob", 2, content="no")
        assert await texts(manager, talk) == ["by ann", "b", "a"]

    async def test_a_message_that_is_gone_is_not_updated(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2, 3))
        await manager.delete_message(talk, "ann", 2)
        await manager.rewind_session(talk, "ann", 2)
        for seq in (2, 3, 4):
            with pytest.raises(MessageNotFoundError) as caught:
                await manager.update_message(talk, "ann", seq, content="no")
            assert caught.value.seq == seq
        assert await texts(manager, talk) == ["1"]

    async def test_an_update_holds_to_what_it_expects(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2))
        session = await manager.get_session(talk, "ann")
        await manager.update_session(talk, "ann", {"k": 1})
        refusals: tuple[tuple[type[SessionError], dict[str, Any]], ...] = (
            (RevisionMismatchError, {"expected_revision": session.metadata.revision}),
            (RevisionMismatchError, {"expected_version": session.version}),
            (LastSeqMismatchError, {"expected_last_seq": 1}),
            (TurnLostError, {"turn": "nobody's"}),
        )
        for error, arguments in refusals:
            with pytest.raises(error):
                await manager.update_message(talk, "ann", 1, content="no", **arguments)
        turn = await manager.take_turn(talk, "ann")
        session = await manager.get_session(talk, "ann")
        await manager.update_message(
            talk,
            "ann",
            1,
            content="yes",
            expected_version=session.version,
            expected_last_seq=2,
            turn=turn.token,
        )
        assert await texts(manager, talk) == ["yes", "2"]

    async def test_the_same_update_is_carried_out_once(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        await manager.add_messages(talk, "ann", said(1))
        revision = (await manager.get_session(talk, "ann")).metadata.revision
        given: dict[str, Any] = {"content": {"a": 1, "b": 2}, "expected_revision": revision}
        first = await manager.update_message(talk, "ann", 1, **given)
        clock.advance(1)
        assert await manager.update_message(talk, "ann", 1, **given) == first
        same = await manager.update_message(talk, "ann", 1, content={"b": 2, "a": 1})
        assert same == first
        assert await manager.update_message(talk, "ann", 1) == first
        assert (await manager.get_session(talk, "ann")).metadata.revision == revision + 1
        other = await manager.update_message(talk, "ann", 1, content={"a": 1.0, "b": 2})
        assert other.updated_at == clock()

    async def test_an_append_knows_an_updated_message_by_what_it_says_now(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1))
        new = await manager.update_message(talk, "ann", 1, content="one")
        again = await manager.add_message(talk, "ann", "user", "one", message_id="m1")
        assert again == new
        with pytest.raises(ConflictError):
            await manager.add_messages(talk, "ann", said(1))

    async def test_an_update_keeps_to_the_limits_of_a_message(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_message(talk, "ann", "user", "1", metadata={"a": "x" * 40_000})
        refusals: tuple[tuple[str, dict[str, Any]], ...] = (
            ("content", {"content": "x" * 1024 * 1024}),
            ("content", {"content": 1}),
            ("content", {"content": msgspec.Raw(b'{"a":1,"a":1}')}),
            ("metadata_updates", {"metadata_updates": {"b": "x" * 30_000}}),
            ("metadata_updates", {"metadata_updates": {"b": "x" * 70_000}}),
            ("metadata_updates", {"metadata_updates": {"b": {1: 1}}}),
            ("metadata_updates", {"metadata_updates": ["b"]}),
            ("metadata_removals", {"metadata_removals": "a"}),
            ("metadata_removals", {"metadata_removals": ["a"], "metadata_updates": {"a": 1}}),
        )
        for field, arguments in refusals:
            with pytest.raises(InvalidInputError) as caught:
                await manager.update_message(talk, "ann", 1, **arguments)
            assert caught.value.field.startswith(field), caught.value.field
        content = "x" * (1024 * 1024 - 2)
        new = await manager.update_message(
            talk, "ann", 1, content=content, metadata_updates={"b": "x" * 30_000, "a": None}
        )
        assert new.content == content
        assert await texts(manager, talk) == [content]

    async def test_concurrent_updates_and_appends_are_all_carried_out(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2))
        await asyncio.gather(
            *(
                manager.update_message(talk, "ann", 1, metadata_updates={f"k{n}": n})
                for n in range(8)
            ),
            *(manager.update_message(talk, "ann", 2, content=str(n)) for n in range(5)),
            *(manager.add_messages(talk, "ann", said(n)) for n in range(10, 15)),
        )
        messages = await manager.get_session_messages(talk, "ann")
        assert messages[0].metadata == {f"k{n}": n for n in range(8)}
        assert messages[1].content in {str(n) for n in range(5)}
        assert {message.content for message in messages[2:]} == {str(n) for n in range(10, 15)}

    async def test_every_message_of_a_long_session_may_be_updated(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(*range(1, 101)))
        for seq in (100, 1, *range(2, 99, 3)):
            await manager.update_message(talk, "ann", seq, content=f"new {seq}")
        await manager.delete_message(talk, "ann", 2)
        changed = {100, 1, *range(5, 99, 3)}
        kept = [n for n in range(1, 101) if n != 2]
        assert await texts(manager, talk) == [f"new {n}" if n in changed else str(n) for n in kept]
        page = await manager.get_session_messages(talk, "ann", 3, before_seq=100)
        assert [message.content for message in page] == ["97", "new 98", "99"]
        await manager.rewind_session(talk, "ann", 4)
        assert await texts(manager, talk) == ["new 1", "3", "4"]
        assert (await manager.add_message(talk, "ann", "user", "next")).seq == 101
