"""All other effects: metadata, context, access, turn, renewal; and what a change must not touch."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import (
    InvalidInputError,
    SessionArchivedError,
    TurnHeldError,
    TurnLostError,
)
from agent_cores.session.models import (
    AccessEffect,
    AccessRole,
    Grant,
    Limits,
    Query,
    RenewEffect,
    RenewOn,
    SeqRange,
    TurnEffect,
)
from agent_cores.session.testing.provider.appends import append, created
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.samples import (
    AWKWARD_NAME,
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
    from agent_cores.session.models import Applied
    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock


async def change(beside: Beside, clock: ManualClock, **effects: Any) -> Applied:  # noqa: ANN401
    """Change the session ``talk``."""
    header = beside.oracle.header("default", "talk")
    assert header is not None
    return await beside.apply(change_of(header, clock(), **effects))


def grant(subject: str, clock: ManualClock, *, lasting: float | None = None) -> Grant:
    """Return an editor's grant that lasts some seconds."""
    end = None if lasting is None else clock() + timedelta(seconds=lasting)
    return Grant(
        subject=subject,
        role=AccessRole.EDITOR,
        granted_by="ann",
        granted_at=clock(),
        expires_at=end,
    )


class ChangeCases(ProviderCases):
    """``apply`` with anything but create, append and delete."""

    async def test_metadata_changes_key_by_key(self, beside: Beside, clock: ManualClock) -> None:
        await created(beside, clock, title="t", tags=("x", "y"), attributes={"a": 1, "b": 2})
        clock.advance(1)
        updates = {
            "title": AWKWARD_TEXT,
            "tags": [AWKWARD_NAME],
            "a": None,
            AWKWARD_TEXT: AWKWARD_VALUE,
        }
        applied = await change(beside, clock, metadata=updates)
        assert applied.header.tags == (AWKWARD_NAME,)
        assert applied.header.attributes == {"b": 2, AWKWARD_TEXT: AWKWARD_VALUE}
        assert applied.header.revision == 2
        assert applied.header.updated_at == applied.header.listed_at == clock()
        for tag in ("x", AWKWARD_NAME):
            await beside.compare_listing(
                Query(namespace="default", at=clock(), owner_id="ann", tags=(tag,))
            )

    async def test_a_change_that_alters_nothing_raises_nothing(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock, title="t", attributes={"a": 1})
        await change(beside, clock, context_set=new_context(k=1))
        clock.advance(1)
        for effects in (
            {"metadata": {"title": "t", "a": 1, "absent": None}},
            {"context_set": new_context(k=1), "context_drop": ("absent",)},
            {"access": AccessEffect(public=False, owner_id="ann", revoke=("nobody",))},
        ):
            applied = await change(beside, clock, **effects)
            assert applied.header.revision == 2
            assert applied.header.last_active_at < clock()

    async def test_the_order_of_keys_makes_no_other_value(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        value, same = {"x": 1, "y": {"k": 1, "l": 2}}, {"y": {"l": 2, "k": 1}, "x": 1}
        await created(beside, clock, attributes={"a": value, "b": 1})
        await change(beside, clock, context_set=new_context(k=value))
        for effects in ({"metadata": {"b": 1, "a": same}}, {"context_set": new_context(k=same)}):
            assert (await change(beside, clock, **effects)).header.revision == 2

    async def test_a_value_of_another_type_is_another_value(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock, attributes={"a": 1})
        for value in (1.0, True, "1", [1]):
            before = beside.oracle.header("default", "talk")
            applied = await change(beside, clock, metadata={"a": value})
            assert before is not None
            assert applied.header.revision == before.revision + 1
            assert type(applied.header.attributes["a"]) is type(value)

    async def test_context_keys_are_set_and_dropped_one_by_one(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock)
        await change(beside, clock, context_set=new_context(a=1, b=AWKWARD_VALUE))
        await change(beside, clock, context_set=new_context(c=3), context_drop=("a",))
        names = {name: new_context(x=name)["x"] for name in DISTINCT_NAMES}
        await change(beside, clock, context_set=names)
        await change(beside, clock, context_drop=DISTINCT_NAMES[::2])
        await change(beside, clock, context_set={"": b"1null"})

    async def test_a_grant_comes_and_goes(self, beside: Beside, clock: ManualClock) -> None:
        await created(beside, clock)
        shared = [
            Query(namespace="default", at=clock(), subjects=subjects)
            for subjects in (("bob",), ("group:team", "bob"), ("group:team",))
        ]
        effects = (
            AccessEffect(grant=(grant("bob", clock), grant("group:team", clock))),
            AccessEffect(revoke=("bob",)),
            AccessEffect(grant=(grant("bob", clock, lasting=10),)),
            AccessEffect(owner_id="bob", revoke=("bob",), grant=(grant("ann", clock),)),
            AccessEffect(revoke_all=True),
        )
        seen: set[int | None] = set()
        for effect in effects:
            clock.advance(1)
            applied = await change(beside, clock, access=effect)
            assert applied.header.access_revision not in seen
            seen.add(applied.header.access_revision)
            for query in shared:
                await beside.compare_listing(query)

    async def test_sharing_again_the_same_way_changes_nothing(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock)
        first = await change(beside, clock, access=AccessEffect(grant=(grant("bob", clock),)))
        clock.advance(5)
        again = await change(beside, clock, access=AccessEffect(grant=(grant("bob", clock),)))
        assert again.header == first.header

    async def test_an_archived_session_refuses_writes_and_stays_alive(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock)
        archived = await change(beside, clock, access=AccessEffect(archived=True))
        clock.advance(10)
        for effects in (
            {"append": (new_message("a", at=clock()),)},
            {"append": (new_message("a", at=clock()),), "basis": archived.before},
            {"metadata": {"a": 1}},
            {"context_set": new_context(k=1)},
            {"context_drop": ("k",)},
            {"remove": SeqRange(1, 1)},
            {"turn_effect": _take("t1", clock)},
        ):
            with pytest.raises(SessionArchivedError):
                await change(beside, clock, **effects)
        shared = await change(beside, clock, access=AccessEffect(grant=(grant("bob", clock),)))
        assert shared.header.expires_at == archived.header.expires_at
        await change(beside, clock, renew=RenewEffect())
        await change(beside, clock, access=AccessEffect(archived=False))
        await change(beside, clock, append=(new_message("a", at=clock()),))

    async def test_a_turn_is_taken_renewed_lost_and_released(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)
        take = _take("t1", clock)
        taken = await change(beside, clock, turn_effect=take)
        assert taken.header.revision == header.revision
        assert (await change(beside, clock, turn_effect=take)).replayed
        with pytest.raises(TurnHeldError):
            await change(beside, clock, turn_effect=_take("t2", clock))
        clock.advance(29.999)
        with pytest.raises(TurnHeldError):
            await change(beside, clock, turn_effect=_take("t2", clock))
        clock.advance(0.001)
        await change(beside, clock, turn_effect=_take("t2", clock))
        end = clock() + timedelta(seconds=60)
        for token in ("t1", ""):
            for lease_end in (end, None):
                with pytest.raises(TurnLostError):
                    await change(
                        beside, clock, turn_effect=TurnEffect(token=token, lease_end=lease_end)
                    )
        renewed = await change(beside, clock, turn_effect=TurnEffect(token="t2", lease_end=end))
        assert renewed.header.turn is not None
        assert renewed.header.turn.expires_at == end
        released = await change(beside, clock, turn_effect=TurnEffect(token="t2", lease_end=None))
        assert released.header.turn is None
        assert released.header.last_active_at == header.last_active_at

    async def test_a_renewal_never_shortens_unless_an_idle_time_is_given(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock, ttl_seconds=100)
        await change(beside, clock, renew=RenewEffect(ttl_seconds=1_000))
        clock.advance(500)
        renewed = await change(beside, clock, renew=RenewEffect())
        assert renewed.header.expires_at == clock() + timedelta(seconds=1_000)
        assert renewed.header.last_active_at < clock()
        nearer = await change(beside, clock, renew=RenewEffect(ttl_seconds=10))
        assert nearer.header.expires_at == clock() + timedelta(seconds=10)
        tokens = [header.access_revision, renewed.header.access_revision]
        assert nearer.header.access_revision not in tokens
        never = await change(beside, clock, renew=RenewEffect(ttl_seconds=None))
        assert never.header.expires_at is None
        assert (await change(beside, clock, renew=RenewEffect())).header.expires_at is None
        await change(beside, clock, renew=RenewEffect(ttl_seconds=50))

    async def test_no_renewal_passes_the_longest_lifetime(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        fields = {"max_lifetime_seconds": 150, "renew_on": RenewOn.ACCESS}
        header = await created(beside, clock, ttl_seconds=100, **fields)
        clock.advance(80)
        renewed = await change(beside, clock, renew=RenewEffect())
        assert renewed.header.expires_at == header.created_at + timedelta(seconds=150)
        unbounded = await change(beside, clock, renew=RenewEffect(ttl_seconds=None))
        assert unbounded.header.expires_at == header.created_at + timedelta(seconds=150)

    async def test_several_effects_are_one_change(self, beside: Beside, clock: ManualClock) -> None:
        await created(beside, clock)
        applied = await change(
            beside,
            clock,
            append=(new_message("a", at=clock()), new_message("m0", at=clock())),
            metadata={"title": "t"},
            context_set=new_context(k=1),
            access=AccessEffect(public=True),
        )
        assert applied.header.revision == 2
        assert [message.seq for message in applied.messages] == [2, 1]

    async def test_a_refused_change_writes_nothing(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock)
        await change(beside, clock, context_set=new_context(k="x" * 40))
        limits = Limits(context_bytes=60, metadata_bytes=60, grants=1)
        too_much: tuple[dict[str, Any], ...] = (
            {"context_set": new_context(l="y" * 40)},
            {"metadata": {"a": "y" * 80}},
            {"access": AccessEffect(grant=(grant("bob", clock), grant("eve", clock)))},
        )
        for effects in too_much:
            with pytest.raises(InvalidInputError):
                await change(
                    beside, clock, limits=limits, append=(new_message("a", at=clock()),), **effects
                )
        await change(beside, clock, limits=limits, context_set=new_context(k="x" * 10))
        await change(beside, clock, limits=limits, context_set=new_context(l="y" * 30))

    async def test_context_may_shrink_past_its_bound(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock)
        await change(beside, clock, context_set=new_context(a="x" * 100, b="y" * 100))
        limits = Limits(context_bytes=50)
        await change(beside, clock, limits=limits, context_set=new_context(a="x" * 90))
        with pytest.raises(InvalidInputError):
            await change(beside, clock, limits=limits, context_set=new_context(a="x" * 91))

    async def test_a_removal_is_bounded_and_takes_the_tail_first(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock)
        await append(beside, clock, False, "a", "b", "c")
        limits = Limits(rewind_messages=2)
        applied = await change(beside, clock, limits=limits, remove=SeqRange(1, 10**9))
        assert [seq for seq, _ in applied.removed] == [4, 3]

    async def test_changes_of_one_session_leave_its_neighbours_alone(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        names = ("a", "a ", "A", "aa", "a%", "a_")
        for number, session_id in enumerate(names):
            header = new_header(session_id, at=clock(), incarnation=number + 1)
            first = new_message("m0", at=clock())
            await beside.apply(creation(header, append=(first,), context_set=new_context(k=1)))
        header = new_header("a", at=clock())
        await beside.apply(change_of(header, clock(), context_drop=("k",), remove=SeqRange(1, 1)))
        await beside.apply(change_of(header, clock(), delete=True))
        for session_id in names:
            await beside.compare("default", session_id)


def _take(token: str, clock: ManualClock) -> TurnEffect:
    return TurnEffect(token=token, lease_end=clock() + timedelta(seconds=30), take=True)
