"""``ReferenceCount``: how many have a provider open. The first opens it, the last closes it.

Counted here, once for all providers: two managers may share one, and neither closes it under the
other.
"""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, Any

from agent_cores.session.errors import WrongContextError
from agent_cores.session.process import keep_in_children, process_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Method = Callable[[Any], Awaitable[None]]


class ReferenceCount:
    """Those who have one provider open."""

    def __init__(self) -> None:
        self._count = 0
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None  # process and event loop
        self._switching: asyncio.Task[Any] | None = None
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    @classmethod
    def of(cls, provider: Any) -> ReferenceCount:  # noqa: ANN401 - a provider, which lies above
        """Return those of a provider, whose class need not have called any ``__init__``."""
        users: ReferenceCount | None = getattr(provider, "_opened_by", None)
        if users is None:
            users = provider._opened_by = cls()  # noqa: SLF001 - this module's own attribute
        return users

    @property
    def count(self) -> int:
        """How many have the provider open."""
        return self._count

    async def arrive(self, provider: object, initialize: Method) -> None:
        """Open the provider, or count one more user."""
        if self._calls_the_base_class():
            await initialize(provider)
            return
        async with self._turn():
            if self._is_closed():
                self._count = 0
                self._home = process_id(), asyncio.get_running_loop()
                keep_in_children(provider)
                await self._switch(provider, initialize)
            self._count += 1

    async def leave(self, provider: object, shutdown: Method) -> None:
        """Count one user less; the last one closes the provider."""
        if self._calls_the_base_class():
            await shutdown(provider)
            return
        async with self._turn():
            self._count = max(self._count - 1, 0)
            if self._count == 0:
                await self._switch(provider, shutdown)

    async def _switch(self, provider: object, method: Method) -> None:
        self._switching = asyncio.current_task()
        try:
            await method(provider)
        finally:
            self._switching = None

    def _calls_the_base_class(self) -> bool:
        """Whether this is ``super().initialize()`` or ``super().shutdown()``."""
        return self._switching is not None and self._switching is asyncio.current_task()

    def _is_closed(self) -> bool:
        """Whether nobody has it open; who left an event loop to be closed has it no more."""
        return self._count == 0 or self._home is None or self._home[1].is_closed()

    def _turn(self) -> asyncio.Lock:
        """Return the lock under which this event loop opens and closes."""
        if self._count and self._home is not None and self._home[0] != process_id():
            detail = "this store was opened in another process; open one of its own after a fork"
            raise WrongContextError(detail)
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = loop, asyncio.Lock()
        return self._lock[1]


def counted_initialize(initialize: Method) -> Method:
    """Return an ``initialize`` that does something for the first user alone."""

    @wraps(initialize)
    async def counted(provider: Any) -> None:  # noqa: ANN401 - see ``ReferenceCount.of``
        await ReferenceCount.of(provider).arrive(provider, initialize)

    return counted


def counted_shutdown(shutdown: Method) -> Method:
    """Return a ``shutdown`` that does something for the last user alone."""

    @wraps(shutdown)
    async def counted(provider: Any) -> None:  # noqa: ANN401 - see ``ReferenceCount.of``
        await ReferenceCount.of(provider).leave(provider, shutdown)

    return counted
