"""Several processes on one store, if ``capabilities.shared`` allows it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import chain
from typing import TYPE_CHECKING

from agent_cores.session.testing.processes import other_process
from agent_cores.session.testing.provider.appends import created
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.provider.concurrency import all_messages
from agent_cores.session.testing.samples import change_of, creation, new_header, new_message

if TYPE_CHECKING:
    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store


def other_processes_may_open(store: Store, provider: StorageProvider) -> bool:
    """Whether the store is shared by processes; fail if store and provider disagree on it."""
    shared = provider.capabilities.shared
    assert shared == (store.url is not None), "a store has a url where its provider is shared"
    return shared


class ProcessCases(ProviderCases):
    """``apply`` and ``due`` from two or more processes."""

    async def test_two_processes_append_to_one_session(
        self, store: Store, beside: Beside, clock: ManualClock
    ) -> None:
        provider = beside.provider
        if not other_processes_may_open(store, provider):
            return
        assert store.url is not None
        header = await created(beside, clock)
        async with other_process(store.url, clock) as other:
            theirs = asyncio.ensure_future(
                other.do("append", session_id="talk", ids=[f"b{n}" for n in range(60)])
            )
            changes = [
                change_of(header, clock(), append=(new_message(f"a{n}", at=clock()),), basis=header)
                for n in range(60)
            ]
            ours = await asyncio.gather(*(provider.apply(change) for change in changes))
            seqs = [answer.messages[0].seq for answer in ours] + await theirs
        assert sorted(seqs) == list(range(2, 122))
        assert [m.seq for m in await all_messages(provider)] == list(range(1, 122))

    async def test_what_one_process_wrote_the_other_reads(
        self, store: Store, beside: Beside, clock: ManualClock
    ) -> None:
        provider = beside.provider
        if not other_processes_may_open(store, provider):
            return
        assert store.url is not None
        await created(beside, clock)
        async with other_process(store.url, clock) as other:
            assert await other.do("append", session_id="talk", ids=["a"]) == [2]
            assert await other.do("append", session_id="talk", ids=["a"]) == [2]
        assert len(await all_messages(provider)) == 2

    async def test_several_processes_sweep_and_each_session_is_removed_once(
        self, store: Store, beside: Beside, clock: ManualClock
    ) -> None:
        provider = beside.provider
        if not other_processes_may_open(store, provider):
            return
        assert store.url is not None
        names = [f"s{number}" for number in range(40)]
        for number, name in enumerate(names):
            header = new_header(name, at=clock(), ttl_seconds=10, incarnation=number + 1)
            await provider.apply(creation(header))
        clock.advance(10)
        async with AsyncExitStack() as stack:
            others = [
                await stack.enter_async_context(other_process(store.url, clock)) for _ in range(2)
            ]
            parts = await asyncio.gather(*(other.do("sweep", limit=3) for other in others))
        assert sorted(chain.from_iterable(parts)) == sorted(names)
        assert (await provider.count("default", clock())).sessions == 0

    async def test_two_providers_of_one_process_are_as_two_processes(
        self, store: Store, beside: Beside, clock: ManualClock
    ) -> None:
        provider = beside.provider
        if not other_processes_may_open(store, provider):
            return
        second = await store.open()
        assert second is not provider
        header = await created(beside, clock)
        changes = [
            change_of(header, clock(), append=(new_message(f"a{n}", at=clock()),), basis=header)
            for n in range(100)
        ]
        answers = await asyncio.gather(
            *((provider, second)[n % 2].apply(change) for n, change in enumerate(changes))
        )
        assert sorted(a.messages[0].seq for a in answers) == list(range(2, 102))
        assert await all_messages(second) == await all_messages(provider)

    async def test_a_durable_store_is_whole_after_it_was_closed(
        self, store: Store, beside: Beside, clock: ManualClock
    ) -> None:
        if not beside.provider.capabilities.durable:
            return
        header = await created(beside, clock)
        message = new_message("a", at=clock())
        await beside.apply(change_of(header, clock(), append=(message,)))
        await beside.provider.shutdown()
        beside.provider = await store.open()
        await beside.compare("default", "talk")
