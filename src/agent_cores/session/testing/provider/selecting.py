"""Messages that are read or removed by name, and the oldest ones, removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import InvalidInputError, LastSeqMismatchError
from agent_cores.session.models import (
    Limits,
    NamedMessages,
    OldestMessages,
    SeqRange,
    Window,
)
from agent_cores.session.testing.provider.appends import append, created
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.provider.updating import update_of
from agent_cores.session.testing.samples import change_of, creation, new_header, new_message

if TYPE_CHECKING:
    from typing import Any

    from agent_cores.session.models import Applied, SessionMetadata
    from agent_cores.session.models.selection import Removal
    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock

NAMES = tuple(f"n{number}" for number in range(1, 13))


async def written(beside: Beside, clock: ManualClock) -> SessionMetadata:
    """Create a session that has the seqs 1 to 13 but 5 and 6, and an id ``n<seq - 1>`` for each."""
    await created(beside, clock)
    await append(beside, clock, False, *NAMES)
    return (await removed(beside, clock, SeqRange(5, 6))).header


async def removed(
    beside: Beside,
    clock: ManualClock,
    remove: Removal,
    **more: Any,  # noqa: ANN401 - the other fields of a change
) -> Applied:
    """Remove messages of the session."""
    header = beside.oracle.header("default", "talk")
    assert header is not None
    return await beside.apply(change_of(header, clock(), remove=remove, **more))


class SelectingCases(ProviderCases):
    """``read`` with ``Window.named``, ``apply`` with ``NamedMessages`` and ``OldestMessages``."""

    async def test_named_messages_are_read_by_rising_seq(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await written(beside, clock)
        for named in (
            NamedMessages(ids=("n3",)),
            NamedMessages(ids=("n11", "n2", "gone", "n8")),
            NamedMessages(ids=("n4", "n5", "n6")),
            NamedMessages(ids=("gone",)),
            NamedMessages(ids=NAMES),
            NamedMessages(seqs=(3,)),
            NamedMessages(seqs=(99, 13, 1, 5, 10)),
            NamedMessages(seqs=(5, 6, 2**62)),
        ):
            await beside.compare_window("default", "talk", Window.of(named))

    async def test_a_page_of_named_messages_ends_at_its_bytes(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock)
        for number, size in enumerate((400, 10, 10, 400, 10)):
            await append(beside, clock, False, f"n{number}", text="x" * size)
        for named in (
            NamedMessages(ids=("n4", "n0", "gone", "n3", "n1")),
            NamedMessages(ids=("n0",)),
            NamedMessages(seqs=(6, 2, 5, 3)),
        ):
            for max_bytes in (1, 100, 200, 300, 600, 700, 2_000):
                window = Window.of(named, max_bytes=max_bytes)
                await beside.compare_window("default", "talk", window)

    async def test_named_messages_are_removed_in_one_write(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        before = await written(beside, clock)
        applied = await removed(beside, clock, NamedMessages(ids=("n11", "gone", "n2")))
        assert [message_id for _, message_id in applied.removed] == ["n2", "n11"]
        assert applied.header.message_count == before.message_count - 2
        assert applied.header.revision == before.revision + 1
        assert applied.header.last_seq == before.last_seq
        applied = await removed(beside, clock, NamedMessages(seqs=(9, 5, 1)))
        assert [seq for seq, _ in applied.removed] == [1, 9]
        again = await append(beside, clock, True, "n2")
        assert again.added[0].seq == before.last_seq + 1

    async def test_names_without_a_message_remove_nothing(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        before = await written(beside, clock)
        for named in (NamedMessages(ids=("gone", "n5")), NamedMessages(seqs=(5, 99))):
            applied = await removed(beside, clock, named)
            assert applied.header == before
            assert not applied.removed

    async def test_an_id_names_the_message_that_has_it_now(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await written(beside, clock)
        await removed(beside, clock, NamedMessages(ids=("n3",)))
        await append(beside, clock, True, "n3")
        applied = await removed(beside, clock, NamedMessages(seqs=(4,)))
        assert not applied.removed
        applied = await removed(beside, clock, NamedMessages(ids=("n3",)))
        assert applied.removed == ((header.last_seq + 1, "n3"),)

    async def test_the_oldest_messages_are_removed_up_to_those_to_keep(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await written(beside, clock)
        applied = await removed(beside, clock, OldestMessages(keep=8))
        assert [seq for seq, _ in applied.removed] == [1, 2, 3]
        assert applied.header.message_count == 8
        assert not (await removed(beside, clock, OldestMessages(keep=8))).removed
        assert not (await removed(beside, clock, OldestMessages(keep=1_000))).removed
        applied = await removed(beside, clock, OldestMessages(before_seq=9))
        assert [seq for seq, _ in applied.removed] == [4, 7, 8]
        assert not (await removed(beside, clock, OldestMessages(before_seq=9))).removed
        applied = await removed(beside, clock, OldestMessages(before_seq=11, keep=4))
        assert [seq for seq, _ in applied.removed] == [9]
        applied = await removed(beside, clock, OldestMessages())
        assert [seq for seq, _ in applied.removed] == [10, 11, 12, 13]
        assert applied.header.message_count == 0
        assert not (await removed(beside, clock, OldestMessages())).removed

    async def test_a_write_removes_the_oldest_first_and_no_more_than_its_bound(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await written(beside, clock)
        limits = Limits(rewind_messages=4)
        for remove, seqs in (
            (OldestMessages(keep=2), [1, 2, 3, 4]),
            (OldestMessages(before_seq=12), [7, 8, 9, 10]),
            (OldestMessages(before_seq=12), [11]),
        ):
            applied = await removed(beside, clock, remove, limits=limits)
            assert [seq for seq, _ in applied.removed] == seqs

    async def test_what_is_named_is_not_bounded_by_a_rewind(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await written(beside, clock)
        named = NamedMessages(ids=("n1", "n2", "n3"))
        applied = await removed(beside, clock, named, limits=Limits(rewind_messages=1))
        assert len(applied.removed) == 3

    async def test_updated_messages_are_read_and_removed_like_others(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = new_header(at=clock())
        messages = tuple(new_message(f"m{number}", at=clock()) for number in range(12))
        await beside.apply(creation(header, append=messages))
        for place in (0, 3, 4, 10):
            await beside.apply(update_of(beside, clock, place, "new " * 50))
        for named in (
            NamedMessages(ids=("m10", "m3", "m9", "m0")),
            NamedMessages(seqs=(12, 5, 4, 1, 2)),
        ):
            for max_bytes in (1, 300, 10_000):
                window = Window.of(named, max_bytes=max_bytes)
                await beside.compare_window("default", "talk", window)
        applied = await removed(beside, clock, NamedMessages(seqs=(11, 2)))
        assert [seq for seq, _ in applied.removed] == [2, 11]
        applied = await removed(beside, clock, NamedMessages(ids=("m3",)))
        assert [seq for seq, _ in applied.removed] == [4]
        applied = await removed(beside, clock, OldestMessages(before_seq=6))
        assert [seq for seq, _ in applied.removed] == [1, 3, 5]
        applied = await removed(beside, clock, OldestMessages(keep=1))
        assert applied.header.message_count == 1

    async def test_such_a_removal_is_refused_like_any_other(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await written(beside, clock)
        for remove in (NamedMessages(ids=("n1",)), OldestMessages(keep=1)):
            with pytest.raises(LastSeqMismatchError):
                await removed(beside, clock, remove, expected_last_seq=header.last_seq - 1)
            with pytest.raises(InvalidInputError, match="remove"):
                await removed(beside, clock, remove, append=(new_message("x", at=clock()),))
