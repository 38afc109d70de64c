"""Who may do what: every role and every verb, grants, groups, visibility, transfer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import (
    AccessDeniedError,
    InvalidInputError,
    SessionError,
    SessionNotFoundError,
)
from agent_cores.session.models import AccessRole, Visibility
from agent_cores.session.testing.manager.cases import ManagerCases, texts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store

Call = Callable[["SessionManager", str], Awaitable[object]]

VERBS: dict[str, tuple[int, Call]] = {
    "get_session": (1, lambda m, u: m.get_session("talk", u)),
    "get_session_messages": (1, lambda m, u: m.get_session_messages("talk", u)),
    "get_messages": (1, lambda m, u: m.get_messages("talk", u, ids=["any"])),
    "fork_session": (1, lambda m, u: m.fork_session("talk", u)),
    "leave": (1, lambda m, u: m.revoke_access("talk", u, u)),
    "update_session": (2, lambda m, u: m.update_session("talk", u, {"k": 2}, {"a": 1})),
    "add_message": (2, lambda m, u: m.add_message("talk", u, "user", "x")),
    "add_messages": (
        2,
        lambda m, u: m.add_messages("talk", u, [{"role": "user", "content": "x"}]),
    ),
    "take_turn": (2, lambda m, u: m.take_turn("talk", u)),
    "update_message": (3, lambda m, u: m.update_message("talk", u, 1, content=u)),
    "delete_message": (3, lambda m, u: m.delete_message("talk", u, 1)),
    "delete_messages by seq": (3, lambda m, u: m.delete_messages("talk", u, seqs=[1])),
    "delete_messages by number": (3, lambda m, u: m.delete_messages("talk", u, keep_last=0)),
    "share_session": (3, lambda m, u: m.share_session("talk", u, "new", role="editor")),
    "revoke_access": (3, lambda m, u: m.revoke_access("talk", u, "new")),
    "set_visibility": (3, lambda m, u: m.set_visibility("talk", u, "shared")),
    "transfer_ownership": (3, lambda m, u: m.transfer_ownership("talk", u, "new")),
    "archive_session": (3, lambda m, u: m.archive_session("talk", u)),
    "unarchive_session": (3, lambda m, u: m.unarchive_session("talk", u)),
    "renew_session": (3, lambda m, u: m.renew_session("talk", u)),
    "rewind_session": (3, lambda m, u: m.rewind_session("talk", u, 0)),
    "delete_session": (3, lambda m, u: m.delete_session("talk", u)),
}
"""Every verb on one session, and the rank of the role it requires: 1 viewer to 3 owner."""

USERS = {
    "ann": 3,
    "editor": 2,
    "viewer": 1,
    "in editors": 2,
    "in viewers": 1,
    "in both": 2,
    "viewer in editors": 2,
    "was editor": 0,
    "soon editor": 0,
    "stranger": 0,
    "Ann": 0,
    "ann ": 0,
}
"""Users and the rank of their role in Ann's session."""

_GROUPS = {
    "in editors": ["editors"],
    "in viewers": ["viewers", "others"],
    "in both": ["viewers", "editors"],
    "viewer in editors": ["editors"],
}


def groups_of(user_id: str) -> Iterable[str]:
    """Return the groups of a user."""
    return _GROUPS.get(user_id, [])


class AccessCases(ManagerCases):
    """Roles, whichever way they were granted."""

    @pytest.fixture
    async def grouped(self, opened: Store, clock: ManualClock) -> SessionManager:
        """Open a manager with ``groups_of``."""
        return await opened.open_manager(clock, groups_of=groups_of)

    @pytest.fixture
    async def shared(self, grouped: SessionManager, clock: ManualClock) -> str:
        """Share a session of Ann's with everybody in USERS."""
        manager = grouped
        talk = await manager.create_session("ann", session_id="talk")
        await manager.add_message(talk, "ann", "user", "hi", context_updates={"k": 1})
        roles = {
            "editor": "editor",
            "viewer": "viewer",
            "viewer in editors": "viewer",
            "group:editors": "editor",
            "group:viewers": "viewer",
            "was editor": "editor",
        }
        for subject, role in roles.items():
            await manager.share_session(talk, "ann", subject, role=role)
        end = clock() + timedelta(seconds=1)
        await manager.share_session(talk, "ann", "soon editor", role="editor", expires_at=end)
        await manager.revoke_access(talk, "ann", "was editor")
        clock.advance(1)
        return talk

    @pytest.mark.parametrize("user_id", USERS)
    @pytest.mark.parametrize("verb", VERBS)
    async def test_a_role_may_do_what_the_table_says(
        self, grouped: SessionManager, shared: str, verb: str, user_id: str
    ) -> None:
        manager, rank, (needed, call) = grouped, USERS[user_id], VERBS[verb]
        before = await manager.get_session(shared, "ann")
        if rank >= needed:
            await call(manager, user_id)
            return
        with pytest.raises(SessionError) as caught:
            await call(manager, user_id)
        assert type(caught.value) is (AccessDeniedError if rank else SessionNotFoundError)
        assert await manager.get_session(shared, "ann") == before

    @pytest.mark.parametrize("user_id", [user_id for user_id, rank in USERS.items() if rank])
    async def test_what_is_read_goes_by_the_role(
        self, grouped: SessionManager, shared: str, user_id: str
    ) -> None:
        session = await grouped.get_session(shared, user_id)
        rank = USERS[user_id]
        assert session.access_role is not None
        assert session.access_role.rank == rank
        assert session.context == ({"k": 1} if rank >= 2 else None)
        assert [message.content for message in session.messages or ()] == ["hi"]
        mine = {user_id, *("group:" + group for group in groups_of(user_id))}
        every = {"editor", "viewer", "viewer in editors", "group:editors", "group:viewers"}
        assert set(session.metadata.grants) == (every if rank == 3 else every & mine)

    @pytest.mark.parametrize("verb", VERBS)
    async def test_a_public_session_is_read_by_everybody_who_knows_its_id(
        self, manager: SessionManager, talk: str, verb: str
    ) -> None:
        await manager.add_message(talk, "ann", "user", "hi", context_updates={"k": 1})
        await manager.set_visibility(talk, "ann", "public")
        assert await manager.list_user_sessions("eve") == []
        assert await manager.list_user_sessions("eve", shared=True) == []
        assert (await manager.get_session(talk, "eve")).context is None
        needed, call = VERBS[verb]
        if needed == 1:
            await call(manager, "eve")
        else:
            with pytest.raises(AccessDeniedError):
                await call(manager, "eve")

    async def test_a_public_session_takes_no_role_away(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.set_visibility(talk, "ann", "public")
        await manager.add_message(talk, "bob", "user", "hi")
        assert (await manager.get_session(talk, "bob")).access_role is AccessRole.EDITOR

    async def test_sharing_again_replaces_the_grant(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        end = clock() + timedelta(hours=1)
        grant = await manager.share_session(talk, "ann", "bob", role="editor", expires_at=end)
        assert (grant.subject, grant.role, grant.expires_at) == ("bob", AccessRole.EDITOR, end)
        assert (grant.granted_by, grant.granted_at) == ("ann", clock())
        await manager.add_message(talk, "bob", "user", "hi")
        weaker = await manager.share_session(talk, "ann", "bob")
        assert (weaker.role, weaker.expires_at) == (AccessRole.VIEWER, None)
        with pytest.raises(AccessDeniedError):
            await manager.add_message(talk, "bob", "user", "no")
        session = await manager.get_session(talk, "ann")
        assert session.metadata.grants == {"bob": weaker}

    async def test_a_grant_ends_at_the_exact_instant(
        self, grouped: SessionManager, clock: ManualClock
    ) -> None:
        manager, end = grouped, clock() + timedelta(seconds=10)
        talk = await manager.create_session("ann")
        for subject in ("bob", "group:editors"):
            await manager.share_session(talk, "ann", subject, role="editor", expires_at=end)
        clock.advance(9.999)
        for user_id in ("bob", "in editors"):
            await manager.add_message(talk, user_id, "user", "in time")
            assert len(await manager.list_user_sessions(user_id, shared=True)) == 1
        assert (await manager.get_session(talk, "ann")).visibility is Visibility.SHARED
        clock.advance(0.001)
        for user_id in ("bob", "in editors"):
            with pytest.raises(SessionNotFoundError):
                await manager.add_message(talk, user_id, "user", "late")
            with pytest.raises(SessionNotFoundError):
                await manager.get_session(talk, user_id)
            assert await manager.list_user_sessions(user_id, shared=True) == []
        session = await manager.get_session(talk, "ann")
        assert session.visibility is Visibility.PRIVATE
        assert session.metadata.grants == {}

    async def test_a_share_that_makes_no_sense_is_refused(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        refused: tuple[tuple[str, dict[str, Any]], ...] = (
            ("ann", {}),
            ("", {}),
            ("group:", {}),
            ("bob", {"role": "owner"}),
            ("bob", {"role": "admin"}),
            ("bob", {"expires_at": clock()}),
            ("bob", {"expires_at": clock().replace(tzinfo=None) + timedelta(days=1)}),
        )
        for target, arguments in refused:
            with pytest.raises(InvalidInputError):
                await manager.share_session(talk, "ann", target, **arguments)
        assert (await manager.get_session(talk, "ann")).metadata.revision == 1

    async def test_a_group_is_no_user(self, manager: SessionManager, talk: str) -> None:
        await manager.share_session(talk, "ann", "group:editors", role="editor")
        for call in (
            manager.get_session(talk, "group:editors"),
            manager.create_session("group:editors"),
            manager.list_user_sessions("group:editors", shared=True),
            manager.transfer_ownership(talk, "ann", "group:editors"),
            manager.erase_user("group:editors"),
        ):
            with pytest.raises(InvalidInputError):
                await call

    async def test_revoking_says_whether_there_was_a_grant(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.share_session(talk, "ann", "val")
        with pytest.raises(AccessDeniedError):
            await manager.revoke_access(talk, "bob", "val")
        assert await manager.revoke_access(talk, "bob", "bob") is True
        assert await manager.revoke_access(talk, "ann", "val") is True
        for target in ("bob", "val", "nobody", "ann"):
            assert await manager.revoke_access(talk, "ann", target) is False
        for user_id in ("bob", "val"):
            with pytest.raises(SessionNotFoundError):
                await manager.get_session(talk, user_id)

    async def test_visibility_follows_flag_and_grants(
        self, manager: SessionManager, talk: str
    ) -> None:
        async def visibility() -> Visibility | None:
            return (await manager.get_session(talk, "ann")).visibility

        assert await visibility() is Visibility.PRIVATE
        await manager.share_session(talk, "ann", "bob")
        assert await visibility() is Visibility.SHARED
        public = await manager.set_visibility(talk, "ann", Visibility.PUBLIC)
        assert public.visibility is Visibility.PUBLIC
        assert list(public.metadata.grants) == ["bob"]
        shared = await manager.set_visibility(talk, "ann", "shared")
        assert shared.visibility is Visibility.SHARED
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(talk, "eve")
        private = await manager.set_visibility(talk, "ann", "private")
        assert private.visibility is Visibility.PRIVATE
        assert private.metadata.grants == {}
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(talk, "bob")
        with pytest.raises(InvalidInputError):
            await manager.set_visibility(talk, "ann", "secret")

    async def test_a_transfer_leaves_no_role_unless_one_is_kept(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.share_session(talk, "ann", "bob")
        await manager.add_message(talk, "ann", "user", "hi")
        assert await manager.transfer_ownership(talk, "ann", "bob") is None
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(talk, "ann")
        session = await manager.get_session(talk, "bob")
        assert (session.owner_id, session.metadata.grants) == ("bob", {})
        assert [message.author_id for message in session.messages or ()] == ["ann"]
        assert await manager.list_user_sessions("ann") == []
        assert [s.id for s in await manager.list_user_sessions("bob")] == [talk]
        kept = await manager.transfer_ownership(talk, "bob", "ann", keep_role="viewer")
        assert kept is not None
        assert (kept.owner_id, kept.access_role) == ("ann", AccessRole.VIEWER)
        with pytest.raises(AccessDeniedError):
            await manager.add_message(talk, "bob", "user", "no")
        public = await manager.set_visibility(talk, "ann", "public")
        assert public.owner_id == "ann"
        readable = await manager.transfer_ownership(talk, "ann", "bob")
        assert readable is not None
        assert readable.access_role is AccessRole.VIEWER

    async def test_a_new_role_is_judged_at_the_very_next_call(
        self, manager: SessionManager, talk: str
    ) -> None:
        with pytest.raises(SessionNotFoundError):
            await manager.add_message(talk, "bob", "user", "0")
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.add_message(talk, "bob", "user", "1")
        await manager.revoke_access(talk, "ann", "bob")
        with pytest.raises(SessionNotFoundError):
            await manager.add_message(talk, "bob", "user", "2")
        await manager.share_session(talk, "ann", "bob")
        with pytest.raises(AccessDeniedError):
            await manager.add_message(talk, "bob", "user", "3")
        assert await texts(manager, talk) == ["1"]

    async def test_an_id_that_breaks_the_limits_is_a_missing_one(
        self, manager: SessionManager
    ) -> None:
        for session_id in ("", "a/b", "default/talk", "a\\b", ".", "..", "x" * 256, "a\x00", 7):
            for call in (
                manager.get_session(session_id, "ann"),  # type: ignore[arg-type]  # 7: no id
                manager.add_message(session_id, "ann", "user", "x"),  # type: ignore[arg-type]
                manager.delete_session(session_id, "ann"),  # type: ignore[arg-type]
                manager.fork_session(session_id, "ann"),  # type: ignore[arg-type]
            ):
                with pytest.raises(SessionNotFoundError) as caught:
                    await call
                assert str(caught.value) == "session not found"

    async def test_access_is_decided_before_arguments_are_looked_at(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.share_session(talk, "ann", "val")
        wrong: Any = 1.5
        calls: tuple[Callable[[str], Awaitable[object]], ...] = (
            lambda user: manager.add_message(talk, user, wrong, wrong),
            lambda user: manager.add_messages(talk, user, wrong),
            lambda user: manager.update_session(talk, user, wrong),
            lambda user: manager.share_session(talk, user, wrong),
            lambda user: manager.set_visibility(talk, user, wrong),
            lambda user: manager.transfer_ownership(talk, user, wrong),
            lambda user: manager.rewind_session(talk, user, wrong),
            lambda user: manager.renew_session(talk, user, ttl_hours=wrong * -1),
            lambda user: manager.take_turn(talk, user, lease_seconds=-1),
            lambda user: manager.delete_session(talk, user, expected_revision=wrong),
        )
        for call in calls:
            for user_id, refusal in (
                ("eve", SessionNotFoundError),
                ("val", AccessDeniedError),
                ("ann", InvalidInputError),
            ):
                with pytest.raises(refusal) as caught:
                    await call(user_id)
                assert type(caught.value) is refusal
        assert (await manager.get_session(talk, "ann")).metadata.revision == 2

    async def test_an_unreadable_id_is_a_missing_one_for_every_verb(
        self, manager: SessionManager, talk: str
    ) -> None:
        missing: dict[str, tuple[type[BaseException], str]] = {}
        await manager.delete_session(talk, "ann")
        for verb, (_, call) in VERBS.items():
            with pytest.raises(SessionError) as caught:
                await call(manager, "eve")
            missing[verb] = type(caught.value), str(caught.value)
        await manager.create_session("ann", session_id=talk, ttl_hours=1)
        for verb, (_, call) in VERBS.items():
            with pytest.raises(SessionError) as caught:
                await call(manager, "eve")
            assert (type(caught.value), str(caught.value)) == missing[verb]
