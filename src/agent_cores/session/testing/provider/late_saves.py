"""Callers of the default ``apply`` that are cancelled while ``save_session`` still writes.

A save may go on after its caller was cancelled: in a thread, or in a request that was sent already.
These cases put such a save before the seven methods of the store under test.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.models import Window
from agent_cores.session.storage.base import StorageProvider
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.samples import change_of, creation, new_header, new_message
from agent_cores.session.testing.wrapping import WrappingProvider

if TYPE_CHECKING:
    from agent_cores.session.models import Applied, Change, Session, SessionMetadata, Snapshot
    from agent_cores.session.testing.clock import ManualClock

MOMENT = 0.05
"""Seconds in which a call that nothing holds up would be over."""


class LateSaves(WrappingProvider):
    """The seven methods of another provider; a save goes on, whoever gives up on it.

    ``calls`` are the saves that are over, and the shutdown.
    """

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        return await StorageProvider.read(
            self, namespace, session_id, context=context, window=window
        )

    async def apply(self, change: Change) -> Applied:
        return await StorageProvider.apply(self, change)

    def __init__(self, inner: StorageProvider) -> None:
        super().__init__(inner)
        self.calls: list[str] = []
        self.saving: asyncio.Event = asyncio.Event()
        self._go: asyncio.Event | None = None

    def hold_next_save(self) -> asyncio.Event:
        """Return the event that the next save waits for. ``saving`` is set once it waits."""
        self._go = go = asyncio.Event()
        self.saving.clear()
        return go

    async def save_session(self, session: Session) -> None:
        """Save, perhaps late."""
        go, self._go = self._go, None
        self.saving.set()
        await asyncio.shield(asyncio.ensure_future(self._save(session, go)))

    async def _save(self, session: Session, go: asyncio.Event | None) -> None:
        if go is not None:
            await go.wait()
        await self.inner.save_session(session)
        self.calls.append("save")

    async def shutdown(self) -> None:
        """Note it; whoever made the inner provider closes that."""
        self.calls.append("shutdown")


class LateSaveCases(ProviderCases):
    """The default ``apply`` keeps a session to itself until its save is over."""

    @pytest.fixture
    def late(self, provider: StorageProvider) -> LateSaves:
        """Delay the saves of the provider."""
        return LateSaves(provider)

    @pytest.fixture
    async def stored(self, late: LateSaves, clock: ManualClock) -> SessionMetadata:
        """Create a session."""
        applied = await late.apply(creation(new_header(at=clock())))
        late.calls.clear()
        return applied.header

    async def test_a_late_save_of_a_cancelled_caller_undoes_no_write_that_was_acknowledged(
        self, late: LateSaves, stored: SessionMetadata, clock: ManualClock
    ) -> None:
        go = await _cancel_in_save(late, _append(stored, clock, "first"))
        second = asyncio.ensure_future(late.apply(_append(stored, clock, "second")))
        await asyncio.wait([second], timeout=MOMENT)
        go.set()
        await second
        snapshot = await late.read(
            stored.namespace, stored.session_id, window=Window(limit=10, max_bytes=1_000)
        )
        assert snapshot is not None
        assert [message.id for message in snapshot.messages or ()] == ["first", "second"]

    async def test_a_caller_cancelled_while_it_waits_for_a_late_save_writes_nothing(
        self, late: LateSaves, stored: SessionMetadata, clock: ManualClock
    ) -> None:
        go = await _cancel_in_save(late, _append(stored, clock, "first"))
        second = asyncio.ensure_future(late.apply(_append(stored, clock, "second")))
        await asyncio.wait([second], timeout=MOMENT)
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second
        go.set()
        third = await late.apply(_append(stored, clock, "third"))
        assert third.header.last_seq == 2

    async def test_a_shutdown_waits_for_the_save_of_a_cancelled_caller(
        self, late: LateSaves, stored: SessionMetadata, clock: ManualClock
    ) -> None:
        await late.initialize()
        go = await _cancel_in_save(late, _append(stored, clock, "first"))
        stopping = asyncio.ensure_future(late.shutdown())
        await asyncio.wait([stopping], timeout=MOMENT)
        go.set()
        await stopping
        assert late.calls == ["save", "shutdown"]


def _append(header: SessionMetadata, clock: ManualClock, message_id: str) -> Change:
    return change_of(header, clock(), append=(new_message(message_id, at=clock()),))


async def _cancel_in_save(late: LateSaves, change: Change) -> asyncio.Event:
    """Apply a change, cancel its caller while the save waits; return what lets the save go on."""
    go = late.hold_next_save()
    caller = asyncio.ensure_future(late.apply(change))
    await late.saving.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    return go
