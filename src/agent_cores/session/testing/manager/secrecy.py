"""A stranger cannot tell a private id from a missing one, not by counting either."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import SessionError
from agent_cores.session.testing.manager.access import VERBS
from agent_cores.session.testing.manager.cases import ManagerCases
from agent_cores.session.testing.wrapping import CountingProvider

if TYPE_CHECKING:
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store


class SecrecyCases(ManagerCases):
    """The same answer by the same number of calls to the storage."""

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
        await manager.get_session("talk", "ann")  # now its header is remembered
        assert await answer() == missing
        await owner.share_session("talk", "ann", "group:team", role="editor")
        assert await answer() == missing
        clock.advance(3_600)
        assert await answer() == missing
