"""A stranger cannot distinguish a private id from a missing one, not even by counting calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import SessionError, SessionNotFoundError
from agent_cores.session.testing.manager.access import VERBS
from agent_cores.session.testing.manager.cases import ManagerCases
from agent_cores.session.testing.wrapping import CountingProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store


READING: dict[str, Callable[[SessionManager, str], Awaitable[object]]] = {
    "get_session": lambda manager, user: manager.get_session("talk", user),
    "get_session_messages": lambda manager, user: manager.get_session_messages("talk", user),
    "update_message": lambda manager, user: manager.update_message("talk", user, 1, content=""),
    "delete_message": lambda manager, user: manager.delete_message("talk", user, 1),
    "fork_session": lambda manager, user: manager.fork_session("talk", user),
}
"""The verbs that read more than the header."""


class SecrecyCases(ManagerCases):
    """The same error, with the same number of calls to the storage."""

    @pytest.mark.parametrize("verb", VERBS)
    async def test_a_private_id_looks_like_a_missing_one(
        self, opened: Store, clock: ManualClock, verb: str
    ) -> None:
        _, call = VERBS[verb]
        counting = CountingProvider(await opened.open())
        owner = await opened.open_manager(clock)
        manager = await opened.open_manager(clock, provider=counting)

        async def answer() -> tuple[type[BaseException], str, dict[str, int]]:
            counting.calls.clear()
            with pytest.raises(SessionError) as caught:
                await call(manager, "eve")
            return type(caught.value), str(caught.value), dict(counting.calls)

        missing = await answer()
        await owner.create_session("ann", {"tags": ["x"]}, 1, session_id="talk")
        assert await answer() == missing
        await manager.get_session("talk", "ann")  # now its header is cached
        assert await answer() == missing
        await owner.share_session("talk", "ann", "group:team", role="editor")
        assert await answer() == missing
        clock.advance(3_600)
        assert await answer() == missing

    @pytest.mark.parametrize("verb", READING)
    async def test_a_stranger_makes_nothing_be_read_but_the_header(
        self, opened: Store, clock: ManualClock, verb: str
    ) -> None:
        call = READING[verb]
        counting = CountingProvider(await opened.open())
        owner = await opened.open_manager(clock)
        manager = await opened.open_manager(clock, provider=counting)
        await owner.create_session("ann", session_id="talk", context={"k": 1})
        await owner.add_message("talk", "ann", "user", "private")

        async def refused() -> dict[str, int]:
            counting.calls.clear()
            with pytest.raises(SessionNotFoundError):
                await call(manager, "eve")
            return dict(counting.calls)

        assert await refused() == {"read": 1}
        await manager.get_session("talk", "ann")  # now its header is cached
        assert await refused() == {"read": 1}
        await owner.share_session("talk", "ann", "eve", role="editor")
        await manager.get_session("talk", "eve")
        await owner.revoke_access("talk", "ann", "eve")
        assert (await refused())["read"] == 1, "decided on what is remembered, or on the header"
        assert await refused() == {"read": 1}

    async def test_who_may_read_costs_one_round_trip_once_the_header_is_known(
        self, opened: Store, clock: ManualClock
    ) -> None:
        counting = CountingProvider(await opened.open())
        owner = await opened.open_manager(clock)
        manager = await opened.open_manager(clock, provider=counting)
        await owner.create_session("ann", session_id="talk", context={"k": 1})
        await owner.add_message("talk", "ann", "user", "hello")
        await owner.share_session("talk", "ann", "bob")
        reads = []
        for user in ("ann", "ann", "bob"):
            counting.calls.clear()
            session = await manager.get_session("talk", user)
            assert len(session.messages or ()) == 1
            assert session.context == ({"k": 1} if user == "ann" else None)
            reads.append(dict(counting.calls))
        assert reads == [
            {"read": 2, "context": 1, "messages": 1},
            {"read": 1, "context": 1, "messages": 1},
            {"read": 1, "messages": 1},
        ]

    async def test_a_viewer_who_became_an_editor_elsewhere_reads_the_context_at_once(
        self, opened: Store, clock: ManualClock
    ) -> None:
        owner, manager = await opened.open_manager(clock), await opened.open_manager(clock)
        await owner.create_session("ann", session_id="talk", context={"k": 1})
        await owner.share_session("talk", "ann", "bob")
        assert (await manager.get_session("talk", "bob")).context is None
        await owner.share_session("talk", "ann", "bob", role="editor")
        assert (await manager.get_session("talk", "bob")).context == {"k": 1}
        await owner.share_session("talk", "ann", "bob")
        assert (await manager.get_session("talk", "bob")).context is None
