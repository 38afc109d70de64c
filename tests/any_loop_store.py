"""``AnyLoopStore``: a store whose managers run in their own loops, called from the case's loop."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from agent_cores.session import SessionManager
from agent_cores.session.models.session import DEFAULT_NAMESPACE
from agent_cores.session.testing import Store, suite_settings
from agent_cores.session.testing.wrapping import WrappingProvider

if TYPE_CHECKING:
    from agent_cores.session import SessionSettings, StorageProvider
    from agent_cores.session.access.groups import GroupsOf
    from agent_cores.session.testing import ManualClock

USED_BY_THE_MANAGER = (
    "initialize",
    "shutdown",
    "store_time",
    "read",
    "read_several",
    "apply",
    "find",
    "due",
    "repair_lists",
    "count",
    "count_archived",
)


class OpenedElsewhere(WrappingProvider):
    """A provider that was opened in the running loop, for a manager that runs in another."""

    def __init__(self, inner: StorageProvider) -> None:
        super().__init__(inner)
        home = asyncio.get_running_loop()
        for name in USED_BY_THE_MANAGER:
            setattr(self, name, partial(self._at_home, home, getattr(inner, name)))

    async def _at_home(
        self,
        home: asyncio.AbstractEventLoop,
        method: Any,  # noqa: ANN401 - any of the provider's
        *args: object,
        **kwargs: object,
    ) -> Any:  # noqa: ANN401 - what the method returns
        future = asyncio.run_coroutine_threadsafe(method(*args, **kwargs), home)
        return await asyncio.wrap_future(future)


class AnyLoopStore(Store):
    """Opens managers with ``any_loop=True``: each call of a case comes from another loop."""

    async def open_manager(
        self,
        clock: ManualClock,
        *,
        provider: StorageProvider | None = None,
        settings: SessionSettings | None = None,
        groups_of: GroupsOf | None = None,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> SessionManager:
        if provider is None and self.url is not None:
            opened = self._make()
        else:
            opened = OpenedElsewhere(provider or await self.open())
        manager = SessionManager(
            opened,
            settings=settings or suite_settings(),
            clock=clock,
            groups_of=groups_of,
            namespace=namespace,
            any_loop=True,
        )
        self._managers.append(manager)
        await manager.initialize()
        return manager
