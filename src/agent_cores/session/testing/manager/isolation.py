"""Namespaces: one tenant cannot see another, by any verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import InvalidInputError, SessionError, SessionNotFoundError
from agent_cores.session.testing.manager.access import VERBS
from agent_cores.session.testing.manager.cases import ManagerCases, texts

if TYPE_CHECKING:
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store


class IsolationCases(ManagerCases):
    """``manager`` works in the default namespace, ``tenant`` in another."""

    @pytest.fixture
    async def tenant(
        self, opened: Store, manager: SessionManager, clock: ManualClock
    ) -> SessionManager:
        """Open a manager of another namespace."""
        return await opened.open_manager(clock, namespace="team-a")

    @pytest.mark.parametrize("verb", VERBS)
    async def test_no_verb_reaches_a_session_of_another_namespace(
        self, manager: SessionManager, tenant: SessionManager, talk: str, verb: str
    ) -> None:
        await manager.add_message(talk, "ann", "user", "hi")
        await manager.set_visibility(talk, "ann", "public")
        await manager.share_session(talk, "ann", "bob", role="editor")
        before = await manager.get_session(talk, "ann")
        _, call = VERBS[verb]
        for user_id in ("ann", "bob", "eve"):
            with pytest.raises(SessionNotFoundError):
                await call(tenant, user_id)
        assert await manager.get_session(talk, "ann") == before

    async def test_the_same_id_in_two_namespaces_is_two_sessions(
        self, manager: SessionManager, tenant: SessionManager, talk: str
    ) -> None:
        await tenant.create_session("ann", session_id=talk, context={"of": "team-a"})
        await manager.add_message(talk, "ann", "user", "ours", message_id="m")
        theirs = await tenant.add_message(talk, "ann", "user", "theirs", message_id="m")
        assert theirs.seq == 1
        assert await texts(manager, talk) == ["ours"]
        assert await texts(tenant, talk) == ["theirs"]
        assert (await manager.get_session(talk, "ann")).context == {}
        assert (await tenant.get_session(talk, "ann")).metadata.namespace == "team-a"
        await manager.delete_session(talk, "ann")
        assert await texts(tenant, talk) == ["theirs"]

    async def test_lists_statistics_and_erasure_keep_to_one_namespace(
        self, manager: SessionManager, tenant: SessionManager
    ) -> None:
        for chosen, session_id in ((manager, "ours"), (tenant, "theirs"), (tenant, "more")):
            await chosen.create_session("ann", {"tags": ["x"]}, session_id=session_id)
            await chosen.share_session(session_id, "ann", "bob")
        for chosen, expected in ((manager, {"ours"}), (tenant, {"theirs", "more"})):
            for page in (
                await chosen.list_user_sessions("ann"),
                await chosen.list_user_sessions("ann", tags=["x"]),
                await chosen.list_user_sessions("bob", shared=True),
            ):
                assert {session.id for session in page} == expected
            assert (await chosen.get_statistics())["sessions"] == len(expected)
        page = await tenant.list_user_sessions("ann", limit=1)
        assert {s.id for s in await manager.list_user_sessions("ann", cursor=page.next_cursor)} <= {
            "ours"
        }
        receipt = await manager.erase_user("ann")
        assert (receipt.sessions, receipt.complete) == (1, True)
        assert len(await tenant.list_user_sessions("ann")) == 2

    @pytest.mark.parametrize(
        "session_id", ["team-a/talk", "team-a%2Ftalk", "../team-a/talk", "team-a:talk", "*"]
    )
    async def test_no_id_reaches_into_another_namespace(
        self, manager: SessionManager, tenant: SessionManager, session_id: str
    ) -> None:
        await tenant.create_session("ann", session_id="talk")
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(session_id, "ann")
        with pytest.raises(SessionNotFoundError):
            await manager.delete_session(session_id, "ann")
        try:
            created = await manager.create_session("ann", session_id=session_id)
        except InvalidInputError:
            assert "/" in session_id
        else:
            await manager.add_message(created, "ann", "user", "hi")
        assert await texts(tenant, "talk") == []

    async def test_groups_and_turns_keep_to_one_namespace(
        self, opened: Store, clock: ManualClock
    ) -> None:
        ours = await opened.open_manager(clock, groups_of=lambda _: ["team"])
        theirs = await opened.open_manager(clock, groups_of=lambda _: ["team"], namespace="team-b")
        for chosen in (ours, theirs):
            await chosen.create_session("ann", session_id="talk")
        await ours.share_session("talk", "ann", "group:team", role="editor")
        await ours.take_turn("talk", "bob", token="t")
        with pytest.raises(SessionError):
            await theirs.take_turn("talk", "bob")
        await theirs.take_turn("talk", "ann")
        assert await theirs.list_user_sessions("bob", shared=True) == []
