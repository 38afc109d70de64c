"""Creating and deleting: new, repeated, taken and expired ids, and sessions being built."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent_cores.session.errors import (
    InvalidInputError,
    RevisionMismatchError,
    SessionError,
    SessionExistsError,
    SessionExpiredError,
    SessionMovedError,
    SessionNotFoundError,
    StaleHeaderError,
)
from agent_cores.session.models import AccessRole, Grant, Hold, HoldEffect, Limits, Query
from agent_cores.session.testing.oracle import EVERYTHING
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.samples import (
    change_of,
    creation,
    new_context,
    new_header,
    new_message,
)

if TYPE_CHECKING:
    from agent_cores.session.models import SessionMetadata
    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock


class CreateCases(ProviderCases):
    """``apply`` with ``create`` and with ``delete``."""

    async def test_a_create_writes_all_its_parts(self, beside: Beside, clock: ManualClock) -> None:
        at = clock()
        header = new_header(at=at, title="t", tags=("x",), attributes={"a": 1}, request_digest="d")
        messages = (new_message("m1", at=at), new_message("m2", at=at))
        applied = await beside.apply(
            creation(header, append=messages, context_set=new_context(k=1))
        )
        assert [message.seq for message in applied.messages] == [1, 2]
        assert applied.header.message_count == 2
        assert applied.before is None

    async def test_a_create_is_repeatable(self, beside: Beside, clock: ManualClock) -> None:
        change = creation(new_header(at=clock()), append=(new_message("m1", at=clock()),))
        await beside.apply(change)
        clock.advance(1)
        append = (new_message("m2", at=clock()),)
        await beside.apply(change_of(new_header(at=clock()), clock(), append=append))
        applied = await beside.apply(msgspec.structs.replace(change, at=clock()))
        assert applied.replayed
        assert applied.header.last_seq == 2

    async def test_a_taken_id_is_refused(self, beside: Beside, clock: ManualClock) -> None:
        await beside.apply(creation(new_header(at=clock()), context_set=new_context(k=1)))
        with pytest.raises(SessionExistsError):
            await beside.apply(creation(new_header(at=clock(), incarnation=2, owner_id="bob")))

    async def test_a_create_under_an_ended_id_removes_the_old_one_in_the_same_write(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        grants = {"bob": _grant_to_bob(clock)}
        old = new_header(at=clock(), ttl_seconds=10, tags=("old",), grants=grants)
        append = (new_message("m1", at=clock()), new_message("m2", at=clock()))
        await beside.apply(creation(old, append=append, context_set=new_context(k=1)))
        clock.advance(9.999)
        with pytest.raises(SessionExistsError):
            await beside.apply(creation(new_header(at=clock(), incarnation=2, owner_id="bob")))
        clock.advance(0.001)
        new = new_header(at=clock(), incarnation=2, owner_id="bob", tags=("new",))
        applied = await beside.apply(creation(new, append=(new_message("m1", "x", at=clock()),)))
        assert applied.replaced is not None
        assert applied.replaced.incarnation == 1
        assert [message.seq for message in applied.messages] == [1]
        for owner_id, subjects in (("ann", ()), ("bob", ()), (None, ("bob",))):
            await beside.compare_listing(
                Query(namespace="default", at=clock(), owner_id=owner_id, subjects=subjects)
            )
        await beside.compare_listing(
            Query(namespace="default", at=clock(), owner_id="ann", tags=("old",))
        )
        assert await beside.due(clock(), 30) == []

    @pytest.mark.parametrize("incarnation", [1, 2])
    async def test_a_living_session_is_replaced_in_one_write_where_that_is_asked_for(
        self, beside: Beside, clock: ManualClock, incarnation: int
    ) -> None:
        grants = {"bob": _grant_to_bob(clock)}
        old = new_header(at=clock(), tags=("old",), grants=grants)
        append = tuple(new_message(f"m{n}", at=clock()) for n in (1, 2, 3))
        await beside.apply(creation(old, append=append, context_set=new_context(k=1, l=2)))
        new = msgspec.structs.replace(
            new_header(at=clock(), incarnation=incarnation, owner_id="bob", tags=("new",)),
            access_revision=77,
            last_seq=90,
        )
        messages = tuple(new_message(f"m{seq}", "x", at=clock(), seq=seq) for seq in (2, 8))
        change = msgspec.structs.replace(
            creation(new, append=messages, context_set=new_context(k=3)),
            overwrite=True,
            incarnation=1,
        )
        applied = await beside.apply(change)
        assert applied.replaced is not None
        header = applied.header
        assert (header.access_revision, header.last_seq, header.message_count) == (77, 90, 2)
        for owner_id, subjects in (("ann", ()), ("bob", ()), (None, ("bob",))):
            await beside.compare_listing(
                Query(namespace="default", at=clock(), owner_id=owner_id, subjects=subjects)
            )
        for basis in (applied.header, None):  # on the fast path, and off it
            message = new_message(f"after {basis is None}", at=clock())
            appended = change_of(applied.header, clock(), append=(message,), basis=basis)
            assert (await beside.apply(appended)).added[0].seq == (92 if basis is None else 91)

    async def test_a_replacement_of_a_session_is_refused_where_another_one_is_stored(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        change = msgspec.structs.replace(
            creation(new_header(at=clock(), incarnation=2, owner_id="bob")),
            overwrite=True,
            incarnation=3,
        )
        with pytest.raises(SessionNotFoundError):
            await beside.apply(change)
        await beside.apply(creation(new_header(at=clock()), context_set=new_context(k=1)))
        with pytest.raises(StaleHeaderError):
            await beside.apply(change)
        held = msgspec.structs.replace(change, incarnation=1, expected_hold=Hold.OPENING)
        with pytest.raises(SessionMovedError):
            await beside.apply(held)

    async def test_a_delete_leaves_nothing(self, beside: Beside, clock: ManualClock) -> None:
        header = new_header(at=clock(), tags=("x",), grants={"bob": _grant_to_bob(clock)})
        append = tuple(new_message(f"m{n}", at=clock()) for n in range(5))
        await beside.apply(creation(header, append=append, context_set=new_context(k=1)))
        applied = await beside.apply(change_of(header, clock(), delete=True))
        assert applied.deleted
        assert await beside.provider.read("default", "talk", window=EVERYTHING) is None
        for owner_id, subjects in (("ann", ()), (None, ("bob",)), (None, ())):
            await beside.compare_listing(
                Query(namespace="default", at=clock(), owner_id=owner_id, subjects=subjects)
            )
        with pytest.raises(SessionNotFoundError):
            await beside.apply(change_of(header, clock(), delete=True))
        clock.advance(4_000)
        assert await beside.due(clock(), 30) == []
        assert (await beside.provider.count("default", clock())).sessions == 0

    async def test_a_stale_write_never_meets_a_re_created_id(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        first = new_header(at=clock())
        created = await beside.apply(creation(first, append=(new_message("m1", at=clock()),)))
        await beside.apply(change_of(first, clock(), delete=True))
        second = new_header(at=clock.advance(1), incarnation=2, owner_id="bob")
        await beside.apply(creation(second))
        append = (new_message("m2", at=clock()),)
        late = change_of(created.header, clock(), append=append, basis=created.header)
        for effects in (
            {"delete": True},
            {"metadata": {"a": 1}},
            {"context_set": new_context(k=1)},
        ):
            with pytest.raises(StaleHeaderError):
                await beside.apply(change_of(first, clock(), **effects))
        with pytest.raises(StaleHeaderError):
            await beside.apply(late)

    async def test_a_session_that_is_built_takes_messages_with_their_own_seq(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = new_header(at=clock(), hold=Hold.OPENING)
        await beside.apply(creation(header, append=(new_message("m3", at=clock(), seq=3),)))
        early = clock() - timedelta(days=30)
        own = (new_message("m7", at=early, seq=7), new_message("m9", at=clock(), seq=9))
        page = change_of(header, clock(), expected_hold=Hold.OPENING, append=own)
        applied = await beside.apply(page)
        assert applied.header.last_seq == 9
        assert applied.messages[0].created_at == early
        for seq in (9, 5):
            append = (new_message("m10", at=clock(), seq=seq),)
            with pytest.raises(InvalidInputError):
                await beside.apply(msgspec.structs.replace(page, append=append))
        assert (await beside.apply(page)).replayed

    async def test_only_its_builder_writes_to_a_session_that_is_built(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = new_header(at=clock(), hold=Hold.OPENING)
        await beside.apply(creation(header))
        for effects in (
            {"append": (new_message("m1", at=clock()),)},
            {"metadata": {"a": 1}},
            {"delete": True},
        ):
            with pytest.raises(SessionMovedError):
                await beside.apply(change_of(header, clock(), **effects))
        with pytest.raises(SessionMovedError):
            await beside.apply(creation(new_header(at=clock(), incarnation=2)))
        listing = Query(namespace="default", at=clock(), owner_id="ann", status=None)
        await beside.compare_listing(listing)

    async def test_opening_gives_a_session_its_own_end(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = new_header(at=clock(), hold=Hold.OPENING, ttl_seconds=3600)
        created = await beside.apply(creation(header))
        assert created.header.expires_at == clock() + timedelta(minutes=1)
        clock.advance(40)
        append = (new_message("m1", at=clock(), seq=4),)
        page = change_of(header, clock(), expected_hold=Hold.OPENING, append=append)
        moved = await beside.apply(page)
        assert moved.header.expires_at == clock() + timedelta(minutes=1)
        clock.advance(1)
        opening = change_of(header, clock(), expected_hold=Hold.OPENING, hold=HoldEffect(None))
        opened = await beside.apply(opening)
        assert opened.header.hold is None
        assert opened.header.expires_at == clock() + timedelta(hours=1)

    async def test_a_frozen_session_refuses_every_write(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = new_header(at=clock())
        created = await beside.apply(creation(header))
        await beside.apply(change_of(header, clock(), hold=HoldEffect(Hold.FROZEN)))
        append = (new_message("m1", at=clock()),)
        plain = change_of(header, clock(), append=append)
        for change in (
            plain,
            msgspec.structs.replace(plain, basis=created.header),
            change_of(header, clock(), context_set=new_context(k=1)),
            change_of(header, clock(), delete=True),
        ):
            with pytest.raises(SessionMovedError):
                await beside.apply(change)
        thaw = change_of(header, clock(), expected_hold=Hold.FROZEN, hold=HoldEffect(None))
        await beside.apply(thaw)
        await beside.apply(plain)

    async def test_a_delete_that_must_meet_an_ended_session_leaves_a_living_one(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = new_header(at=clock(), ttl_seconds=10)
        await beside.apply(creation(header))
        sweep = change_of(header, clock.advance(9.999), delete=True, must_be_expired=True)
        with pytest.raises(StaleHeaderError):
            await beside.apply(sweep)
        ended = clock.advance(0.001)
        with pytest.raises(SessionExpiredError):
            await beside.apply(change_of(header, ended, delete=True))
        assert (await beside.apply(msgspec.structs.replace(sweep, at=ended))).deleted

    async def test_a_delete_holds_to_the_revision_it_expects(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = new_header(at=clock())
        await beside.apply(creation(header))
        await beside.apply(change_of(header, clock(), metadata={"a": 1}))
        with pytest.raises(RevisionMismatchError):
            await beside.apply(change_of(header, clock(), delete=True, expected_revision=1))
        assert (
            await beside.apply(change_of(header, clock(), delete=True, expected_revision=2))
        ).deleted

    async def test_a_create_past_a_bound_writes_nothing(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        limits = Limits(metadata_bytes=20, context_bytes=20)
        for header, context in (
            (new_header(at=clock(), attributes={"a": "x" * 20}), {}),
            (new_header(at=clock()), new_context(k="x" * 20)),
        ):
            with pytest.raises(InvalidInputError):
                await beside.apply(creation(header, limits=limits, context_set=context))
        assert (await beside.provider.count("default", clock())).sessions == 0

    async def test_creates_of_one_moment_write_what_each_would_write_alone(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        """They may share a batch with creates of taken ids, which are decided by what is stored."""
        repeated = creation(_varied(clock, 0), context_set=new_context(k=0))
        await beside.apply(repeated)
        await beside.apply(creation(_varied(clock, 1, ttl_seconds=5), context_set=new_context(k=1)))
        await beside.apply(creation(_varied(clock, 2), append=(new_message("m", at=clock()),)))
        clock.advance(10)
        new = [_varied(clock, number, incarnation=number + 100) for number in range(1, 40)]
        changes = [creation(each, context_set=new_context(k=each.incarnation)) for each in new]
        changes[5] = creation(new[5], append=(new_message("m", at=clock()),))
        limits = Limits(context_bytes=20)
        changes[6] = creation(new[6], context_set=new_context(k="x" * 20), limits=limits)
        outcomes = await beside.apply_together([repeated, *changes])
        refused = [each for each in outcomes if isinstance(each, SessionError)]
        assert list(map(type, refused)) == [SessionExistsError, InvalidInputError]
        assert (await beside.provider.count("default", clock())).sessions == 20
        assert (await beside.provider.count("other", clock())).sessions == 19
        for query in (
            Query(namespace="default", at=clock(), owner_id="ann"),
            Query(namespace="default", at=clock(), owner_id="ann", tags=("x",)),
            Query(namespace="other", at=clock(), owner_id="bob", tags=("tag 3",)),
            Query(namespace="other", at=clock(), subjects=("bob",)),
        ):
            await beside.compare_listing(query)
        assert await beside.due(clock.advance(4_000), 30) != []


def _varied(clock: ManualClock, number: int, **fields: Any) -> SessionMetadata:  # noqa: ANN401 - fields of a header
    """Return a header whose title, tags, grants and times differ by its number."""
    odd = number % 2 == 1
    return new_header(
        at=clock(),
        **{
            "session_id": f"talk {number} \u00e9",
            "namespace": "other" if odd else "default",
            "owner_id": "bob" if odd else "ann",
            "title": "\0 title \u4e2d" if odd else None,
            "tags": ("x", f"tag {number % 4}")[: number % 3],
            "grants": {"bob": _grant_to_bob(clock)} if number % 5 == 0 else {},
            "attributes": {"n": number} if number % 4 == 0 else {},
            "ttl_seconds": None if number % 7 == 0 else 3_600.5,
            **fields,
        },
    )


def _grant_to_bob(clock: ManualClock) -> Grant:
    return Grant(subject="bob", role=AccessRole.VIEWER, granted_by="ann", granted_at=clock())
