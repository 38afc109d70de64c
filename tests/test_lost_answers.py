"""Lost answers where the contract suite cannot look: groups that fail, and stores that are full."""

from __future__ import annotations

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import OverloadedError, StorageUnavailableError
from agent_cores.session.models import Applied, Change
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.testing.wrapping import LosingProvider

pytestmark = pytest.mark.anyio


async def test_a_lost_answer_is_told_though_groups_cannot_be_had_after_it() -> None:
    losing = LosingProvider(MemoryProvider())
    directory: dict[str, list[str]] = {"bob": ["team"]}
    async with (
        SessionManager(losing, groups_of=lambda user_id: directory[user_id]) as manager,
        SessionManager(losing) as other,
    ):
        await manager.create_session("ann", session_id="talk")
        await manager.share_session("talk", "ann", "group:team", role="editor")

        async def change_access() -> None:
            await other.share_session("talk", "ann", "carl")
            directory.clear()

        losing.lose(before_error=change_access)
        with pytest.raises(StorageUnavailableError) as caught:
            await manager.add_message("talk", "bob", "user", "stored")
        assert caught.value.outcome_unknown
        stored = await other.get_session_messages("talk", "ann")
        assert [message.content for message in stored] == ["stored"]


class FullAfterALoss(LosingProvider):
    """Loses one answer, and then takes no more writes."""

    async def apply(self, change: Change) -> Applied:
        if self.applied and self.applied[-1].append:
            detail = "too many writes wait"
            raise OverloadedError(detail)
        return await super().apply(change)


async def test_an_overload_after_a_lost_answer_does_not_say_that_nothing_was_written() -> None:
    full = FullAfterALoss(MemoryProvider())
    async with SessionManager(full) as manager:
        await manager.create_session("ann", session_id="talk")
        full.lose()
        with pytest.raises(StorageUnavailableError) as caught:
            await manager.add_message("talk", "ann", "user", "stored")
        assert caught.value.outcome_unknown
