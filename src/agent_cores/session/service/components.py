"""``Components``: the parts of a started service: keys, authentication, limits, manager."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agent_cores.session.errors import SessionError
from agent_cores.session.service.auth.api_keys import HeldKeys, Keys, StoredKeys
from agent_cores.session.service.auth.authentication import Authentication
from agent_cores.session.service.auth.key_cache import KeyCache
from agent_cores.session.service.auth.key_file import KeyFile
from agent_cores.session.service.auth.rate_limits import CallerLimits, FailedLogins, InFlight
from agent_cores.session.service.readiness import Readiness, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_cores.session.lifecycle.store_clock import StoreClock
    from agent_cores.session.manager import SessionManager
    from agent_cores.session.service.auth.api_keys import ApiKey
    from agent_cores.session.service.auth.jwt_issuers import Issuers
    from agent_cores.session.service.settings import ServiceSettings
    from agent_cores.session.wire.health import NotReady


class Components:
    """Started by the lifespan or the first request, whichever comes first; closed once."""

    def __init__(
        self,
        manager: SessionManager,
        settings: ServiceSettings,
        keys: tuple[ApiKey, ...],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        runtime = manager.runtime
        self.clock: StoreClock = runtime.clock
        self.in_flight: InFlight = InFlight(settings.max_in_flight)
        self.callers: CallerLimits = CallerLimits(
            settings.max_in_flight_per_caller, settings.requests_per_second, now
        )
        self._key_stores = key_stores(manager, settings, keys)
        self.keys: KeyCache = KeyCache(self._key_stores, now)
        self.authentication: Authentication = Authentication(
            self.keys,
            _issuers(settings, self.clock),
            runtime.inputs,
            clock=self.clock,
            failures=FailedLogins(settings.failed_logins_per_minute, now),
            jwt_roles=settings.jwt_roles,
        )
        self._manager = manager
        self._timeout = settings.shutdown_timeout
        self.is_started: bool = False
        self._starting = asyncio.Lock()
        self._readiness = Readiness(lambda: runtime.storage)

    async def start(self) -> Components:
        """Start the manager unless it is started; concurrent callers share one start.

        Raises ``ConfigurationError`` if the key file is wrong.
        """
        if not self.is_started:
            async with self._starting:
                if not self.is_started:
                    for place in self._key_stores:
                        if isinstance(place, KeyFile):
                            await place.all()
                    await self._manager.initialize()
                    self.is_started = True
        return self

    async def close(self) -> None:
        """Let the requests in flight finish, for a bounded time, and stop the manager."""
        if not self.is_started:
            return
        self.is_started = False
        deadline = time.monotonic() + self._timeout
        while self.callers.count and time.monotonic() < deadline:  # noqa: ASYNC110 - once, on close
            await asyncio.sleep(0.01)
        await self.keys.finish()
        await self._readiness.close()
        await self._manager.shutdown()

    async def why_not_ready(self) -> NotReady | None:
        """Return why the store cannot be read and written; ``None`` if it can."""
        if not self.is_started:
            try:
                await self.start()
            except (SessionError, OSError) as error:
                return reason_of(error)
        return await self._readiness.ask()


def _issuers(settings: ServiceSettings, clock: StoreClock) -> Issuers | None:
    """Return what checks tokens, if the settings name issuers."""
    if not settings.jwt_issuers:
        return None
    from agent_cores.session.service.auth.jwt_issuers import (  # noqa: PLC0415 - loads cryptography
        Issuers,
    )

    return Issuers(settings.jwt_issuers, clock)


def key_stores(
    manager: SessionManager, settings: ServiceSettings, keys: tuple[ApiKey, ...] = ()
) -> tuple[Keys, ...]:
    """Return where keys are looked up: those of this process, then the file or the store."""
    if settings.keys_file is not None:
        kept: Keys = KeyFile(settings.keys_file)
    else:
        runtime = manager.runtime
        kept = StoredKeys(runtime.storage, runtime.clock)
    return (HeldKeys(keys), kept) if keys else (kept,)
