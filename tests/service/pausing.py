"""A store that holds one write back until the test lets it continue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent_cores.session.models import Applied, Change
from agent_cores.session.storage.base import StorageProvider
from agent_cores.session.testing.wrapping import WrappingProvider


class PausingProvider(WrappingProvider):
    """Holds back the next write that is picked: ``reached`` is set, then it waits for ``go``."""

    def __init__(self, inner: StorageProvider, chosen: Callable[[Change], bool]) -> None:
        super().__init__(inner)
        self._chosen = chosen
        self._armed = False
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    def arm(self) -> None:
        """Hold the next one back."""
        self._armed = True
        self.reached.clear()
        self.go.clear()

    async def apply(self, change: Change) -> Applied:
        """Wait if this is that write, then delegate."""
        if self._armed and self._chosen(change):
            self._armed = False
            self.reached.set()
            await self.go.wait()
        return await super().apply(change)
