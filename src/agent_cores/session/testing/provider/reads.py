"""``read``: a snapshot of one session, and windows of its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.models import SeqRange, Snapshot, Window
from agent_cores.session.testing.provider.appends import append, created
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.provider.changes import change
from agent_cores.session.testing.samples import change_of, creation, new_context, new_header

if TYPE_CHECKING:
    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock


class ReadCases(ProviderCases):
    """Parts that were not requested are ``None``; the others are of one instant."""

    async def test_a_missing_session_reads_as_none(self, provider: StorageProvider) -> None:
        assert await provider.read("default", "nothing", context=True, window=Window()) is None

    async def test_a_check_of_a_store_that_works_changes_nothing(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock)
        before = await beside.provider.count(None, clock())
        for _ in range(3):
            await beside.provider.check()
        assert await beside.provider.count(None, clock()) == before
        await beside.compare("default", "talk")

    async def test_only_what_was_asked_for_is_read(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock)
        await change(beside, clock, context_set=new_context(k=1))
        read = beside.provider.read
        bare = await read("default", "talk")
        assert bare is not None
        assert (bare.context, bare.messages) == (None, None)
        with_context = await read("default", "talk", context=True)
        assert with_context is not None
        assert (with_context.context, with_context.messages) == (new_context(k=1), None)
        with_messages = await read("default", "talk", window=Window(limit=1))
        assert with_messages is not None
        assert with_messages.context is None
        assert len(with_messages.messages or ()) == 1

    async def test_empty_parts_are_empty_and_not_none(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await beside.apply(creation(new_header(at=clock())))
        snapshot = await beside.provider.read("default", "talk", context=True, window=Window())
        assert snapshot is not None
        assert (snapshot.context, snapshot.messages, snapshot.has_more) == ({}, [], False)

    async def test_every_window_holds_the_right_messages(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)
        await append(beside, clock, False, *(f"n{number}" for number in range(11)))
        for first, last in ((3, 3), (7, 9)):
            await beside.apply(change_of(header, clock(), remove=SeqRange(first, last)))
        for limit in (1, 3, 8, 9, 1_000):
            await beside.compare_window("default", "talk", Window(limit=limit))
            for bound in (0, 1, 2, 3, 4, 6, 7, 8, 10, 12, 13, 99):
                before = Window(limit=limit, before_seq=bound)
                after = Window(limit=limit, after_seq=bound)
                await beside.compare_window("default", "talk", before)
                await beside.compare_window("default", "talk", after)

    async def test_a_window_ends_at_its_bytes_with_at_least_one_message(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock)
        for number, size in enumerate((400, 10, 10, 400, 10)):
            await append(beside, clock, False, f"n{number}", text="x" * size)
        for max_bytes in (1, 100, 200, 300, 600, 700, 2_000):
            windows: tuple[dict[str, Any], ...] = (
                {},
                {"before_seq": 6},
                {"before_seq": 3},
                {"after_seq": 0},
                {"after_seq": 3},
            )
            for bounds in windows:
                window = Window(limit=4, max_bytes=max_bytes, **bounds)
                await beside.compare_window("default", "talk", window)

    async def test_a_capped_window_holds_no_message_past_its_bytes(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)
        for number, size in enumerate((10, 10, 400, 10, 10)):
            await append(beside, clock, False, f"n{number}", text="x" * size)

        async def found(limit: int, max_bytes: int) -> list[str]:
            names = [("default", "talk"), ("default", "none")]
            window = Window(limit=limit, max_bytes=max_bytes, capped=True)
            several, missing = await beside.provider.read_several(names, window=window)
            alone = await beside.provider.read("default", "talk", window=window)
            assert missing is None
            assert isinstance(several, Snapshot)
            assert alone is not None
            assert several.messages == alone.messages
            return [message.id for message in alone.messages or ()]

        assert await found(1, 200) == ["n4"]
        assert await found(1, 1) == []
        assert await found(4, 300) == ["n3", "n4"]
        await beside.apply(change_of(header, clock(), remove=SeqRange(5, 6)))
        assert await found(1, 300) == []
        assert await found(1, 1_000) == ["n2"]

    async def test_an_ended_session_is_still_read(self, beside: Beside, clock: ManualClock) -> None:
        await created(beside, clock, ttl_seconds=1)
        clock.advance(60)
        await beside.compare("default", "talk")
        assert await beside.provider.read("default", "talk") is not None

    async def test_what_was_read_is_nobody_elses(self, beside: Beside, clock: ManualClock) -> None:
        await created(beside, clock, attributes={"list": [1]})
        await change(beside, clock, context_set=new_context(k=1))
        snapshot = await beside.provider.read("default", "talk", context=True, window=Window())
        assert snapshot is not None
        assert snapshot.context is not None
        assert snapshot.messages is not None
        snapshot.header.attributes["list"].append(2)
        snapshot.header.grants.clear()
        snapshot.context.clear()
        snapshot.messages.clear()
        await beside.compare("default", "talk")
