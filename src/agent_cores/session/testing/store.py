"""``Store``: describes the store under test to a suite. A subclass supplies only this.

A store is empty when a case receives it, and nobody else uses it during the case.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from agent_cores.session.models.session import DEFAULT_NAMESPACE
from agent_cores.session.session_manager import SessionManager
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage.reference_count import ReferenceCount
from agent_cores.session.testing.wrapping import WrappingProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent_cores.session.access.groups import GroupsOf
    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.clock import ManualClock

    Spoil = Callable[[str, str], Awaitable[None]]


def suite_settings(**settings: Any) -> SessionSettings:  # noqa: ANN401 - fields of SessionSettings
    """Return the settings of the suites: no background sweeper, no comparison of clocks."""
    return SessionSettings(
        **{"cleanup_interval": 0, "max_clock_skew": math.inf, **settings},
    )


class Store:
    """One store under test, empty at first.

    ``make`` returns a provider of this store, not yet initialized. ``url`` is the URL by which
    another process opens the same store through ``StorageFactory``; it is ``None`` if, and only if,
    the provider declares ``capabilities.shared`` false. ``spoil(namespace, session_id)`` corrupts
    the stored header of a session, for stores that can detect that; without it, the cases wrap the
    provider to simulate that.
    """

    def __init__(
        self,
        make: Callable[[], StorageProvider],
        *,
        url: str | None = None,
        spoil: Spoil | None = None,
    ) -> None:
        self.url = url
        self.spoil = spoil
        self._make = make
        self._providers: list[StorageProvider] = []
        self._managers: list[SessionManager] = []

    def new_provider(self) -> StorageProvider:
        """Return a provider that is not yet initialized; the caller must close it."""
        return self._make()

    async def open(self) -> StorageProvider:
        """Return an initialized provider: a new one each time, or the same one if not shared.

        After a provider that is not shared was closed, this returns a new one if the store is
        durable, and otherwise reopens the closed one.
        """
        provider = self._make() if self.url is not None or not self._providers else self._alone()
        if provider in self._providers:
            return provider
        self._providers.append(provider)
        await provider.initialize()
        return provider

    def _alone(self) -> StorageProvider:
        """Return the one provider of a store that is not shared, or its successor."""
        [provider] = self._providers
        if ReferenceCount.of(provider).count == 0:
            self._providers.clear()
            if provider.capabilities.durable:
                return self._make()
        return provider

    async def open_manager(
        self,
        clock: ManualClock,
        *,
        provider: StorageProvider | None = None,
        settings: SessionSettings | None = None,
        groups_of: GroupsOf | None = None,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> SessionManager:
        """Return a new initialized manager of this store.

        ``provider`` wraps an opened provider of this store. Without it the manager opens and closes
        its own, or uses the existing one if the store is not shared.
        """
        if provider is None:
            shared = self.url is not None
            provider = self._make() if shared else WrappingProvider(await self.open())
        manager = SessionManager(
            provider,
            settings=settings or suite_settings(),
            clock=clock,
            groups_of=groups_of,
            namespace=namespace,
        )
        self._managers.append(manager)
        await manager.initialize()
        return manager

    async def close(self) -> None:
        """Close everything that was opened. The suites call it after each case."""
        for manager in reversed(self._managers):
            await manager.shutdown()
        for provider in reversed(self._providers):
            await provider.shutdown()
        self._managers.clear()
        self._providers.clear()
