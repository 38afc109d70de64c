"""More in one write: sessions with their first messages, appends that create, metadata beside."""

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
    SessionExistsError,
    SessionNotFoundError,
    TurnLostError,
)
from agent_cores.session.models import AccessRole, Visibility
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.manager.messages import said, seqs

if TYPE_CHECKING:
    from agent_cores.session.models import NewSession, Session
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock


class OneWriteCases(ManagerCases):
    """Creates with messages, appends that create, and metadata beside messages."""

    async def test_a_session_is_created_with_its_first_messages(
        self, manager: SessionManager
    ) -> None:
        talk = await manager.create_session(
            "ann", {"tags": ["x"], "a": 1}, context={"k": 1}, messages=said(1, 2)
        )
        session = await manager.get_session(talk, "ann")
        assert session.messages is not None
        assert seqs(session.messages) == [1, 2]
        assert [(m.id, m.content, m.author_id) for m in session.messages] == [
            ("m1", "1", "ann"),
            ("m2", "2", "ann"),
        ]
        assert session.context == {"k": 1}
        header = session.metadata
        assert (header.message_count, header.last_seq, header.revision) == (2, 2, 1)
        assert seqs(await manager.add_messages(talk, "ann", said(1, 3))) == [1, 3]

    async def test_a_create_with_wrong_messages_leaves_nothing(
        self, manager: SessionManager
    ) -> None:
        wrong: tuple[tuple[str, dict[str, Any]], ...] = (
            ("messages/1/role", {"messages": [*said(1), {"role": "", "content": "x"}]}),
            ("messages", {"messages": [*said(1), *said(1)]}),
            ("messages", {"messages": "text"}),
            ("messages", {"messages": said(*range(1_001))}),
            ("context/k", {"messages": said(1), "context": {"k": float("nan")}}),
        )
        for field, arguments in wrong:
            with pytest.raises(InvalidInputError) as caught:
                await manager.create_session("ann", session_id="new", **arguments)
            assert caught.value.field == field
        assert await manager.get_statistics() == {"sessions": 0, "due": 0}

    async def test_the_messages_of_a_create_are_not_added_to_an_existing_session(
        self, manager: SessionManager, talk: str
    ) -> None:
        with pytest.raises(SessionExistsError):
            await manager.create_session("ann", session_id=talk, messages=said(1))
        await manager.create_session("ann", session_id=talk, messages=said(1), if_exists="return")
        await manager.open_session(talk, "ann", messages=said(1), context={"k": 1})
        session = await manager.get_session(talk, "ann")
        assert (session.messages, session.context) == ([], {})

    async def test_messages_may_follow_an_expired_session(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        for new in ("bob", "ann"):
            await manager.create_session(
                "ann", session_id="talk", ttl_hours=1, messages=said(1, 2), if_exists="return"
            )
            clock.advance(3_600)
            stored = await manager.add_messages(
                "talk", new, said(2), create={"ttl_hours": 1}, context_updates={"k": new}
            )
            assert seqs(stored) == [1]
            session = await manager.get_session("talk", new)
            assert (session.owner_id, session.context) == (new, {"k": new})
            clock.advance(3_600)

    async def test_an_append_creates_the_session_that_is_missing(
        self, manager: SessionManager
    ) -> None:
        create: NewSession = {
            "title": "t",
            "metadata": {"tags": ["x"], "a": 1, "b": 2},
            "ttl_hours": 2,
            "public": True,
            "renew_on": "access",
        }
        stored = await manager.add_messages(
            "new",
            "ann",
            said(1, 2),
            create=create,
            context_updates={"k": 1},
            context_removals=["gone"],
            metadata_updates={"b": None, "c": 3, "title": "u"},
            expected_last_seq=0,
        )
        session = await manager.get_session("new", "ann")
        assert session.messages == stored
        assert (session.context, session.visibility) == ({"k": 1}, Visibility.PUBLIC)
        header = session.metadata
        assert (header.title, header.tags, header.attributes) == ("u", ("x",), {"a": 1, "c": 3})
        assert (header.ttl_seconds, header.renew_on, header.revision) == (7_200, "access", 1)
        again = await manager.add_messages("new", "ann", said(2, 1, 3), create=create)
        assert seqs(again) == [2, 1, 3]
        assert (await manager.open_session("new", "ann")).metadata.title == "u"

    async def test_an_append_that_may_create_is_a_plain_append_where_there_is_a_session(
        self, manager: SessionManager, talk: str
    ) -> None:
        create: NewSession = {"title": "t", "public": True}
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.share_session(talk, "ann", "vic")
        assert seqs(await manager.add_messages(talk, "ann", said(1), create=create)) == [1]
        assert seqs(await manager.add_messages(talk, "bob", said(2), create=create)) == [2]
        for user_id, refusal in (("vic", AccessDeniedError), ("eve", SessionNotFoundError)):
            with pytest.raises(refusal) as caught:
                await manager.add_messages(talk, user_id, said(3), create=create)
            assert type(caught.value) is refusal
        await manager.archive_session(talk, "ann")
        with pytest.raises(SessionArchivedError):
            await manager.add_messages(talk, "ann", said(3), create=create)
        session = await manager.get_session(talk, "ann")
        assert (session.metadata.title, session.visibility) == (None, Visibility.SHARED)
        assert await texts(manager, talk) == ["1", "2"]

    async def test_an_append_that_expects_a_session_creates_none(
        self, manager: SessionManager, talk: str
    ) -> None:
        version = (await manager.get_session(talk, "ann")).version
        expectations: tuple[dict[str, Any], ...] = (
            {"expected_last_seq": 1},
            {"expected_revision": 1},
            {"expected_version": version},
            {"turn": "held"},
        )
        for expected in expectations:
            with pytest.raises(SessionNotFoundError):
                await manager.add_messages("new", "ann", said(1), create=True, **expected)
        refusals: tuple[tuple[type[SessionError], dict[str, Any]], ...] = (
            (LastSeqMismatchError, {"expected_last_seq": 1}),
            (RevisionMismatchError, {"expected_revision": 2}),
            (TurnLostError, {"turn": "nobody's"}),
        )
        for refusal, expected in refusals:
            with pytest.raises(refusal):
                await manager.add_messages(talk, "ann", said(1), create=True, **expected)
        assert await manager.get_statistics() == {"sessions": 1, "due": 0}
        assert await texts(manager, talk) == []

    async def test_a_wrong_creation_is_refused_whether_or_not_it_is_needed(
        self, manager: SessionManager, talk: str
    ) -> None:
        wrong: tuple[tuple[str, dict[str, Any]], ...] = (
            ("create", {"create": {"colour": "red"}}),
            ("create", {"create": "yes"}),
            ("create/ttl_hours", {"create": {"ttl_hours": -1}}),
            ("create/title", {"create": {"title": "t", "metadata": {"title": "t"}}}),
            ("metadata_updates/owner_id", {"create": True, "metadata_updates": {"owner_id": "e"}}),
            ("context_updates/k", {"create": True, "context_updates": {"k": float("nan")}}),
            ("messages", {"create": True, "messages": "text"}),
        )
        for session_id in (talk, "new"):
            for field, given in wrong:
                arguments: dict[str, Any] = {"messages": said(1), **given}
                with pytest.raises(InvalidInputError) as caught:
                    await manager.add_messages(session_id, "ann", **arguments)
                assert caught.value.field == field
        with pytest.raises(SessionNotFoundError):
            await manager.add_messages("new", "ann", said(1))
        assert await texts(manager, talk) == []

    async def test_of_many_callers_one_creates_and_all_append(
        self, manager: SessionManager
    ) -> None:
        create: NewSession = {"metadata": {"tags": ["x"]}}
        answers = await asyncio.gather(
            *(manager.add_messages("new", "ann", said(n), create=create) for n in range(12))
        )
        assert sorted(seq for messages in answers for seq in seqs(messages)) == [*range(1, 13)]
        assert sorted(map(str, await texts(manager, "new"))) == sorted(map(str, range(12)))
        [session] = await manager.list_user_sessions("ann", tags=["x"])
        assert session.metadata.message_count == 12

    async def test_metadata_is_written_with_messages_or_not_at_all(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.update_session(talk, "ann", None, {"a": 1, "b": 1})
        updates = {"title": "t", "tags": ["x", "y"], "a": None, "c": {"d": 1}}
        await manager.add_messages(talk, "ann", said(1, 2, 3), metadata_updates=updates)
        header = (await manager.get_session(talk, "ann")).metadata
        assert (header.title, header.tags) == ("t", ("x", "y"))
        assert header.attributes == {"b": 1, "c": {"d": 1}}
        assert (header.revision, header.message_count) == (3, 3)
        await manager.add_message(talk, "ann", "user", "4", metadata_updates={"tags": ["y"]})
        assert [s.id for s in await manager.list_user_sessions("ann", tags=["y"])] == [talk]
        assert await manager.list_user_sessions("ann", tags=["x"]) == []
        await manager.replace_messages(
            talk,
            "ann",
            said(5),
            after_seq=1,
            metadata_updates={"title": None, "b": None},
            context_updates={"k": 1},
        )
        session = await manager.get_session(talk, "ann")
        assert (session.metadata.title, session.metadata.attributes) == (None, {"c": {"d": 1}})
        assert (session.metadata.revision, session.context) == (5, {"k": 1})
        assert await texts(manager, talk) == ["1", "5"]

    async def test_metadata_beside_messages_is_refused_as_a_whole(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1))
        before = await manager.get_session(talk, "ann")
        refusals: tuple[tuple[type[SessionError], dict[str, Any]], ...] = (
            (InvalidInputError, {"metadata_updates": {"owner_id": "eve"}}),
            (InvalidInputError, {"metadata_updates": {"a": float("nan")}}),
            (InvalidInputError, {"metadata_updates": {"a": "x" * 100_000}}),
            (LastSeqMismatchError, {"expected_last_seq": 0}),
            (RevisionMismatchError, {"expected_revision": 9}),
            (TurnLostError, {"turn": "nobody's"}),
            (ConflictError, {"messages": [{"id": "m1", "role": "user", "content": "else"}]}),
        )
        for refusal, given in refusals:
            arguments: dict[str, Any] = {
                "messages": said(2),
                "metadata_updates": {"a": 1},
                **given,
            }
            with pytest.raises(refusal):
                await manager.add_messages(talk, "ann", **arguments)
            with pytest.raises(refusal):
                await manager.replace_messages(talk, "ann", after_seq=1, **arguments)
        after = await manager.get_session(talk, "ann")
        assert (after.metadata, after.messages) == (before.metadata, before.messages)

    async def test_metadata_grows_to_its_bound_in_a_create_and_beside_messages(
        self, manager: SessionManager, talk: str
    ) -> None:
        half, other = {"a": "x" * 40_000}, {"b": "x" * 40_000}
        await manager.add_messages(talk, "ann", said(1), metadata_updates=half)
        with pytest.raises(InvalidInputError) as caught:
            await manager.add_messages(talk, "ann", said(2), metadata_updates=other)
        assert caught.value.field == "metadata"
        with pytest.raises(InvalidInputError) as caught:
            await manager.add_messages(
                "new",
                "ann",
                said(2),
                create={"metadata": half},
                metadata_updates=other,
            )
        assert caught.value.field == "metadata"
        assert await texts(manager, talk) == ["1"]
        assert await manager.get_statistics() == {"sessions": 1, "due": 0}

    async def test_who_may_append_and_update_may_do_both_in_one_write(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.share_session(talk, "ann", "vic")
        updates = {"a": 1}
        await manager.add_messages(talk, "bob", said(1), metadata_updates=updates)
        for user_id, refusal in (("vic", AccessDeniedError), ("eve", SessionNotFoundError)):
            with pytest.raises(refusal):
                await manager.add_messages(talk, user_id, said(2), metadata_updates=updates)
            with pytest.raises(refusal):
                await manager.add_message(talk, user_id, "user", "2", metadata_updates=updates)
        with pytest.raises(AccessDeniedError):
            await manager.replace_messages(
                talk, "bob", said(2), after_seq=0, metadata_updates=updates
            )
        assert (await manager.get_session(talk, "ann")).metadata.attributes == {"a": 1}
        assert await texts(manager, talk) == ["1"]

    async def test_a_session_is_opened_or_created(self, manager: SessionManager) -> None:
        new = await manager.open_session(
            "talk", "ann", title="t", metadata={"tags": ["x"]}, context={"k": 1}, messages=said(1)
        )
        assert (new.id, new.owner_id, new.access_role) == ("talk", "ann", AccessRole.OWNER)
        assert (new.metadata.title, new.metadata.last_seq) == ("t", 1)
        assert (new.messages, new.context) == (None, None)
        await manager.add_message("talk", "ann", "user", "2")
        opened = await manager.open_session("talk", "ann", title="other", messages=said(9))
        assert (opened.metadata.title, opened.metadata.last_seq) == ("t", 2)
        assert opened.metadata.incarnation == new.metadata.incarnation
        assert await texts(manager, "talk") == ["1", "2"]

    async def test_only_its_owner_opens_a_session_or_whoever_may_write_to_it(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.set_visibility(talk, "ann", "public")
        for user_id, shared in (("bob", False), ("eve", False), ("eve", True)):
            with pytest.raises(SessionExistsError):
                await manager.open_session(talk, user_id, shared=shared)
        opened = await manager.open_session(talk, "bob", shared=True)
        assert (opened.owner_id, opened.access_role) == ("ann", AccessRole.EDITOR)
        await manager.archive_session(talk, "ann")
        assert (await manager.open_session(talk, "ann")).metadata.archived

    async def test_a_wrong_opening_is_refused(self, manager: SessionManager, talk: str) -> None:
        wrong: tuple[tuple[str, dict[str, Any]], ...] = (
            ("title", {"title": 5}),
            ("ttl_hours", {"ttl_hours": 0}),
            ("messages/0/role", {"messages": [{"role": "", "content": "x"}]}),
            ("shared", {"shared": "yes"}),
        )
        for session_id in (talk, "new"):
            for field, arguments in wrong:
                with pytest.raises(InvalidInputError) as caught:
                    await manager.open_session(session_id, "ann", **arguments)
                assert caught.value.field == field
        with pytest.raises(InvalidInputError) as caught:
            await manager.open_session("a/b", "ann")
        assert caught.value.field == "session_id"
        assert await manager.get_statistics() == {"sessions": 1, "due": 0}

    async def test_of_many_openings_one_creates(self, manager: SessionManager) -> None:
        opened: list[Session] = await asyncio.gather(
            *(manager.open_session("talk", "ann", messages=said(1)) for _ in range(8))
        )
        assert len({session.version for session in opened}) == 1
        assert await texts(manager, "talk") == ["1"]
