"""Creates with messages, and appends that create, whose response is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.testing.manager.cases import texts
from agent_cores.session.testing.manager.losing import LosingCases
from agent_cores.session.testing.manager.messages import said, seqs
from agent_cores.session.testing.wrapping import CountingProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store
    from agent_cores.session.testing.wrapping import LosingProvider

CREATES: dict[str, Callable[[SessionManager], Awaitable[object]]] = {
    "create_session": lambda m: m.create_session(
        "ann", {"a": 1}, session_id="new", context={"k": 1}, messages=said(1, 2)
    ),
    "open_session": lambda m: m.open_session(
        "new", "ann", metadata={"a": 1}, context={"k": 1}, messages=said(1, 2)
    ),
    "add_messages": lambda m: m.add_messages(
        "new",
        "ann",
        said(1, 2),
        create={"metadata": {"a": 1}},
        context_updates={"k": 1},
        expected_last_seq=0,
    ),
}


class LostCreateCases(LosingCases):
    """The manager retries a create, with or without messages; it is carried out once."""

    @pytest.fixture
    async def lossy_manager(
        self, opened: Store, losing: LosingProvider, clock: ManualClock
    ) -> SessionManager:
        """Open a manager on it."""
        return await opened.open_manager(clock, provider=losing)

    @pytest.mark.parametrize("lost", [1, 2])
    @pytest.mark.parametrize("verb", CREATES)
    async def test_a_create_with_messages_is_repeated_and_written_once(
        self, lossy_manager: SessionManager, losing: LosingProvider, verb: str, lost: int
    ) -> None:
        losing.lose(lost)
        answer = await CREATES[verb](lossy_manager)
        session = await lossy_manager.get_session("new", "ann")
        assert session.messages is not None
        assert [(m.seq, m.id) for m in session.messages] == [(1, "m1"), (2, "m2")]
        assert (session.metadata.attributes, session.context) == ({"a": 1}, {"k": 1})
        assert session.metadata.revision == 1
        if verb == "add_messages":
            assert answer == session.messages
        assert await lossy_manager.get_statistics() == {"sessions": 1, "due": 0}

    @pytest.mark.parametrize("verb", CREATES)
    async def test_a_create_that_was_not_stored_is_repeated(
        self, lossy_manager: SessionManager, losing: LosingProvider, verb: str
    ) -> None:
        losing.drop()
        await CREATES[verb](lossy_manager)
        assert await texts(lossy_manager, "new") == ["1", "2"]

    @pytest.mark.parametrize("verb", CREATES)
    async def test_the_outcome_is_unknown_if_another_session_has_the_id_meanwhile(
        self,
        opened: Store,
        lossy_manager: SessionManager,
        losing: LosingProvider,
        clock: ManualClock,
        verb: str,
    ) -> None:
        other = await opened.open_manager(clock)

        async def re_create() -> None:
            await other.delete_session("new", "ann")
            await other.create_session("ann", session_id="new")

        losing.lose(before_error=re_create)
        with pytest.raises(StorageUnavailableError) as caught:
            await CREATES[verb](lossy_manager)
        assert caught.value.outcome_unknown
        assert await texts(other, "new") == []

    async def test_a_message_removed_meanwhile_does_not_come_back_by_a_create(
        self,
        opened: Store,
        lossy_manager: SessionManager,
        losing: LosingProvider,
        clock: ManualClock,
    ) -> None:
        other = await opened.open_manager(clock)

        async def remove() -> None:
            await other.delete_message("new", "ann", 1)

        losing.lose(before_error=remove)
        assert seqs(await lossy_manager.add_messages("new", "ann", said(1, 2), create=True)) == [
            1,
            2,
        ]
        assert await texts(lossy_manager, "new") == ["2"]

    async def test_a_session_deleted_meanwhile_is_not_created_by_a_lost_append(
        self,
        opened: Store,
        lossy_manager: SessionManager,
        losing: LosingProvider,
        clock: ManualClock,
    ) -> None:
        await lossy_manager.create_session("ann", session_id="new")
        other = await opened.open_manager(clock)

        async def delete() -> None:
            await other.delete_session("new", "ann")

        losing.lose(before_error=delete)
        with pytest.raises(StorageUnavailableError) as caught:
            await lossy_manager.add_messages("new", "ann", said(1), create=True)
        assert caught.value.outcome_unknown
        assert await lossy_manager.get_statistics() == {"sessions": 0, "due": 0}

    async def test_messages_and_metadata_are_repeated_and_written_once(
        self, lossy_manager: SessionManager, losing: LosingProvider
    ) -> None:
        await lossy_manager.create_session("ann", session_id="new")
        for lost in (1, 2):
            losing.lose(lost)
            stored = await lossy_manager.add_messages(
                "new", "ann", said(lost), metadata_updates={"a": lost}, context_updates={"k": lost}
            )
            assert seqs(stored) == [lost]
        session = await lossy_manager.get_session("new", "ann")
        assert (session.metadata.attributes, session.context) == ({"a": 2}, {"k": 2})
        assert (session.metadata.revision, session.metadata.last_seq) == (3, 2)

    async def test_each_is_one_write(self, opened: Store, clock: ManualClock) -> None:
        counting = CountingProvider(await opened.open())
        manager = await opened.open_manager(clock, provider=counting)
        for number, verb in enumerate(CREATES):
            counting.calls.clear()
            await CREATES[verb](manager)
            created = {"apply": 1} if verb == "create_session" else {"apply": 1, "read": 1}
            assert +counting.calls == created, number
            counting.calls.clear()
            await manager.open_session("new", "ann")
            assert +counting.calls == {"read": 1}
            counting.calls.clear()
            await manager.add_messages(
                "new", "ann", said(3), create=True, metadata_updates={"a": 2}
            )
            assert +counting.calls == {"apply": 1}
            await manager.delete_session("new", "ann")
