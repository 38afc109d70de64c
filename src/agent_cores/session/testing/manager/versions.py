"""Revisions, times and versions: what a write alters, and writes that expect what was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import InvalidInputError, RevisionMismatchError
from agent_cores.session.testing.manager.cases import ManagerCases, texts

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock


class VersionCases(ManagerCases):
    """``revision``, ``updated_at`` and ``version``, and what callers make depend on them."""

    async def test_revision_and_times_follow_what_a_write_alters(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        async def moved(call: Awaitable[object]) -> tuple[bool, bool, bool]:
            before = (await manager.get_session(talk, "ann")).metadata
            clock.advance(1)
            await call
            after = (await manager.get_session(talk, "ann")).metadata
            return (
                before.revision != after.revision,
                before.updated_at != after.updated_at,
                before.last_active_at != after.last_active_at,
            )

        m, all_, none, active = manager, (True,) * 3, (False,) * 3, (False, False, True)
        assert await moved(m.add_message(talk, "ann", "user", "hi", message_id="a")) == active
        assert await moved(m.add_message(talk, "ann", "user", "hi", message_id="a")) == none
        assert await moved(m.update_session(talk, "ann", {"k": 1})) == all_
        assert await moved(m.update_session(talk, "ann", {"k": 1})) == none
        assert await moved(m.update_session(talk, "ann")) == none
        assert await moved(m.update_session(talk, "ann", None, {"a": 1})) == all_
        assert await moved(m.update_session(talk, "ann", None, {"a": True})) == all_
        assert await moved(m.share_session(talk, "ann", "bob")) == all_
        assert await moved(m.share_session(talk, "ann", "bob")) == none
        assert await moved(m.revoke_access(talk, "ann", "bob")) == all_
        assert await moved(m.revoke_access(talk, "ann", "bob")) == none
        assert await moved(m.take_turn(talk, "ann", token="t")) == none
        assert await moved(m.renew_session(talk, "ann")) == none
        assert await moved(m.get_session_messages(talk, "ann")) == none
        assert await moved(m.update_message(talk, "ann", 1, content="ho")) == all_
        assert await moved(m.update_message(talk, "ann", 1, content="ho")) == none
        assert await moved(m.update_message(talk, "ann", 1)) == none
        assert await moved(m.delete_message(talk, "ann", 1)) == all_
        assert await moved(m.rewind_session(talk, "ann", 0)) == none
        with_context = m.add_message(talk, "ann", "user", "hi", context_updates={"k": 2})
        assert await moved(with_context) == all_
        assert await moved(m.archive_session(talk, "ann")) == all_
        assert await moved(m.archive_session(talk, "ann")) == none
        assert await moved(m.unarchive_session(talk, "ann")) == all_

    async def test_an_expected_revision_is_held_to(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_message(talk, "ann", "user", "hi")
        await manager.update_session(talk, "ann", {"k": 1}, expected_revision=1)
        for call in (
            manager.update_session(talk, "ann", {"k": 2}, expected_revision=1),
            manager.rewind_session(talk, "ann", 0, expected_revision=1),
            manager.set_visibility(talk, "ann", "public", expected_revision=1),
            manager.transfer_ownership(talk, "ann", "bob", expected_revision=3),
            manager.delete_session(talk, "ann", expected_revision=1),
            manager.add_message(talk, "ann", "user", "no", expected_revision=1),
        ):
            with pytest.raises(RevisionMismatchError):
                await call
        session = await manager.get_session(talk, "ann")
        assert session.context == {"k": 1}
        assert session.metadata.revision == 2
        assert await texts(manager, talk) == ["hi"]
        await manager.set_visibility(talk, "ann", "public", expected_revision=2)
        await manager.transfer_ownership(talk, "ann", "bob", expected_revision=3)
        await manager.delete_session(talk, "bob", expected_revision=4)

    async def test_an_expected_version_is_of_one_session(
        self, manager: SessionManager, talk: str
    ) -> None:
        seen = (await manager.get_session(talk, "ann")).version
        [listed] = await manager.list_user_sessions("ann")
        assert listed.version == listed.metadata.version == seen
        await manager.delete_session(talk, "ann")
        await manager.create_session("ann", session_id=talk)
        new = (await manager.get_session(talk, "ann")).version
        assert new != seen
        for call in (
            manager.update_session(talk, "ann", {"k": 2}, expected_version=seen),
            manager.rewind_session(talk, "ann", 0, expected_version=seen),
            manager.set_visibility(talk, "ann", "public", expected_version=seen),
            manager.transfer_ownership(talk, "ann", "bob", expected_version=seen),
            manager.delete_session(talk, "ann", expected_version=seen),
            manager.add_message(talk, "ann", "user", "no", expected_version=seen),
            manager.add_messages(
                talk, "ann", [{"role": "user", "content": "no"}], expected_version=seen
            ),
        ):
            with pytest.raises(RevisionMismatchError):
                await call
        assert (await manager.get_session(talk, "ann")).version == new
        await manager.add_message(talk, "ann", "user", "yes", expected_version=new)
        # A plain append raises no revision: the version that was read before it still holds.
        moved = await manager.update_session(
            talk, "ann", {"k": 1}, expected_version=new, expected_revision=1
        )
        with pytest.raises(RevisionMismatchError):
            await manager.update_session(talk, "ann", {"k": 2}, expected_version=new)
        shown = await manager.set_visibility(talk, "ann", "shared", expected_version=moved.version)
        rewound = await manager.rewind_session(talk, "ann", 0, expected_version=shown.version)
        kept = await manager.transfer_ownership(
            talk, "ann", "bob", keep_role="editor", expected_version=rewound.version
        )
        assert kept is not None
        await manager.delete_session(talk, "bob", expected_version=kept.version)

    @pytest.mark.parametrize("version", ["", "1", "1.2", "1.0.1", '"1.2.3"', "a.b.c", 7, "1.2.3\n"])
    async def test_an_expected_version_that_is_none_is_refused(
        self, manager: SessionManager, talk: str, version: str
    ) -> None:
        with pytest.raises(InvalidInputError) as caught:
            await manager.update_session(talk, "ann", {"k": 1}, expected_version=version)
        assert caught.value.field == "expected_version"
        assert (await manager.get_session(talk, "ann")).context == {}

    async def test_an_expected_version_and_revision_that_differ_are_refused(
        self, manager: SessionManager, talk: str
    ) -> None:
        version = (await manager.get_session(talk, "ann")).version
        given: dict[str, Any] = {"expected_version": version, "expected_revision": 2}
        for call in (
            manager.delete_session(talk, "ann", **given),
            manager.add_message(talk, "ann", "user", "no", **given),
        ):
            with pytest.raises(InvalidInputError, match="expected_version"):
                await call
