"""Groups: when ``groups_of`` is called, and that its results are never cached."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, cast

import pytest

from agent_cores.session.errors import ConfigurationError, InvalidInputError, SessionNotFoundError
from agent_cores.session.models.limits import DEFAULT_LIMITS
from agent_cores.session.testing.manager.cases import ManagerCases, texts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store


class GroupCases(ManagerCases):
    """How ``groups_of`` is called."""

    async def test_groups_may_be_asked_for_asynchronously_and_are_never_kept(
        self, opened: Store, clock: ManualClock
    ) -> None:
        groups: list[str] = ["team"]

        async def ask(user_id: str) -> list[str]:
            return list(groups) if user_id == "bob" else []

        manager = await opened.open_manager(clock, groups_of=ask)
        talk = await manager.create_session("ann")
        await manager.share_session(talk, "ann", "group:team", role="editor")
        await manager.add_message(talk, "bob", "user", "1")
        assert [s.id for s in await manager.list_user_sessions("bob", shared=True)] == [talk]
        groups.clear()
        with pytest.raises(SessionNotFoundError):
            await manager.add_message(talk, "bob", "user", "2")
        assert await manager.list_user_sessions("bob", shared=True) == []
        groups.append("group:team")  # bare names only
        with pytest.raises(SessionNotFoundError):
            await manager.add_message(talk, "bob", "user", "3")
        groups.append("team")
        await manager.add_message(talk, "bob", "user", "4")

    async def test_groups_are_asked_for_only_where_nothing_else_suffices(
        self, opened: Store, clock: ManualClock
    ) -> None:
        asked: list[str] = []

        def ask(user_id: str) -> list[str]:
            asked.append(user_id)
            return ["team"]

        manager = await opened.open_manager(clock, groups_of=ask)
        talk = await manager.create_session("ann")
        await manager.share_session(talk, "ann", "group:team", role="editor")
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.set_visibility(talk, "ann", "public")
        for user_id in ("ann", "bob"):
            await manager.add_message(talk, user_id, "user", "hi")
            await manager.get_session(talk, user_id)
        await manager.get_session_messages(talk, "eve")
        assert asked == []
        await manager.add_message(talk, "eve", "user", "hi")
        assert set(asked) == {"eve"}

    async def test_a_fork_takes_the_context_along_for_an_editor_by_group(
        self, opened: Store, clock: ManualClock
    ) -> None:
        manager = await opened.open_manager(
            clock, groups_of=lambda user_id: ["team"] if user_id == "val" else []
        )
        talk = await manager.create_session("ann", context={"k": 1})
        await manager.share_session(talk, "ann", "val")
        await manager.share_session(talk, "ann", "bob")
        await manager.share_session(talk, "ann", "group:team", role="editor")
        forks = {user: await manager.fork_session(talk, user) for user in ("val", "bob")}
        assert (await manager.get_session(forks["val"], "val")).context == {"k": 1}
        assert (await manager.get_session(forks["bob"], "bob")).context == {}

    async def test_an_old_owner_who_still_reads_by_group_is_given_the_session(
        self, opened: Store, clock: ManualClock
    ) -> None:
        manager = await opened.open_manager(clock, groups_of=lambda _: ["team"])
        talk = await manager.create_session("ann")
        await manager.share_session(talk, "ann", "group:team")
        session = await manager.transfer_ownership(talk, "ann", "bob")
        assert session is not None
        assert (session.owner_id, session.access_role) == ("bob", "viewer")
        await manager.revoke_access(talk, "bob", "group:team")
        assert await manager.transfer_ownership(talk, "bob", "ann") is None

    async def test_a_call_fails_if_groups_cannot_be_had(
        self, opened: Store, clock: ManualClock
    ) -> None:
        class DirectoryIsDownError(Exception):
            pass

        def ask(user_id: str) -> list[str]:
            raise DirectoryIsDownError(user_id)

        manager = await opened.open_manager(clock, groups_of=ask)
        talk = await manager.create_session("ann")
        await manager.share_session(talk, "ann", "group:team", role="editor")
        await manager.add_message(talk, "ann", "user", "hi")
        for call in (
            manager.get_session(talk, "bob"),
            manager.add_message(talk, "bob", "user", "no"),
            manager.list_user_sessions("bob", shared=True),
        ):
            with pytest.raises(DirectoryIsDownError):
                await call
        assert await texts(manager, talk) == ["hi"]

    @pytest.mark.parametrize("answer", [None, 3, "team", b"team", [1], ["team", None]], ids=repr)
    async def test_an_answer_that_is_no_names_is_refused_by_name(
        self, opened: Store, clock: ManualClock, answer: object
    ) -> None:
        manager = await opened.open_manager(clock, groups_of=lambda _: cast("list[str]", answer))
        talk = await manager.create_session("ann")
        await manager.share_session(talk, "ann", "group:team", role="editor")
        for call in (
            manager.get_session(talk, "bob"),
            manager.add_message(talk, "bob", "user", "no"),
            manager.list_user_sessions("bob", shared=True),
        ):
            with pytest.raises(ConfigurationError, match="groups_of must return"):
                await call
        assert await texts(manager, talk) == []

    async def test_more_groups_than_the_bound_are_refused_and_grant_nothing(
        self, opened: Store, clock: ManualClock
    ) -> None:
        most = DEFAULT_LIMITS.groups
        groups: list[Iterable[str]] = [[f"g{number}" for number in range(most)]]
        manager = await opened.open_manager(clock, groups_of=lambda _: groups[0])
        talk = await manager.create_session("ann")
        await manager.share_session(talk, "ann", f"group:g{most - 1}", role="editor")
        await manager.add_message(talk, "bob", "user", "as one of them")
        assert [s.id for s in await manager.list_user_sessions("bob", shared=True)] == [talk]
        for too_many in ([f"g{number}" for number in range(most + 1)], map(str, count())):
            groups[0] = too_many
            for call in (
                manager.get_session(talk, "bob"),
                manager.add_message(talk, "bob", "user", "no"),
                manager.list_user_sessions("bob", shared=True),
            ):
                with pytest.raises(InvalidInputError) as refused:
                    await call
                assert refused.value.field == "groups_of"
                assert str(most) in refused.value.problem
        assert await texts(manager, talk) == ["as one of them"]
