"""Whole sessions: created, or built in parts, with all that their originals have."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent_cores.session.errors import CorruptRecordError, SessionExistsError, SessionMovedError
from agent_cores.session.models import Hold, Query, Snapshot, Window
from agent_cores.session.models.effects import SettleEffect
from agent_cores.session.models.session import Turn
from agent_cores.session.testing.beside import walk
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.provider.changes import grant
from agent_cores.session.testing.samples import (
    change_of,
    creation,
    new_context,
    new_header,
    new_message,
)
from agent_cores.session.testing.wrapping import SpoiltProvider

if TYPE_CHECKING:
    from agent_cores.session.models import SessionMetadata
    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store


def original(clock: ManualClock, **fields: object) -> SessionMetadata:
    """Return the header of a session with a past: holes, a turn, revisions and grants."""
    at = clock()
    return msgspec.structs.replace(
        new_header(at=at - timedelta(days=9), expires_at=at + timedelta(days=3)),
        updated_at=at - timedelta(days=2),
        last_active_at=at - timedelta(days=1),
        listed_at=at - timedelta(days=1, milliseconds=400),
        due_at=at + timedelta(hours=1),
        title="past",
        tags=("x", "y"),
        grants={"bob": grant("bob", clock)},
        last_seq=90,
        revision=17,
        access_revision=2**62 + 1,
        turn=Turn("token", at + timedelta(minutes=5)),
        **fields,
    )


class SettlingCases(ProviderCases):
    """``create`` of a session that has a past; ``settle`` after it was built in parts."""

    @pytest.mark.parametrize("hold", [None, Hold.FROZEN])
    async def test_a_session_is_created_with_its_past(
        self, beside: Beside, clock: ManualClock, hold: Hold | None
    ) -> None:
        header = original(clock, hold=hold, archived=hold is not None)
        messages = tuple(new_message(f"m{seq}", at=clock(), seq=seq) for seq in (3, 4, 88))
        context = new_context(k=1)
        applied = await beside.apply(creation(header, append=messages, context_set=context))
        kept = msgspec.structs.replace(header, message_count=3, context_bytes=2)
        assert applied.header == kept
        if hold is None:
            append = (new_message("next", at=clock()),)
            [added] = (await beside.apply(change_of(header, clock(), append=append))).added
            assert added.seq == 91

    @pytest.mark.parametrize("archived", [False, True])
    async def test_a_session_that_was_built_is_settled_as_its_original(
        self, beside: Beside, clock: ManualClock, archived: bool
    ) -> None:
        header = original(clock, archived=archived)
        building = msgspec.structs.replace(
            header, hold=Hold.OPENING, last_seq=0, expires_at=clock() + timedelta(minutes=1)
        )
        first = (new_message("m3", at=clock() - timedelta(days=4), seq=3),)
        await beside.apply(creation(building, append=first, context_set=new_context(k=1)))
        for seq in (7, 88):
            message = new_message(f"m{seq}", at=clock(), seq=seq)
            page = change_of(
                header, clock.advance(1), expected_hold=Hold.OPENING, append=(message,)
            )
            await beside.apply(page)
        settle = SettleEffect(
            hold=None,
            access_revision=header.access_revision,
            expires_at=header.expires_at,
            last_seq=header.last_seq,
        )
        change = change_of(header, clock(), expected_hold=Hold.OPENING, settle=settle)
        applied = await beside.apply(change)
        kept = msgspec.structs.replace(
            header, message_count=3, context_bytes=2, due_at=applied.header.due_at
        )
        assert applied.header == kept
        with pytest.raises(SessionMovedError):
            await beside.apply(change)
        if not archived:
            for basis in (applied.header, None):  # on the fast path, and off it
                message = new_message(f"after {basis is None}", at=clock())
                append = change_of(header, clock(), append=(message,), basis=basis)
                assert (await beside.apply(append)).added[0].seq == (92 if basis is None else 91)
        for query in (
            Query(namespace="default", at=clock(), owner_id="ann", tags=("x",)),
            Query(namespace="default", at=clock(), by_creation=True),
            Query(namespace="default", at=clock(), subjects=("bob",)),
        ):
            await beside.compare_listing(query)

    async def test_only_a_session_that_is_being_built_can_be_settled(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = new_header(at=clock())
        await beside.apply(creation(header))
        settle = SettleEffect(hold=None, access_revision=5, expires_at=None, last_seq=9)
        with pytest.raises(SessionMovedError):
            await beside.apply(change_of(header, clock(), settle=settle))
        with pytest.raises(SessionExistsError):
            await beside.apply(creation(new_header(at=clock(), incarnation=2)))

    async def test_several_sessions_are_read_as_one_is(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        for session_id in ("one", "two"):
            messages = (new_message("m1", at=clock()), new_message("m2", session_id, at=clock()))
            header = new_header(session_id, at=clock())
            context = new_context(k=session_id)
            await beside.apply(creation(header, append=messages, context_set=context))
        names = [("default", session_id) for session_id in ("two", "none", "one", "two")]
        store = beside.provider
        for window in (None, Window(limit=1, after_seq=0)):
            for with_context in (False, True):
                alone = [
                    await store.read(*name, context=with_context, window=window) for name in names
                ]
                several = await store.read_several(names, context=with_context, window=window)
                assert several == alone
        assert await store.read_several([]) == []

    async def test_of_several_sessions_the_others_are_read_if_one_is_corrupt(
        self, store: Store, provider: StorageProvider, clock: ManualClock
    ) -> None:
        spoil = store.spoil
        if spoil is None:
            provider = SpoiltProvider(provider)
            spoil = provider.spoil
        names = [("default", session_id) for session_id in ("one", "two", "three")]
        for _, session_id in names:
            message = new_message("m1", at=clock())
            await provider.apply(creation(new_header(session_id, at=clock()), append=(message,)))
        await spoil(*names[1])
        for context in (False, True):
            first, corrupt, last = await provider.read_several(
                names, context=context, window=Window(limit=1)
            )
            assert isinstance(first, Snapshot)
            assert isinstance(last, Snapshot)
            assert [first.header.session_id, last.header.session_id] == ["one", "three"]
            assert isinstance(corrupt, CorruptRecordError)
            assert (corrupt.namespace, corrupt.session_id) == names[1]

    async def test_every_session_is_met_namespace_by_namespace(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        for namespace in ("team-a", "default", "team-a_b"):
            for session_id in ("one", "two"):
                header = new_header(session_id, at=clock(), namespace=namespace, incarnation=3)
                await beside.apply(creation(header))
        names = await beside.provider.namespaces()
        assert names == sorted(names)
        met = []
        for namespace in names:
            query = Query(namespace=namespace, at=clock(), by_creation=True, limit=1)
            met += [header.session_id for header in await walk(beside.provider, query)]
            if namespace not in {"default", "team-a", "team-a_b"}:
                assert not met
        assert sorted(met) == ["one"] * 3 + ["two"] * 3
