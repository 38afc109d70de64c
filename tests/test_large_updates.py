"""Updates of large messages: how many are read and written together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.storage import batching
from agent_cores.session.storage.factory import StorageFactory
from agent_cores.session.testing import suite_settings
from agent_cores.session.testing.wrapping import WrappingProvider
from tests.stores_by_url import STORES

if TYPE_CHECKING:
    from pathlib import Path

    from agent_cores.session.models import Applied, Change
    from agent_cores.session.storage.base import StorageProvider

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024
COUNT, SIZE = 24, MIB // 2


class Gathering(WrappingProvider):
    """Applies updates once all have come; ``batches`` are the sizes of what is sent then."""

    def __init__(self, inner: StorageProvider) -> None:
        super().__init__(inner)
        self.batches: list[int] = []
        self._all_came = asyncio.Barrier(COUNT)

    async def apply(self, change: Change) -> Applied:
        """Delegate."""
        if change.update is not None and await self._all_came.wait() == COUNT - 1:
            self.batches.clear()  # those of the reads: the last to come goes on first
        return await super().apply(change)


@pytest.mark.parametrize("store", ["sqlite", "postgres", "mariadb"])
@pytest.mark.parametrize("sessions", [1, COUNT])
async def test_a_batch_of_small_updates_of_large_messages_is_bounded(
    store: str, sessions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = suite_settings(timeout=60)
    inner = StorageFactory.create(STORES[store](tmp_path), settings=settings)
    provider = Gathering(inner)
    monkeypatch.setattr(batching, "on_batch", [lambda items, _: provider.batches.append(items)])
    await inner.initialize()
    try:
        async with SessionManager(provider, settings=settings) as manager:
            places = [(f"s{place % sessions}", 1 + place // sessions) for place in range(COUNT)]
            for name, _ in places:
                await manager.create_session("ann", session_id=name, if_exists="return")
                await manager.add_message(name, "ann", "user", "x" * SIZE)
            updates = [
                manager.update_message(name, "ann", seq, metadata_updates={"k": 1})
                for name, seq in places
            ]
            updated = await asyncio.gather(*updates)
    finally:
        await inner.shutdown()
    assert all(message.metadata == {"k": 1} for message in updated)
    assert provider.batches
    assert max(provider.batches) <= 4 * MIB // SIZE
