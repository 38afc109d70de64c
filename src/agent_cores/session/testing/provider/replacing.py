"""A change that removes the tail of a session and appends others in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import (
    ConflictError,
    InvalidInputError,
    LastSeqMismatchError,
)
from agent_cores.session.models import Limits, SeqRange
from agent_cores.session.testing.provider.appends import append, created
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.samples import change_of, new_context, new_message

if TYPE_CHECKING:
    from agent_cores.session.models import Applied, Change
    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock


def replacement(beside: Beside, clock: ManualClock, after_seq: int, *ids: str) -> Change:
    """Return a change that replaces the messages after a seq with ones of these ids."""
    header = beside.oracle.header("default", "talk")
    assert header is not None
    return change_of(
        header,
        clock(),
        remove=SeqRange(after_seq + 1, header.last_seq),
        append=tuple(new_message(message_id, at=clock()) for message_id in ids),
        expected_last_seq=header.last_seq,
    )


class ReplacingCases(ProviderCases):
    """``apply`` with ``remove`` and ``append`` in one change."""

    async def _written(self, beside: Beside, clock: ManualClock) -> None:
        await created(beside, clock)
        for message_id in "abcd":
            await append(beside, clock, True, message_id)

    async def test_a_replacement_removes_and_appends_in_one_write(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._written(beside, clock)
        before = beside.oracle.header("default", "talk")
        assert before is not None
        applied = await beside.apply(replacement(beside, clock, before.last_seq - 2, "x", "y", "z"))
        assert [message_id for _, message_id in applied.removed] == ["d", "c"]
        last = before.last_seq
        assert [message.seq for message in applied.added] == [last + 1, last + 2, last + 3]
        assert applied.header.message_count == before.message_count + 1
        assert applied.header.revision == before.revision + 1
        again = await append(beside, clock, True, "c")
        assert again.added[0].seq == last + 4

    @pytest.mark.parametrize("ids", ["d", "cd", "dxc"])
    async def test_a_replacement_may_use_the_ids_that_it_removes(
        self, beside: Beside, clock: ManualClock, ids: str
    ) -> None:
        await self._written(beside, clock)
        header = beside.oracle.header("default", "talk")
        assert header is not None
        applied = await beside.apply(replacement(beside, clock, header.last_seq - 2, *ids))
        assert [message.id for message in applied.added] == list(ids)
        assert len(applied.removed) == 2
        assert not applied.replayed

    async def test_a_repeated_replacement_is_answered_and_written_once(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._written(beside, clock)
        header = beside.oracle.header("default", "talk")
        assert header is not None
        change = replacement(beside, clock, header.last_seq - 2, "d", "x")
        first = await beside.apply(change)
        again = await beside.apply(change)
        assert again.replayed
        assert again.messages == first.messages

    async def test_a_message_before_the_tail_is_not_put_behind_it(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._written(beside, clock)
        header = beside.oracle.header("default", "talk")
        assert header is not None
        for ids in ("a", "xa"):
            with pytest.raises(ConflictError):
                await beside.apply(replacement(beside, clock, header.last_seq - 2, *ids))

    async def test_a_replacement_waits_for_no_append_that_it_has_not_seen(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._written(beside, clock)
        header = beside.oracle.header("default", "talk")
        assert header is not None
        change = replacement(beside, clock, header.last_seq - 1, "x")
        await append(beside, clock, True, "late")
        with pytest.raises(LastSeqMismatchError):
            await beside.apply(change)

    async def test_a_tail_that_is_too_long_is_replaced_not_at_all(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._written(beside, clock)
        header = beside.oracle.header("default", "talk")
        assert header is not None
        limits = Limits(rewind_messages=2)
        for after_seq, refused in ((header.last_seq - 3, True), (header.last_seq - 2, False)):
            change = change_of(
                header,
                clock(),
                remove=SeqRange(after_seq + 1, header.last_seq),
                append=(new_message("x", at=clock()),),
                limits=limits,
            )
            if refused:
                with pytest.raises(InvalidInputError, match="after_seq"):
                    await beside.apply(change)
            else:
                assert len((await beside.apply(change)).removed) == 2

    async def test_a_replacement_writes_context_too(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._written(beside, clock)
        header = beside.oracle.header("default", "talk")
        assert header is not None
        applied: Applied = await beside.apply(
            change_of(
                header,
                clock(),
                remove=SeqRange(header.last_seq, header.last_seq),
                append=(new_message("x", at=clock()),),
                context_set=new_context(summary="short"),
            )
        )
        assert applied.header.revision == header.revision + 1
        assert applied.context_set
