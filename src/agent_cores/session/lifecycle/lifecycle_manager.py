"""``LifecycleManager``: hooks, and the sweeping of expired sessions, for all stores alike."""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from agent_cores.session.access.access_control import owner_view
from agent_cores.session.errors import (
    InvalidInputError,
    SessionError,
    SessionNotFoundError,
    StaleHeaderError,
)
from agent_cores.session.lifecycle.events import EVENT_NAMES, Handler, SessionEvent
from agent_cores.session.models.session import Hold

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.lifecycle.store_clock import StoreClock
    from agent_cores.session.models.query import Ended
    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.settings import SessionSettings
    from agent_cores.session.storage.base import StorageProvider

logger: logging.Logger = logging.getLogger("agent_cores.session")

_in_background: ContextVar[bool] = ContextVar("in_background", default=False)

_GONE = (SessionNotFoundError, StaleHeaderError)
"""Errors that show that a session no longer exists, or that its id names another one."""

SWEEP_BATCH = 200
SWEEP_LEASE_SECONDS = 60.0


class LifecycleManager:
    """Runs hooks after writes, and removes expired sessions in the background.

    Handlers run in the order in which they were added, after the write was acknowledged and before
    the verb returns. ``session.expired`` runs at least once, all others at most once. A handler
    that fails is logged; the others still run.
    """

    def __init__(
        self,
        storage: StorageProvider,
        settings: SessionSettings,
        clock: StoreClock,
    ) -> None:
        self._storage = storage
        self._settings = settings
        self._clock = clock
        self._handlers: dict[str, list[Handler]] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self.removed: int = 0
        """How many expired sessions it has removed so far, of all namespaces."""

    def on(self, name: str, handler: Handler) -> None:
        """Call ``handler(event)``, sync or async, for every event of that name."""
        if name not in EVENT_NAMES:
            raise InvalidInputError("name", f"no such event; use one of {', '.join(EVENT_NAMES)}")
        self._handlers.setdefault(name, []).append(handler)

    def off(self, name: str, handler: Handler) -> None:
        """Remove a handler; one that was never added is ignored."""
        with suppress(ValueError):
            self._handlers.get(name, []).remove(handler)

    def share_hooks(self, other: LifecycleManager) -> None:
        """Share the hooks of another manager, including those that are added later."""
        self._handlers = other._handlers

    @property
    def listens(self) -> bool:
        """Whether any handler was ever added, for any event."""
        return bool(self._handlers)

    def listens_to(self, name: str) -> bool:
        """Whether there is a handler for events of that name."""
        return bool(self._handlers.get(name))

    async def emit(self, event: SessionEvent) -> None:
        """Run the handlers of an event, one after another."""
        for handler in tuple(self._handlers.get(event.name, ())):
            try:
                outcome = handler(event)
                if inspect.isawaitable(outcome):
                    await outcome
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # this task was cancelled, not something that the handler awaited
                logger.exception("a handler of %s raised an error", event.name)
            except Exception:
                logger.exception("a handler of %s raised an error", event.name)

    async def emit_expired(
        self, namespace: str, session_id: str, header: SessionMetadata | None, at: datetime
    ) -> None:
        """Run the hooks of ``session.expired``, unless the session was never opened."""
        if not self.listens_to("session.expired"):
            return
        if header is not None and header.hold is Hold.OPENING:
            return
        await self.emit(
            SessionEvent(
                name="session.expired",
                at=at,
                namespace=namespace,
                session_id=session_id,
                session=None if header is None else owner_view(header, at),
            )
        )

    def start(self) -> None:
        """Start sweeping every ``SESSION_CLEANUP_INTERVAL`` seconds; 0 means never."""
        if self._settings.cleanup_interval > 0 and self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep_periodically())

    async def stop(self) -> None:
        """Stop sweeping in the background."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
            self._sweeper = None

    async def sweep(self) -> list[Ended]:
        """Remove every expired session; any number of processes may do so concurrently.

        Returns the sessions that this call removed; none while the store's clock is in doubt. The
        cost grows with the number of due sessions, not of stored ones.
        """
        removed: list[Ended] = []
        if not await self._clock.measure():
            return removed
        while ended := await self._storage.due(self._clock(), SWEEP_BATCH, SWEEP_LEASE_SECONDS):
            outcomes = await asyncio.gather(*(self._expire(session) for session in ended))
            removed.extend(session for session, gone in zip(ended, outcomes, strict=True) if gone)
            self.removed += outcomes.count(True)
        return removed

    async def _expire(self, session: Ended) -> bool:
        at = self._clock()
        await self.emit_expired(session.namespace, session.session_id, session.header, at)
        try:
            await self._storage.apply(session.removal(self._clock()))
        except SessionError as error:
            if session.header is None and isinstance(error, _GONE):
                return True  # the store had already erased it
            logger.debug("an expired session could not be removed: %s", error)
            return False
        return True

    @property
    def is_sweeping(self) -> bool:
        """Whether the calling code runs inside the background sweep, as its hooks do."""
        return _in_background.get()

    async def _sweep_periodically(self) -> None:
        _in_background.set(True)
        while True:
            await asyncio.sleep(self._settings.cleanup_interval)
            try:
                await self.sweep()
            except Exception:
                logger.exception(
                    "sweeping failed; it is tried again after SESSION_CLEANUP_INTERVAL"
                )
