"""A change that is retried because its response was lost: it is applied once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import (
    RevisionMismatchError,
    SessionError,
    SessionNotFoundError,
    StaleHeaderError,
    StorageUnavailableError,
    TurnLostError,
)
from agent_cores.session.models import (
    AccessEffect,
    MessageUpdate,
    RenewEffect,
    SeqRange,
    TurnEffect,
)
from agent_cores.session.testing.beside import Beside
from agent_cores.session.testing.provider.appends import created
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.samples import (
    change_of,
    creation,
    new_context,
    new_header,
    new_message,
)
from agent_cores.session.testing.wrapping import LosingProvider

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_cores.session.models import Applied, Change, SessionMetadata
    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.clock import ManualClock

_GUARDS: dict[str, dict[str, Any]] = {
    "unguarded": {"incarnation": None},
    "incarnation": {},
    "access": {"access_revision": 1},
    "revision": {"expected_revision": 1},
    "last seq": {"expected_last_seq": 1},
    "turn": {"turn": "t1"},
}

_EFFECTS: dict[str, Callable[[ManualClock], dict[str, Any]]] = {
    "append": lambda clock: {"append": (new_message("a", at=clock()),)},
    "append with context": lambda clock: {
        "append": (new_message("a", at=clock()),),
        "context_set": new_context(k=1),
    },
    "update": lambda _: {"update": MessageUpdate(seq=1, id="m0", content=b'"new"')},
    "append with metadata": lambda clock: {
        "append": (new_message("a", at=clock()),),
        "metadata": {"title": "t", "a": 1},
    },
    "remove": lambda _: {"remove": SeqRange(1, 1)},
    "metadata": lambda _: {"metadata": {"title": "t"}},
    "context": lambda _: {"context_set": new_context(k=1)},
    "access": lambda _: {"access": AccessEffect(public=True)},
    "take the turn": lambda clock: {"turn_effect": _turn("t1", clock, take=True)},
    "renew the turn": lambda clock: {"turn_effect": _turn("t1", clock)},
    "release the turn": lambda _: {"turn_effect": TurnEffect(token="t1", lease_end=None)},
    "renew": lambda _: {"renew": RenewEffect(ttl_seconds=99)},
    "delete": lambda _: {"delete": True},
}


def _turn(token: str, clock: ManualClock, *, take: bool = False) -> TurnEffect:
    return TurnEffect(token=token, lease_end=clock() + timedelta(seconds=30), take=take)


def _refusal_of_a_repeat(applied: Applied, change: Change) -> type[SessionError] | None:
    """Return the error of a change that was already applied, or ``None`` if there is none."""
    header, effect = applied.header, change.turn_effect
    released = effect is not None and effect.lease_end is None
    if change.delete:
        return SessionNotFoundError
    if change.append or change.update or (effect is not None and effect.take):
        return None
    if change.access_revision not in {None, header.access_revision}:
        return StaleHeaderError
    if released:
        return TurnLostError
    if change.expected_revision not in {None, header.revision}:
        return RevisionMismatchError
    return None


class LostAnswerCases(ProviderCases):
    """Each kind of change with each precondition: applied, its response lost, then retried."""

    @pytest.mark.parametrize("guard", _GUARDS)
    @pytest.mark.parametrize("effect", _EFFECTS)
    async def test_a_repeated_change_is_carried_out_once(
        self, provider: StorageProvider, clock: ManualClock, effect: str, guard: str
    ) -> None:
        losing = LosingProvider(provider)
        beside = Beside(losing)
        header = await self._session_with_a_turn(beside, clock)
        change = change_of(header, clock(), **(_EFFECTS[effect](clock) | _GUARDS[guard]))
        before = beside.oracle.apply(change)
        losing.lose()
        with pytest.raises(StorageUnavailableError):
            await losing.apply(change)
        await beside.compare("default", "talk")
        clock.advance(1)
        refusal = _refusal_of_a_repeat(before, change)
        if refusal is None:
            again = await beside.apply(change)
            assert again.messages == before.messages
            assert again.header.revision == before.header.revision
        else:
            with pytest.raises(refusal):
                await beside.apply(change)

    async def _session_with_a_turn(self, beside: Beside, clock: ManualClock) -> SessionMetadata:
        header = await created(beside, clock)
        take = change_of(header, clock(), turn_effect=_turn("t1", clock, take=True))
        return (await beside.apply(take)).header

    async def test_a_repeated_create_is_the_same_session(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        losing = LosingProvider(provider)
        beside = Beside(losing)
        message = new_message("a", at=clock())
        change = creation(new_header(at=clock()), append=(message,), context_set=new_context(k=1))
        beside.oracle.apply(change)
        losing.lose()
        with pytest.raises(StorageUnavailableError):
            await losing.apply(change)
        again = await beside.apply(change)
        assert again.replayed
        assert [(stored.seq, stored.id) for stored in again.messages] == [(1, "a")]

    async def test_a_create_over_an_ended_session_is_repeatable(
        self, provider: StorageProvider, clock: ManualClock
    ) -> None:
        losing = LosingProvider(provider)
        beside = Beside(losing)
        await created(beside, clock, ttl_seconds=1)
        clock.advance(1)
        change = creation(new_header(at=clock(), incarnation=2, owner_id="bob"))
        beside.oracle.apply(change)
        losing.lose()
        with pytest.raises(StorageUnavailableError):
            await losing.apply(change)
        assert (await beside.apply(change)).replayed

    async def test_a_message_sent_again_in_another_grouping_is_stored_once(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)
        messages = [new_message(f"a{number}", at=clock()) for number in range(4)]
        groups: tuple[Change, ...] = tuple(
            change_of(header, clock(), append=tuple(messages[n] for n in picked), basis=header)
            for picked in ((0, 1), (1,), (2, 0), (3, 2, 1, 0), (0, 1, 2, 3))
        )
        for change in groups:
            await beside.apply(change)
        kept = beside.oracle.sessions["default", "talk"]
        assert [message.id for message in kept.messages] == ["m0", "a0", "a1", "a2", "a3"]
