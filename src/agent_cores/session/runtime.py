"""``Runtime``: what a manager and its views share, how it starts and how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from agent_cores.session.engine import Engine
from agent_cores.session.errors import WrongContextError
from agent_cores.session.inputs import Inputs
from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from agent_cores.session.settings import SessionSettings
    from agent_cores.session.storage.base import StorageProvider

logger = logging.getLogger("agent_cores.session")


class Runtime:
    """One storage at work in one event loop of one process."""

    def __init__(
        self,
        storage: StorageProvider,
        settings: SessionSettings,
        clock: Callable[[], datetime],
        reason: str,
    ) -> None:
        limits = settings.limits()
        self.storage = storage
        self.settings = settings
        self.clock = clock
        self.inputs = Inputs(limits)
        self.lifecycle = LifecycleManager(storage, settings, clock)
        self.engine = Engine(
            storage,
            self.lifecycle,
            limits,
            clock,
            timeout=settings.timeout,
            cached_headers=settings.max_cached_headers,
        )
        self._reason = reason
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._stopped = False
        self._starting: asyncio.Lock | None = None

    @property
    def is_over(self) -> bool:
        """Whether this was stopped, or its event loop closed without stopping it."""
        return self._stopped or (self._loop is not None and self._loop.is_closed())

    async def ready(self) -> None:
        """Start if nobody did; ``WrongContextError`` in another event loop or process."""
        if self._loop is not asyncio.get_running_loop() or self._pid != os.getpid():
            await self._start()

    async def acquire(self) -> None:
        """Start, or count one more user."""
        await self._start()
        self._users += 1

    async def release(self) -> None:
        """Count one user less; the last one stops everything."""
        self._users = max(self._users - 1, 0)
        if self._users or self._loop is None:
            return
        self._check_context()
        await self.lifecycle.stop()
        await self.storage.shutdown()
        self._loop = None
        self._stopped = True

    async def _start(self) -> None:
        if self._loop is not None:
            self._check_context()
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if self._loop is not None:
                return
            await self.storage.initialize()
            self._pid = os.getpid()
            self._loop = asyncio.get_running_loop()
            self._stopped = False
        logger.info("sessions are kept in %s (%s)", self.storage.describe(), self._reason)
        await self.lifecycle.clock_agrees()
        self.lifecycle.start()

    def _check_context(self) -> None:
        if self._pid != os.getpid():
            detail = "this manager was initialized in another process; make a new one after a fork"
            raise WrongContextError(detail)
        if self._loop is not asyncio.get_running_loop():
            detail = "this manager belongs to another event loop; make one for each loop"
            raise WrongContextError(detail)
