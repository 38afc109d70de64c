"""Create, read, update, archive and delete sessions."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import (
    InvalidInputError,
    LastSeqMismatchError,
    SessionArchivedError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    TurnLostError,
)
from agent_cores.session.inputs import DEFAULT_TTL_HOURS
from agent_cores.session.models import AccessRole, SessionStatus, Visibility
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.samples import (
    AWKWARD_ID,
    AWKWARD_NAME,
    AWKWARD_TEXT,
    AWKWARD_VALUE,
    DISTINCT_NAMES,
)
from agent_cores.session.testing.store import suite_settings

if TYPE_CHECKING:
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store

_FOR_PROVIDERS = (
    "access_revision",
    "hold",
    "request_digest",
    "listed_at",
    "due_at",
    "context_bytes",
)


class SessionCases(ManagerCases):
    """A session as a whole."""

    async def test_an_id_is_128_random_bits_and_url_safe(self, manager: SessionManager) -> None:
        ids = {await manager.create_session("ann") for _ in range(20)}
        assert len(ids) == 20
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", session_id) for session_id in ids)

    async def test_a_new_session_is_as_it_was_asked_for(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        metadata = {"tags": ["x", "y", "x"], "agent": {"name": "a"}, "none": None}
        session_id = await manager.create_session(
            "ann", metadata, title="t", context={"k": [1]}, session_id="mine", public=True
        )
        assert session_id == "mine"
        session = await manager.get_session("mine", "ann")
        header = session.metadata
        assert (session.id, session.owner_id) == ("mine", "ann")
        assert (header["title"], header["tags"], header["agent"]) == (
            "t",
            ["x", "y"],
            {"name": "a"},
        )
        assert header.get("none", "absent") == "absent"
        assert header.attributes == {"agent": {"name": "a"}}
        assert session.context == {"k": [1]}
        assert session.messages == []
        assert session.access_role is AccessRole.OWNER
        assert session.visibility is Visibility.PUBLIC
        assert header.created_at == header.updated_at == header.last_active_at == clock()
        assert (header.revision, header.last_seq, header.message_count) == (1, 0, 0)
        assert header.status_at(clock()) is SessionStatus.ACTIVE

    async def test_what_is_for_providers_is_not_handed_out(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.take_turn(talk, "ann", token="secret")
        (listed,) = await manager.list_user_sessions("ann")
        renewed = await manager.renew_session(talk, "ann")
        for session in (await manager.get_session(talk, "ann"), listed, renewed):
            assert [getattr(session.metadata, name) for name in _FOR_PROVIDERS] == [None] * 6
            assert session.metadata.turn is not None
            assert session.metadata.turn.token is None

    async def test_title_and_tags_may_stand_in_the_metadata(self, manager: SessionManager) -> None:
        session_id = await manager.create_session("ann", {"title": "t", "tags": ("x",)})
        header = (await manager.get_session(session_id, "ann")).metadata
        assert (header.title, header.tags, header.attributes) == ("t", ("x",), {})
        with pytest.raises(InvalidInputError):
            await manager.create_session("ann", {"title": "t"}, title="u")

    async def test_a_taken_id_is_told_to_everybody(
        self, manager: SessionManager, talk: str
    ) -> None:
        for user_id in ("ann", "eve"):
            with pytest.raises(SessionExistsError):
                await manager.create_session(user_id, session_id=talk)

    async def test_an_existing_session_is_returned_to_who_owns_it(
        self, opened: Store, clock: ManualClock
    ) -> None:
        manager = await opened.open_manager(
            clock, groups_of=lambda user_id: ["team"] if user_id == "tim" else []
        )
        talk = await manager.create_session("ann", session_id="talk")
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.share_session(talk, "ann", "val", role="viewer")
        await manager.share_session(talk, "ann", "group:team", role="editor")
        given: dict[str, Any] = {"session_id": talk, "if_exists": "return", "title": "other"}
        assert await manager.create_session("ann", **given) == talk
        for user_id in ("bob", "tim", "val", "eve"):
            with pytest.raises(SessionExistsError):
                await manager.create_session(user_id, **given)
        given["if_exists"] = "return_shared"
        for user_id in ("ann", "bob", "tim"):
            assert await manager.create_session(user_id, **given) == talk
        for user_id in ("val", "eve"):
            with pytest.raises(SessionExistsError):
                await manager.create_session(user_id, **given)
        await manager.set_visibility(talk, "ann", "public")
        with pytest.raises(SessionExistsError):
            await manager.create_session("eve", **given)
        assert (await manager.get_session(talk, "ann")).metadata.title is None
        new = await manager.create_session("eve", session_id="new", if_exists="return")
        assert (await manager.get_session(new, "eve")).owner_id == "eve"
        for user_id in ("ann", "eve"):
            with pytest.raises(InvalidInputError, match="if_exists"):
                await manager.create_session(user_id, session_id=talk, if_exists="share")  # type: ignore[arg-type]

    async def test_metadata_changes_key_by_key(self, manager: SessionManager) -> None:
        session_id = await manager.create_session("ann", {"tags": ["x"], "a": 1, "b": 2}, title="t")
        updates = {"title": None, "tags": ["y", "z"], "a": None, "c": 3}
        await manager.update_session(session_id, "ann", metadata_updates=updates)
        header = (await manager.get_session(session_id, "ann")).metadata
        assert (header.title, header.tags) == (None, ("y", "z"))
        assert header.attributes == {"b": 2, "c": 3}
        await manager.update_session(session_id, "ann", metadata_updates={"tags": None})
        assert (await manager.get_session(session_id, "ann")).metadata.tags == ()

    @pytest.mark.parametrize(
        "key", ["session_id", "namespace", "owner_id", "revision", "created_at", "grants", "turn"]
    )
    async def test_keys_of_the_system_are_refused(
        self, manager: SessionManager, talk: str, key: str
    ) -> None:
        with pytest.raises(InvalidInputError, match=key):
            await manager.create_session("ann", {key: 1})
        with pytest.raises(InvalidInputError, match=key):
            await manager.update_session(talk, "ann", metadata_updates={"a": 1, key: None})
        assert (await manager.get_session(talk, "ann")).metadata.attributes == {}

    async def test_context_changes_key_by_key(self, manager: SessionManager, talk: str) -> None:
        await manager.update_session(talk, "ann", {"a": 1, "b": {"c": None}})
        await manager.update_session(talk, "ann", {"d": None}, context_removals=["a", "absent"])
        session = await manager.get_session(talk, "ann")
        assert session.context == {"b": {"c": None}, "d": None}
        with pytest.raises(InvalidInputError):
            await manager.update_session(talk, "ann", {"a": 1}, context_removals=["a"])
        with pytest.raises(InvalidInputError):
            await manager.update_session(talk, "ann", context_removals="ab")

    async def test_a_write_returns_the_header_alone(
        self, manager: SessionManager, talk: str
    ) -> None:
        for session in (
            await manager.update_session(talk, "ann", {"k": 1}),
            await manager.set_visibility(talk, "ann", "public"),
            await manager.archive_session(talk, "ann"),
            await manager.unarchive_session(talk, "ann"),
            await manager.renew_session(talk, "ann"),
            await manager.rewind_session(talk, "ann", 0),
        ):
            assert (session.context, session.messages) == (None, None)
            assert session.access_role is AccessRole.OWNER

    async def test_a_session_is_deleted_only_as_it_is_expected(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_message(talk, "ann", "user", "hi")
        refusals: tuple[tuple[type[SessionError], dict[str, Any]], ...] = (
            (LastSeqMismatchError, {"expected_last_seq": 0}),
            (LastSeqMismatchError, {"expected_last_seq": 2}),
            (TurnLostError, {"turn": "nobody's"}),
            (InvalidInputError, {"expected_last_seq": -1}),
            (InvalidInputError, {"turn": ""}),
        )
        for error, condition in refusals:
            with pytest.raises(error):
                await manager.delete_session(talk, "ann", **condition)
        turn = await manager.take_turn(talk, "ann")
        with pytest.raises(LastSeqMismatchError):
            await manager.delete_session(talk, "ann", expected_last_seq=0, turn=turn.token)
        assert await texts(manager, talk) == ["hi"]
        assert await manager.delete_session(talk, "ann", expected_last_seq=1, turn=turn.token)
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(talk, "ann")

    async def test_no_message_is_deleted_with_a_session_that_was_expected_without_it(
        self, manager: SessionManager
    ) -> None:
        for number in range(20):
            talk = await manager.create_session("ann", session_id=f"talk-{number}")
            appended, deleted = await asyncio.gather(
                manager.add_message(talk, "ann", "user", "hi"),
                manager.delete_session(talk, "ann", expected_last_seq=0),
                return_exceptions=True,
            )
            if deleted is True:
                assert isinstance(appended, SessionNotFoundError)
            else:
                assert isinstance(deleted, LastSeqMismatchError)
                assert await texts(manager, talk) == ["hi"]

    async def test_a_deleted_session_is_gone(self, manager: SessionManager, talk: str) -> None:
        await manager.add_message(talk, "ann", "user", "hi", context_updates={"k": 1})
        assert await manager.delete_session(talk, "ann") is True
        for call in (
            manager.get_session(talk, "ann"),
            manager.add_message(talk, "ann", "user", "hi"),
            manager.delete_session(talk, "ann"),
        ):
            with pytest.raises(SessionNotFoundError):
                await call
        assert await manager.list_user_sessions("ann") == []
        await manager.create_session("eve", session_id=talk)
        session = await manager.get_session(talk, "eve")
        assert (session.messages, session.context) == ([], {})

    async def test_an_archived_session_is_read_and_not_written(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_message(talk, "ann", "user", "hi")
        session = await manager.archive_session(talk, "ann")
        assert session.metadata.archived
        for call in (
            manager.add_message(talk, "ann", "user", "no"),
            manager.update_session(talk, "ann", {"k": 1}),
            manager.update_session(talk, "ann", None, {"a": 1}),
            manager.update_message(talk, "ann", 1, content="no"),
            manager.delete_message(talk, "ann", 1),
            manager.rewind_session(talk, "ann", 0),
            manager.take_turn(talk, "ann"),
        ):
            with pytest.raises(SessionArchivedError):
                await call
        assert await texts(manager, talk) == ["hi"]
        await manager.renew_session(talk, "ann")
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.revoke_access(talk, "ann", "bob")
        await manager.set_visibility(talk, "ann", "public")
        copy = await manager.fork_session(talk, "eve")
        assert await texts(manager, copy, "eve") == ["hi"]
        await manager.transfer_ownership(talk, "ann", "bob", keep_role="editor")
        await manager.unarchive_session(talk, "bob")
        await manager.add_message(talk, "ann", "user", "again")
        await manager.archive_session(talk, "bob")
        await manager.delete_session(talk, "bob")

    async def test_every_value_comes_back_equal(self, manager: SessionManager) -> None:
        metadata = {"title": AWKWARD_TEXT, "tags": [AWKWARD_NAME], AWKWARD_TEXT: AWKWARD_VALUE}
        context = {AWKWARD_NAME: AWKWARD_VALUE, "text": AWKWARD_TEXT}
        session_id = await manager.create_session(
            AWKWARD_NAME, metadata, session_id=AWKWARD_ID, context=context
        )
        message = await manager.add_message(
            session_id,
            AWKWARD_NAME,
            AWKWARD_NAME,
            [AWKWARD_VALUE],
            message_id=AWKWARD_ID,
            metadata=AWKWARD_VALUE,
        )
        session = await manager.get_session(session_id, AWKWARD_NAME)
        header = session.metadata
        assert (header.session_id, header.owner_id) == (AWKWARD_ID, AWKWARD_NAME)
        assert (header.title, header.tags) == (AWKWARD_TEXT, (AWKWARD_NAME,))
        assert repr(header.attributes) == repr({AWKWARD_TEXT: AWKWARD_VALUE})
        assert session.context == context
        assert repr(session.context[AWKWARD_NAME]) == repr(AWKWARD_VALUE)
        assert session.messages == [message]
        assert repr(message.content) == repr([AWKWARD_VALUE])
        assert message.metadata == AWKWARD_VALUE
        assert (message.role, message.id) == (AWKWARD_NAME, AWKWARD_ID)
        (listed,) = await manager.list_user_sessions(AWKWARD_NAME, tags=[AWKWARD_NAME])
        assert listed.id == AWKWARD_ID

    async def test_names_that_look_alike_stay_apart(self, manager: SessionManager) -> None:
        for name in DISTINCT_NAMES:
            await manager.create_session(name, {"tags": [name]}, session_id=name)
            await manager.add_message(name, name, "user", name, context_updates={name: name})
            await manager.share_session(name, name, "reader of " + name)
        for name in DISTINCT_NAMES:
            session = await manager.get_session(name, name)
            assert session.context == {name: name}
            assert await texts(manager, name, name) == [name]
            assert [s.id for s in await manager.list_user_sessions(name, tags=[name])] == [name]
            shared = await manager.list_user_sessions("reader of " + name, shared=True)
            assert [s.id for s in shared] == [name]
            for other in DISTINCT_NAMES:
                if other != name:
                    with pytest.raises(SessionNotFoundError):
                        await manager.get_session(name, other, message_limit=0)

    async def test_what_was_handed_out_is_nobody_elses(
        self, manager: SessionManager, talk: str
    ) -> None:
        given = {"list": [1]}
        await manager.update_session(talk, "ann", {"k": given}, {"a": given})
        await manager.add_message(talk, "ann", "user", [given], metadata={"m": given})
        await manager.share_session(talk, "ann", "bob")
        given["list"].append(2)
        session = await manager.get_session(talk, "ann")
        kept = {"list": [1]}
        assert session.context == {"k": kept}
        assert session.messages is not None
        assert session.messages[0].content == [kept]
        session.metadata.attributes["a"]["list"].append(3)
        session.metadata.grants.clear()
        session.context["k"]["list"].append(3)
        session.messages[0].metadata.clear()
        again = await manager.get_session(talk, "ann")
        assert again.metadata.attributes == {"a": kept}
        assert list(again.metadata.grants) == ["bob"]
        assert again.context == {"k": kept}
        assert again.messages is not None
        assert again.messages[0].metadata == {"m": kept}

    async def test_the_idle_time_left_out_is_the_setting(
        self, opened: Store, manager: SessionManager, clock: ManualClock
    ) -> None:
        brief = await opened.open_manager(clock, settings=suite_settings(default_expiry=60))
        endless = await opened.open_manager(clock, settings=suite_settings(default_expiry=0))
        assert float(DEFAULT_TTL_HOURS) == 24.0
        for chosen, ttl, seconds in (
            (manager, DEFAULT_TTL_HOURS, 86_400),
            (brief, DEFAULT_TTL_HOURS, 60),
            (brief, 24, 86_400),
            (brief, 24.0, 86_400),
            (brief, 0.5, 1_800),
            (brief, None, None),
            (endless, DEFAULT_TTL_HOURS, None),
            (endless, 24, 86_400),
        ):
            session_id = await chosen.create_session("ann", ttl_hours=ttl)
            header = (await chosen.get_session(session_id, "ann")).metadata
            assert header.ttl_seconds == seconds
            if seconds is None:
                assert header.expires_at is None
            else:
                assert header.expires_at is not None
                assert (header.expires_at - clock()).total_seconds() == seconds

    @pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "24", True, 10**12])
    async def test_an_idle_time_out_of_range_is_refused(
        self,
        manager: SessionManager,
        talk: str,
        ttl: Any,  # noqa: ANN401
    ) -> None:
        with pytest.raises(InvalidInputError):
            await manager.create_session("ann", ttl_hours=ttl)
        with pytest.raises(InvalidInputError):
            await manager.renew_session(talk, "ann", ttl_hours=ttl)

    async def test_statistics_count_what_is_stored_and_due(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        assert await manager.get_statistics() == {"sessions": 0, "due": 0}
        await manager.create_session("ann", ttl_hours=1)
        await manager.create_session("ann", ttl_hours=2)
        await manager.create_session("ann", ttl_hours=None)
        assert await manager.get_statistics() == {"sessions": 3, "due": 0}
        clock.advance(3_600)
        assert await manager.get_statistics() == {"sessions": 3, "due": 1}
