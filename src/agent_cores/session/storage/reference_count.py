"""``ReferenceCount``: how many managers have a provider open.

Several managers may share a provider. The first ``initialize`` opens it and the last ``shutdown``
closes it; the calls in between are only counted. It is done here for all providers, so that the
author of one need not.
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
    """The references to one provider."""

    def __init__(self) -> None:
        self._count = 0
        self._opened_in: tuple[int, asyncio.AbstractEventLoop] | None = None  # process, event loop
        self._running: asyncio.Task[Any] | None = None  # the provider's own initialize or shutdown
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    @classmethod
    def of(cls, provider: Any) -> ReferenceCount:  # noqa: ANN401 - base.py imports this module
        """Return the count of a provider, whose class need not have called any ``__init__``."""
        references: ReferenceCount | None = getattr(provider, "_references", None)
        if references is None:
            references = provider._references = cls()  # noqa: SLF001 - this module's own attribute
        return references

    @property
    def count(self) -> int:
        """How many references there are."""
        return self._count

    async def acquire(self, provider: object, initialize: Method) -> None:
        """Count one reference more; open the provider for the first."""
        if self._is_call_to_super():
            await initialize(provider)
            return
        async with self._opening():
            if self._is_closed():
                self._count = 0
                self._opened_in = process_id(), asyncio.get_running_loop()
                keep_in_children(provider)
                await self._run(provider, initialize)
            self._count += 1

    async def release(self, provider: object, shutdown: Method) -> None:
        """Count one reference less; close the provider after the last."""
        if self._is_call_to_super():
            await shutdown(provider)
            return
        async with self._opening():
            self._count = max(self._count - 1, 0)
            if self._count == 0:
                await self._run(provider, shutdown)

    async def _run(self, provider: object, method: Method) -> None:
        self._running = asyncio.current_task()
        try:
            await method(provider)
        finally:
            self._running = None

    def _is_call_to_super(self) -> bool:
        """Whether this is ``super().initialize()`` or ``super().shutdown()``."""
        return self._running is not None and self._running is asyncio.current_task()

    def _is_closed(self) -> bool:
        """Whether nobody has it open. References of an event loop that was closed do not count."""
        return self._count == 0 or self._opened_in is None or self._opened_in[1].is_closed()

    def _opening(self) -> asyncio.Lock:
        """Return the lock under which this event loop opens and closes the provider."""
        if self._count and self._opened_in is not None and self._opened_in[0] != process_id():
            detail = "this store was opened in another process; open a new one after a fork"
            raise WrongContextError(detail)
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = loop, asyncio.Lock()
        return self._lock[1]


def counted_initialize(initialize: Method) -> Method:
    """Return an ``initialize`` that runs only for the first reference."""

    @wraps(initialize)
    async def counted(provider: Any) -> None:  # noqa: ANN401 - see ``ReferenceCount.of``
        await ReferenceCount.of(provider).acquire(provider, initialize)

    return counted


def counted_shutdown(shutdown: Method) -> Method:
    """Return a ``shutdown`` that runs only for the last reference."""

    @wraps(shutdown)
    async def counted(provider: Any) -> None:  # noqa: ANN401 - see ``ReferenceCount.of``
        await ReferenceCount.of(provider).release(provider, shutdown)

    return counted
