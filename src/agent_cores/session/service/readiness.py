"""``Readiness``: whether the store can be written; concurrent callers share a check."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from agent_cores.session.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_cores.session.storage.base import StorageProvider

logger: logging.Logger = logging.getLogger("agent_cores.session.service")

ASK_AGAIN_SECONDS = 2.0
ANSWER_SECONDS = 2.0
"""How long the store may take to respond."""


class Readiness:
    """The result of the last check of the store, at most 2 seconds old."""

    def __init__(
        self, storage: Callable[[], StorageProvider], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage = storage
        self._now = now
        self._checked_at = float("-inf")
        self._is_ready: bool | None = None
        self._checking: asyncio.Task[None] | None = None

    async def ask(self) -> bool:
        """Whether the store can be read and written."""
        if self._checking is None and self._now() - self._checked_at >= ASK_AGAIN_SECONDS:
            self._checking = asyncio.create_task(self._check())
        if self._checking is not None:
            await asyncio.shield(self._checking)
        return self._is_ready is True

    async def close(self) -> None:
        """Cancel a check in flight."""
        if self._checking is not None:
            self._checking.cancel()
            with suppress(asyncio.CancelledError):
                await self._checking

    async def _check(self) -> None:
        before = self._is_ready
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._storage().check()
            self._is_ready = True
        except (SessionError, OSError) as error:  # includes time-outs
            self._is_ready = False
            if before is not False:
                logger.warning("not ready, the store cannot be used: %s", type(error).__name__)
        finally:
            self._checked_at = self._now()
            self._checking = None
