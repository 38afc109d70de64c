"""Connections to a SQL server that break, before it received a request and after it executed one.

A subclass has the fixtures ``proxy``, in front of the server, and ``provider``, through the proxy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from agent_cores.session.errors import ConflictError, StorageUnavailableError
from agent_cores.session.models.times import utc_now
from agent_cores.session.session_manager import SessionManager
from agent_cores.session.testing import suite_settings
from agent_cores.session.testing.samples import creation, new_context, new_header
from tests.sql_stores import append, change, create, message_ids

if TYPE_CHECKING:
    from agent_cores.session.storage.sql.server_provider import SqlProvider
    from tests.servers.cutting_proxy import CuttingProxy


class LostAnswers:
    """``commit`` is in the request that commits, ``within`` in one of a transaction before it.

    ``created`` is in the request that creates a session of ann's.
    """

    pytestmark = pytest.mark.anyio

    commit: ClassVar[bytes]
    within: ClassVar[bytes]
    created: ClassVar[bytes]

    async def test_an_append_whose_response_was_lost_says_so_and_its_repetition_is_a_replay(
        self, provider: SqlProvider, proxy: CuttingProxy
    ) -> None:
        header = await create(provider)
        await provider.apply(append(header, "warm"))
        lost = append(header, "lost-message")
        proxy.lose_answer(b"lost-message")
        with pytest.raises(StorageUnavailableError) as caught:
            await provider.apply(lost)
        assert caught.value.outcome_unknown
        assert await message_ids(provider) == ["warm", "lost-message"]
        assert (await provider.apply(lost)).replayed
        assert await message_ids(provider) == ["warm", "lost-message"]

    async def test_an_append_that_never_arrived_is_written_once_when_repeated(
        self, provider: SqlProvider, proxy: CuttingProxy
    ) -> None:
        header = await create(provider)
        await provider.apply(append(header, "warm"))
        proxy.lose_request(b"lost-message")
        with pytest.raises(StorageUnavailableError) as caught:
            await provider.apply(append(header, "lost-message"))
        assert caught.value.outcome_unknown
        assert await message_ids(provider) == ["warm"]
        await provider.apply(append(header, "lost-message"))
        assert await message_ids(provider) == ["warm", "lost-message"]

    async def test_a_change_whose_commit_was_executed_but_not_answered_says_that_it_may_be_in(
        self, provider: SqlProvider, proxy: CuttingProxy
    ) -> None:
        header = await create(provider)
        proxy.lose_answer(self.commit)
        with pytest.raises(StorageUnavailableError) as caught:
            await provider.apply(change(header, context_set=new_context(key=1)))
        assert caught.value.outcome_unknown
        snapshot = await provider.read("default", "talk", context=True)
        assert snapshot is not None
        assert snapshot.context == new_context(key=1)

    async def test_a_connection_lost_before_the_commit_is_replaced_and_the_change_made_once(
        self, provider: SqlProvider, proxy: CuttingProxy
    ) -> None:
        header = await create(provider)
        proxy.lose_answer(self.within)
        applied = await provider.apply(change(header, context_set=new_context(key="new-value")))
        assert proxy.cuts == 1
        assert applied.header.revision == header.revision + 1

    async def test_a_read_is_repeated_on_another_connection(
        self, provider: SqlProvider, proxy: CuttingProxy
    ) -> None:
        await create(provider, "readable-session")
        proxy.lose_answer(b"readable-session")
        assert await provider.read("default", "readable-session") is not None
        assert proxy.cuts == 1
        proxy.lose_answer(b"readable-session")
        assert await message_ids(provider, "readable-session") == []
        assert proxy.cuts == 2

    async def test_the_manager_repeats_an_append_and_a_create_and_nothing_is_doubled(
        self, provider: SqlProvider, proxy: CuttingProxy
    ) -> None:
        async with SessionManager(provider, settings=suite_settings()) as manager:
            proxy.lose_answer(self.created)
            session_id = await manager.create_session("ann")
            await manager.add_message(session_id, "ann", "user", "first")
            proxy.lose_answer(b"the second")
            second = await manager.add_message(session_id, "ann", "user", "the second")
            messages = await manager.get_session_messages(session_id, "ann")
            assert proxy.cuts == 2
            assert [message.content for message in messages] == ["first", "the second"]
            assert second.seq == 2

    async def test_a_create_repeated_after_a_lost_response_is_a_replay_and_another_one_is_refused(
        self, provider: SqlProvider, proxy: CuttingProxy
    ) -> None:
        header = new_header("talk", at=utc_now())
        proxy.lose_answer(self.created)
        with pytest.raises(StorageUnavailableError):
            await provider.apply(creation(header))
        assert (await provider.apply(creation(header))).replayed
        other = new_header("talk", at=utc_now(), incarnation=2)
        with pytest.raises(Exception, match="exists") as caught:
            await provider.apply(creation(other))
        assert not isinstance(caught.value, ConflictError)
