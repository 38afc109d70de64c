"""Updates and replacements of messages whose response is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.testing.manager.cases import texts
from agent_cores.session.testing.manager.losing import GUARDS, LosingCases
from agent_cores.session.testing.manager.messages import said

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent_cores.session.lifecycle import SessionEvent
    from agent_cores.session.models import Message
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store
    from agent_cores.session.testing.wrapping import LosingProvider

    Call = Callable[[SessionManager, dict[str, Any]], Awaitable[Message]]

UPDATES: dict[str, Call] = {
    "content": lambda m, g: m.update_message("talk", "ann", 1, content=["new"], **g),
    "none": lambda m, g: m.update_message("talk", "ann", 1, content=None, **g),
    "metadata": lambda m, g: m.update_message("talk", "ann", 1, metadata_updates={"k": 1}, **g),
}


class LostEditCases(LosingCases):
    """The manager retries an update, and a replacement; each is carried out once."""

    @pytest.mark.parametrize("lost", [1, 2])
    @pytest.mark.parametrize("guard", GUARDS)
    @pytest.mark.parametrize("verb", UPDATES)
    async def test_an_update_is_repeated_and_carried_out_once(
        self,
        *,
        repeating: SessionManager,
        losing: LosingProvider,
        hook_events: list[SessionEvent],
        clock: ManualClock,
        verb: str,
        guard: str,
        lost: int,
    ) -> None:
        losing.lose(lost)
        new = await UPDATES[verb](repeating, GUARDS[guard])
        session = await repeating.get_session("talk", "ann")
        assert session.messages == [new]
        assert session.messages[0].updated_at == clock()
        assert session.metadata.revision == 3
        assert len(hook_events) <= 1

    @pytest.mark.parametrize("verb", UPDATES)
    async def test_an_update_that_did_not_arrive_is_repeated(
        self, repeating: SessionManager, losing: LosingProvider, verb: str
    ) -> None:
        losing.drop()
        new = await UPDATES[verb](repeating, {})
        assert (await repeating.get_session("talk", "ann")).messages == [new]

    @pytest.mark.parametrize("guard", GUARDS)
    async def test_a_repeated_update_undoes_no_later_one(
        self,
        opened: Store,
        repeating: SessionManager,
        losing: LosingProvider,
        clock: ManualClock,
        guard: str,
    ) -> None:
        other = await opened.open_manager(clock)

        async def update() -> None:
            await other.update_message("talk", "ann", 1, content="later")

        losing.lose(before_error=update)
        with pytest.raises(StorageUnavailableError) as caught:
            await UPDATES["content"](repeating, GUARDS[guard])
        assert caught.value.outcome_unknown
        assert await texts(repeating, "talk") == ["later"]

    async def test_a_repeated_update_brings_no_removed_message_back(
        self,
        opened: Store,
        repeating: SessionManager,
        losing: LosingProvider,
        clock: ManualClock,
    ) -> None:
        other = await opened.open_manager(clock)

        async def remove() -> None:
            await other.delete_message("talk", "ann", 1)

        losing.lose(before_error=remove)
        with pytest.raises(StorageUnavailableError) as caught:
            await UPDATES["content"](repeating, {})
        assert caught.value.outcome_unknown
        assert await texts(repeating, "talk") == []

    @pytest.mark.parametrize("lost", [1, 2])
    @pytest.mark.parametrize("expected_last_seq", [None, 1])
    async def test_a_replacement_is_repeated_and_carried_out_once(
        self,
        *,
        repeating: SessionManager,
        losing: LosingProvider,
        expected_last_seq: int | None,
        lost: int,
    ) -> None:
        losing.lose(lost)
        new = await repeating.replace_messages(
            "talk", "ann", said(1, 2), after_seq=0, expected_last_seq=expected_last_seq
        )
        assert [message.seq for message in new] == [2, 3]
        session = await repeating.get_session("talk", "ann")
        assert session.messages == new
        assert session.metadata.revision == 3

    async def test_a_replacement_never_takes_what_came_after_it(
        self,
        opened: Store,
        repeating: SessionManager,
        losing: LosingProvider,
        clock: ManualClock,
    ) -> None:
        other = await opened.open_manager(clock)

        async def append() -> None:
            await other.add_messages("talk", "ann", said(9))

        losing.lose(before_error=append)
        await repeating.replace_messages("talk", "ann", said(2), after_seq=0)
        assert await texts(repeating, "talk") == ["2", "9"]
