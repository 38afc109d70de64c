"""``Readiness``: whether the store can be used, and why not; concurrent callers share a check."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from agent_cores.session.deadline import counting_down
from agent_cores.session.errors import (
    QuotaExceededError,
    SessionError,
    StorageUnavailableError,
    StoreFormatError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.wire.health import NotReady

logger: logging.Logger = logging.getLogger("agent_cores.session.service")

ASK_AGAIN_SECONDS = 1.0
ANSWER_SECONDS = 2.0
"""How long the store may take to respond."""
_RETRIES = 0.75
"""The part of that for which a provider retries, so that it can say why it gave up."""


def reason_of(error: Exception) -> NotReady:
    """Return the name of what keeps the store from being used."""
    if isinstance(error, QuotaExceededError):
        return "full"
    if isinstance(error, StoreFormatError):
        return "unusable"
    why = error.why if isinstance(error, StorageUnavailableError) else None
    return why or "no_response"


class Readiness:
    """The result of the last check of the store, at most a second old."""

    def __init__(
        self, storage: Callable[[], StorageProvider], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage = storage
        self._now = now
        self._checked_at = float("-inf")
        self._reason: NotReady | None = None
        self._checking: asyncio.Task[None] | None = None

    async def ask(self) -> NotReady | None:
        """Return why the store cannot be read and written; ``None`` if it can."""
        if self._checking is None and self._now() - self._checked_at >= ASK_AGAIN_SECONDS:
            self._checking = asyncio.create_task(self._check())
        if self._checking is not None:
            await asyncio.shield(self._checking)
        return self._reason

    async def close(self) -> None:
        """Cancel a check in flight."""
        if self._checking is not None:
            self._checking.cancel()
            with suppress(asyncio.CancelledError):
                await self._checking

    async def _check(self) -> None:
        before, self._reason = self._reason, "no_response"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                with counting_down(ANSWER_SECONDS * _RETRIES):
                    await self._storage().check()
            self._reason = None
        except (SessionError, OSError) as error:  # includes time-outs
            self._reason = reason_of(error)
            if before != self._reason:
                kind = type(error).__name__
                logger.warning("not ready, the store cannot be used: %s (%s)", self._reason, kind)
        finally:
            self._checked_at = self._now()
            self._checking = None
