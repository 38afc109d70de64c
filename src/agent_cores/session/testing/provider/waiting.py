"""Changes that waited: each is decided by the time at which it is applied."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent_cores.session.errors import ReplacementError, SessionExpiredError, StaleHeaderError
from agent_cores.session.models import AccessEffect, Change, RenewEffect, TurnEffect
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.samples import creation, new_context, new_header, new_message

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.models import SessionMetadata
    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.clock import ManualClock

LIFE = 10.0
"""Seconds until the sessions of these cases expire."""


def _effects(kind: str, at: datetime) -> dict[str, Any]:
    effects: dict[str, dict[str, Any]] = {
        "append": {"append": (new_message("m1", at=at),)},
        "append and context": {
            "append": (new_message("m1", at=at),),
            "context_set": new_context(k=1),
        },
        "metadata": {"metadata": {"title": "t"}},
        "access": {"access": AccessEffect(archived=True)},
        "renewal": {"renew": RenewEffect()},
        "turn": {
            "turn_effect": TurnEffect(token="t", lease_end=at + timedelta(seconds=30), take=True)
        },
        "delete": {"delete": True},
    }
    return effects[kind]


EFFECTS = ("append", "append and context", "metadata", "access", "renewal", "turn", "delete")


def late(header: SessionMetadata, seconds: float, kind: str, **guards: Any) -> Change:  # noqa: ANN401
    """Return a change that was decided on a header, and is applied so many seconds later."""
    at = header.created_at
    return Change(
        namespace=header.namespace,
        session_id=header.session_id,
        at=at,
        clock=lambda: at + timedelta(seconds=seconds),
        basis=header,
        incarnation=header.incarnation,
        access_revision=header.access_revision,
        **_effects(kind, at),
        **guards,
    )


class WaitingCases(ProviderCases):
    """``apply`` of a change whose ``clock`` has advanced since it was decided."""

    @pytest.fixture
    async def header(self, provider: StorageProvider, clock: ManualClock) -> SessionMetadata:
        """Create a session of ten seconds."""
        applied = await provider.apply(creation(new_header(at=clock(), ttl_seconds=LIFE)))
        return applied.header

    @pytest.mark.parametrize("kind", EFFECTS)
    async def test_a_write_that_waited_past_the_end_is_refused(
        self, provider: StorageProvider, header: SessionMetadata, kind: str
    ) -> None:
        with pytest.raises(SessionExpiredError):
            await provider.apply(late(header, LIFE, kind))
        snapshot = await provider.read(header.namespace, header.session_id)
        assert snapshot is not None
        assert snapshot.header == header

    @pytest.mark.parametrize("kind", EFFECTS)
    async def test_a_write_that_waited_until_just_before_the_end_is_carried_out(
        self, provider: StorageProvider, header: SessionMetadata, kind: str
    ) -> None:
        await provider.apply(late(header, LIFE - 0.001, kind))

    async def test_an_append_that_waited_renews_from_when_it_was_applied(
        self, provider: StorageProvider, header: SessionMetadata
    ) -> None:
        applied = await provider.apply(late(header, 5, "append"))
        after = header.created_at + timedelta(seconds=5)
        assert applied.header.last_active_at == after
        assert applied.header.expires_at == after + timedelta(seconds=LIFE)

    @pytest.mark.parametrize("kind", EFFECTS)
    async def test_a_write_that_waited_past_the_end_of_its_grant_is_refused(
        self, provider: StorageProvider, header: SessionMetadata, kind: str
    ) -> None:
        until = header.created_at + timedelta(seconds=1)
        with pytest.raises(StaleHeaderError):
            await provider.apply(late(header, 1, kind, valid_until=until))
        snapshot = await provider.read(header.namespace, header.session_id)
        assert snapshot is not None
        assert snapshot.header == header
        await provider.apply(late(header, 0.999, kind, valid_until=until))

    async def test_many_writes_that_waited_are_judged_one_by_one(
        self, provider: StorageProvider, header: SessionMetadata
    ) -> None:
        until = header.created_at + timedelta(seconds=1)
        changes = [
            msgspec.structs.replace(
                late(header, 0.5 + number % 2, "append", valid_until=until),
                append=(new_message(f"m{number}", at=header.created_at),),
            )
            for number in range(20)
        ]
        outcomes = await asyncio.gather(*map(provider.apply, changes), return_exceptions=True)
        refused = [isinstance(outcome, StaleHeaderError) for outcome in outcomes]
        assert refused == [False, True] * 10

    async def test_an_ended_session_is_replaced_only_where_the_create_may(
        self, provider: StorageProvider, header: SessionMetadata, clock: ManualClock
    ) -> None:
        clock.advance(LIFE)
        create = creation(new_header(at=clock(), incarnation=2))
        with pytest.raises(ReplacementError):
            await provider.apply(msgspec.structs.replace(create, replaces=False))
        snapshot = await provider.read(header.namespace, header.session_id)
        assert snapshot is not None
        assert snapshot.header.incarnation == header.incarnation
        applied = await provider.apply(create)
        assert applied.replaced is not None
