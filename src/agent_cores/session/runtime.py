"""``Runtime``: what a manager and its views share, and how that starts and stops."""

from __future__ import annotations

import asyncio
import logging
from threading import get_ident
from typing import TYPE_CHECKING, Any

from agent_cores.session.engine import Engine
from agent_cores.session.errors import WrongContextError
from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager
from agent_cores.session.lifecycle.store_clock import StoreClock
from agent_cores.session.message_inputs import MessageInputs
from agent_cores.session.process import keep_in_children, process_id

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime

    from agent_cores.session.models.limits import Limits
    from agent_cores.session.settings import SessionSettings
    from agent_cores.session.storage.base import StorageProvider

logger: logging.Logger = logging.getLogger("agent_cores.session")


class Runtime:
    """One storage, used in one event loop of one process."""

    def __init__(
        self,
        storage: StorageProvider,
        settings: SessionSettings,
        clock: Callable[[], datetime],
        reason: str,
    ) -> None:
        self.limits: Limits = settings.limits()
        self.storage = storage
        self.settings = settings
        self.clock: StoreClock = StoreClock(clock, storage, settings.max_clock_skew)
        self.inputs: MessageInputs = MessageInputs(self.limits)
        self.lifecycle: LifecycleManager = LifecycleManager(storage, settings, self.clock)
        self.engine: Engine = Engine(
            storage,
            self.lifecycle,
            self.limits,
            self.clock,
            timeout=settings.timeout,
            cached_headers=settings.max_cached_headers,
            cached_header_bytes=settings.max_cached_header_bytes,
        )
        self._reason = reason
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._home = (0, 0)  # thread and process
        self._stopped = False
        self._finishing: set[asyncio.Task[None]] = set()
        self._stopping: set[asyncio.Task[None]] = set()  # they wait for those, not for each other
        self._switch: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    @property
    def is_over(self) -> bool:
        """Whether this was stopped, its event loop closed, or its process forked this one."""
        if self._home[1] not in {0, process_id()}:
            return True
        return self._stopped or (self._loop is not None and self._loop.is_closed())

    @property
    def is_ready(self) -> bool:
        """Whether this is running, in this event loop and process.

        Every verb asks, so in the thread that started it this makes no system call: in that thread
        no other loop can run while this one does.
        """
        loop = self._loop
        if loop is not None and self._home == (get_ident(), process_id()) and loop.is_running():
            return True
        return loop is asyncio.get_running_loop() and self._home[1] == process_id()

    async def ready(self) -> None:
        """Start if nobody has; raise ``WrongContextError`` in another event loop or process."""
        if not self.is_ready:
            await self._start()

    async def acquire(self) -> None:
        """Count one more user, and start if this is the first."""
        self._users += 1
        try:
            await self._start()
        except BaseException:
            self._users -= 1
            raise

    async def release(self) -> None:
        """Count one user less, and stop everything with the last."""
        if self._loop is not None:
            self._check_context()
        if self.lifecycle.is_sweeping:
            detail = "a hook of the sweeper cannot shut its manager down: it would wait for itself"
            raise WrongContextError(detail)
        self._users = max(self._users - 1, 0)
        await _run_to_its_end(self._stop(), self._stopping)

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work that must not stop half way to its end, even if its caller is cancelled."""
        await _run_to_its_end(work, self._finishing)

    async def _stop(self) -> None:
        async with self._switching():
            if self._users or self._loop is None:
                return  # others use it, or began to while this waited
            if self._finishing:
                await asyncio.wait(self._finishing)
            try:
                await self.lifecycle.stop()
            finally:
                try:
                    await self.storage.shutdown()
                finally:
                    self.engine.stop()
                    self._loop = None
                    self._stopped = True

    async def _start(self) -> None:
        if self._loop is not None:
            self._check_context()
        async with self._switching():
            if self._loop is not None:
                self._check_context()
                return
            self._home = get_ident(), process_id()
            keep_in_children(self)
            await self.storage.initialize()
            try:
                await self.clock.measure()
            except BaseException:
                await self.storage.shutdown()
                raise
            self._loop = asyncio.get_running_loop()
            self._stopped = False
            self.engine.start()
            self.lifecycle.start()
        logger.info("sessions are kept in %s (%s)", self.storage.describe(), self._reason)

    def _switching(self) -> asyncio.Lock:
        """Return the lock under which this event loop starts and stops."""
        loop = asyncio.get_running_loop()
        if self._switch is None or self._switch[0] is not loop:
            self._switch = loop, asyncio.Lock()
        return self._switch[1]

    def _check_context(self) -> None:
        if self._home[1] != process_id():
            detail = "this manager was initialized in another process; make a new one after a fork"
            raise WrongContextError(detail)
        if self._loop is not asyncio.get_running_loop():
            detail = "this manager belongs to another event loop; make one for each loop"
            raise WrongContextError(detail)


async def _run_to_its_end(
    work: Coroutine[Any, Any, None], running: set[asyncio.Task[None]]
) -> None:
    """Run work in a task, which is in ``running`` while it runs and survives its caller."""
    task = asyncio.get_running_loop().create_task(work)
    running.add(task)
    task.add_done_callback(running.discard)
    await asyncio.shield(task)
