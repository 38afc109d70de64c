"""Appending: numbering, replay, conflict, guards, with and without the fast path's basis."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import (
    ConflictError,
    LastSeqMismatchError,
    RevisionMismatchError,
    SessionArchivedError,
    SessionExpiredError,
    SessionNotFoundError,
    StaleHeaderError,
    TurnLostError,
)
from agent_cores.session.models import (
    AccessEffect,
    AccessRole,
    Grant,
    RenewOn,
    SeqRange,
    TurnEffect,
)
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.samples import (
    AWKWARD_TEXT,
    AWKWARD_VALUE,
    DISTINCT_NAMES,
    change_of,
    creation,
    new_context,
    new_header,
    new_message,
)

if TYPE_CHECKING:
    from agent_cores.session.models import Applied, SessionMetadata
    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock

_ROADS = pytest.mark.parametrize("hot", [True, False], ids=["fast path", "slow path"])


async def append(
    beside: Beside,
    clock: ManualClock,
    hot: bool,
    *ids: str,
    text: object = "hello",
    **guards: Any,  # noqa: ANN401
) -> Applied:
    """Append messages; with the stored header as basis if ``hot``."""
    header = beside.oracle.header("default", "talk")
    assert header is not None
    messages = tuple(new_message(message_id, text, at=clock()) for message_id in ids)
    basis = header if hot else None
    return await beside.apply(
        change_of(header, clock(), **{"append": messages, "basis": basis, **guards})
    )


async def created(beside: Beside, clock: ManualClock, **fields: Any) -> SessionMetadata:  # noqa: ANN401
    """Create a session with one message, ``m0``."""
    header = new_header(at=clock(), **fields)
    first = new_message("m0", at=clock())
    return (await beside.apply(creation(header, append=(first,)))).header


class AppendCases(ProviderCases):
    """``apply`` with ``append``."""

    @_ROADS
    async def test_messages_are_numbered_in_order(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        await created(beside, clock)
        applied = await append(beside, clock, hot, "a", "b", "c")
        assert [message.seq for message in applied.messages] == [2, 3, 4]
        applied = await append(beside, clock, hot, "d")
        assert [message.seq for message in applied.messages] == [5]

    @_ROADS
    async def test_an_append_raises_no_revision_and_moves_the_end(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        header = await created(beside, clock)
        clock.advance(0.999)
        soon = await append(beside, clock, hot, "a")
        assert soon.header.revision == header.revision
        assert soon.header.updated_at == header.updated_at
        assert soon.header.last_active_at == clock()
        assert soon.header.listed_at == header.listed_at
        assert soon.header.expires_at == clock() + timedelta(hours=1)
        assert soon.header.due_at == header.expires_at
        clock.advance(0.001)
        assert (await append(beside, clock, hot, "b")).header.listed_at == clock()

    @_ROADS
    @pytest.mark.parametrize("fields", [{"renew_on": RenewOn.NEVER}, {"max_lifetime_seconds": 60}])
    async def test_an_append_moves_no_end_that_stands(
        self, beside: Beside, clock: ManualClock, hot: bool, fields: dict[str, Any]
    ) -> None:
        header = await created(beside, clock, ttl_seconds=60, **fields)
        clock.advance(30)
        assert (await append(beside, clock, hot, "a")).header.expires_at == header.expires_at
        clock.advance(29.999)
        await append(beside, clock, hot, "b")
        clock.advance(0.001)
        with pytest.raises(SessionExpiredError):
            await append(beside, clock, hot, "c")

    @_ROADS
    async def test_a_session_ends_at_the_exact_instant(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        await created(beside, clock, ttl_seconds=10)
        clock.advance(9.999)
        await append(beside, clock, hot, "a")
        clock.advance(10)
        with pytest.raises(SessionExpiredError):
            await append(beside, clock, hot, "b")

    @_ROADS
    async def test_a_session_without_an_end_takes_messages_for_ever(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        await created(beside, clock, ttl_seconds=None)
        clock.advance(10**9)
        assert (await append(beside, clock, hot, "a")).header.expires_at is None

    @_ROADS
    async def test_a_known_id_is_answered_as_stored(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        await created(beside, clock)
        first = await append(beside, clock, hot, "a", "b")
        clock.advance(5)
        again = await append(beside, clock, hot, "a", "b")
        assert again.replayed
        assert again.messages == first.messages
        assert (await append(beside, clock, hot, "b")).messages == first.messages[1:]
        assert (await append(beside, clock, hot, "b", "a")).messages == first.messages[::-1]

    @_ROADS
    async def test_a_batch_of_known_and_new_ids_adds_the_new_ones(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        await created(beside, clock)
        await append(beside, clock, hot, "b")
        applied = await append(beside, clock, hot, "a", "b", "c")
        assert [message.seq for message in applied.messages] == [3, 2, 4]
        assert not applied.replayed

    @_ROADS
    async def test_a_known_id_with_other_content_refuses_all(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        await created(beside, clock)
        await append(beside, clock, hot, "a")
        for ids in (("a",), ("b", "a"), ("a", "b")):
            with pytest.raises(ConflictError):
                await append(beside, clock, hot, *ids, text="other")
        header = beside.oracle.header("default", "talk")
        assert header is not None
        for other in (
            new_message("a", at=clock(), author_id="bob"),
            new_message("a", at=clock(), metadata={"k": 1}),
        ):
            with pytest.raises(ConflictError):
                await beside.apply(change_of(header, clock(), append=(other,)))

    @_ROADS
    async def test_numbers_are_equal_only_as_written(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        await created(beside, clock)
        await append(beside, clock, hot, "a", text=[1])
        for other in ([1.0], [True], ["1"]):
            with pytest.raises(ConflictError):
                await append(beside, clock, hot, "a", text=other)
        assert (await append(beside, clock, hot, "a", text=[1])).replayed

    @_ROADS
    async def test_the_order_of_keys_makes_no_other_message(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        await created(beside, clock)
        first = await append(beside, clock, hot, "a", text=[{"x": 1, "y": [{"k": 1, "l": 2}]}])
        again = await append(beside, clock, hot, "a", text=[{"y": [{"l": 2, "k": 1}], "x": 1}])
        assert again.replayed
        assert again.messages == first.messages
        with pytest.raises(ConflictError):
            await append(beside, clock, hot, "a", text=[{"y": [{"l": 2, "k": 1.0}], "x": 1}])

    @_ROADS
    async def test_a_replay_makes_no_later_check_and_writes_nothing(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        header = await created(beside, clock)
        await append(beside, clock, hot, "a")
        clock.advance(5)
        applied = await append(
            beside,
            clock,
            hot,
            "a",
            turn="never taken",
            expected_revision=99,
            expected_last_seq=99,
            context_set=new_context(k=1),
        )
        assert applied.replayed
        archive = AccessEffect(archived=True)
        await beside.apply(change_of(header, clock(), access=archive))
        assert (await append(beside, clock, hot, "a")).replayed

    @_ROADS
    async def test_a_partly_known_batch_keeps_every_later_check(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        await created(beside, clock)
        await append(beside, clock, hot, "a")
        with pytest.raises(LastSeqMismatchError):
            await append(beside, clock, hot, "a", "b", expected_last_seq=1)
        applied = await append(
            beside, clock, hot, "a", "b", expected_last_seq=2, context_set=new_context(k=1)
        )
        assert [message.seq for message in applied.messages] == [2, 3]

    @_ROADS
    async def test_every_precondition_is_held_to(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        header = await created(beside, clock)
        take = TurnEffect(token="t1", lease_end=clock() + timedelta(seconds=30), take=True)
        await beside.apply(change_of(header, clock(), turn_effect=take))
        refused: list[tuple[dict[str, Any], type[Exception]]] = [
            ({"incarnation": 2}, StaleHeaderError),
            ({"access_revision": 2}, StaleHeaderError),
            ({"turn": "t2"}, TurnLostError),
            ({"expected_revision": 2}, RevisionMismatchError),
            ({"expected_revision": 1, "expected_incarnation": 2}, RevisionMismatchError),
            ({"expected_last_seq": 2}, LastSeqMismatchError),
        ]
        for guard, error in refused:
            with pytest.raises(error):
                await append(beside, clock, hot, "a", **guard)
        await append(
            beside,
            clock,
            hot,
            "a",
            incarnation=1,
            access_revision=1,
            turn="t1",
            expected_revision=1,
            expected_incarnation=1,
            expected_last_seq=1,
        )

    @_ROADS
    async def test_an_expected_revision_is_that_of_the_stored_session(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        stale = await created(beside, clock)
        changed = await beside.apply(change_of(stale, clock(), metadata={"title": "new"}))
        basis = stale if hot else None
        with pytest.raises(RevisionMismatchError):
            await append(beside, clock, hot, "a", basis=basis, expected_revision=stale.revision)
        expected = changed.header.revision
        await append(beside, clock, hot, "a", basis=basis, expected_revision=expected)
        await append(beside, clock, hot, "b", expected_revision=expected)
        again = await append(beside, clock, hot, "b", expected_revision=stale.revision)
        assert again.replayed

    @_ROADS
    async def test_a_turn_that_ran_out_but_was_not_taken_still_holds(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        header = await created(beside, clock)
        take = TurnEffect(token="t1", lease_end=clock() + timedelta(seconds=30), take=True)
        await beside.apply(change_of(header, clock(), turn_effect=take))
        clock.advance(31)
        await append(beside, clock, hot, "a", turn="t1")
        end = clock() + timedelta(seconds=30)
        other = TurnEffect(token="t2", lease_end=end, take=True)
        await beside.apply(change_of(header, clock(), turn_effect=other))
        with pytest.raises(TurnLostError):
            await append(beside, clock, hot, "b", turn="t1")
        await append(beside, clock, hot, "b")

    async def test_a_stale_basis_may_only_say_yes(self, beside: Beside, clock: ManualClock) -> None:
        stale = await created(beside, clock)
        clock.advance(2)
        await beside.apply(change_of(stale, clock(), metadata={"title": "new"}))
        await append(beside, clock, True, "a", basis=stale)
        grant = Grant(subject="bob", role=AccessRole.EDITOR, granted_by="ann", granted_at=clock())
        await beside.apply(change_of(stale, clock(), access=AccessEffect(grant=(grant,))))
        guards = {"basis": stale, "access_revision": stale.access_revision}
        with pytest.raises(StaleHeaderError):
            await append(beside, clock, True, "b", **guards)
        await append(beside, clock, True, "b", basis=stale)
        await beside.apply(change_of(stale, clock(), access=AccessEffect(archived=True)))
        with pytest.raises(SessionArchivedError):
            await append(beside, clock, True, "c", basis=stale)
        await beside.apply(change_of(stale, clock(), delete=True))
        messages = (new_message("d", at=clock()),)
        with pytest.raises(SessionNotFoundError):
            await beside.apply(change_of(stale, clock(), append=messages, basis=stale))

    @_ROADS
    async def test_removed_messages_leave_a_hole_and_free_their_ids(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        header = await created(beside, clock)
        await append(beside, clock, hot, "a", "b", "c", "d")
        one = await beside.apply(change_of(header, clock(), remove=SeqRange(3, 3)))
        assert one.removed == ((3, "b"),)
        assert one.header.revision == header.revision + 1
        tail = await beside.apply(change_of(header, clock(), remove=SeqRange(4, 5)))
        assert tail.removed == ((5, "d"), (4, "c"))
        assert tail.header.last_seq == 5
        assert tail.header.message_count == 2
        again = await append(beside, clock, hot, "b", text="other")
        assert [message.seq for message in again.messages] == [6]
        nothing = await beside.apply(change_of(header, clock(), remove=SeqRange(4, 5)))
        assert nothing.removed == ()
        assert nothing.header.revision == tail.header.revision

    async def test_an_append_writes_context_or_nothing(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock)
        await append(beside, clock, False, "a", context_set=new_context(k=1, l=2))
        await append(beside, clock, False, "b", context_drop=("k", "absent"))
        with pytest.raises(ConflictError):
            await append(beside, clock, False, "c", "a", text="x", context_set=new_context(k=9))

    @_ROADS
    async def test_every_text_comes_back_equal(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        await created(beside, clock)
        await append(beside, clock, hot, "a", text=AWKWARD_TEXT)
        await append(beside, clock, hot, "b", text=[AWKWARD_VALUE], context_set={})
        await append(beside, clock, hot, "c", text="x" * 1_000_000)
        await append(beside, clock, hot, "d", text="")

    @_ROADS
    async def test_message_ids_that_look_alike_stay_apart(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        await created(beside, clock)
        for number, name in enumerate(DISTINCT_NAMES, 2):
            applied = await append(beside, clock, hot, name, text=name)
            assert [message.seq for message in applied.messages] == [number]
        again = await append(beside, clock, hot, DISTINCT_NAMES[1], text=DISTINCT_NAMES[1])
        assert [message.seq for message in again.messages] == [3]

    @_ROADS
    async def test_a_thousand_messages_are_one_change(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        await created(beside, clock)
        ids = [f"n{number}" for number in range(1_000)]
        applied = await append(beside, clock, hot, *ids)
        assert applied.header.last_seq == 1_001
        assert (await append(beside, clock, hot, *ids)).replayed

    @_ROADS
    async def test_a_missing_session_takes_nothing(
        self, beside: Beside, clock: ManualClock, hot: bool
    ) -> None:
        header = new_header("absent", at=clock())
        messages = (new_message("a", at=clock()),)
        basis = header if hot else None
        with pytest.raises(SessionNotFoundError):
            await beside.apply(change_of(header, clock(), append=messages, basis=basis))
