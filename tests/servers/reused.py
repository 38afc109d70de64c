"""Stores that one case after another uses: making tables costs more than most cases do."""

from __future__ import annotations

import asyncio
import atexit
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KEPT = 12
"""Stores a server: a case gets one that the cases before it, whose ends may be late, do not use."""
_SECONDS = 5


class ReusedStores:
    """The stores of one server, the one that was used longest ago first.

    ``new()`` returns the name of a new store, without tables; ``connect()`` a connection on which
    ``empty(connection, name)`` deletes the rows of another, and of no table that tells versions;
    ``disconnect()`` closes that connection.
    """

    def __init__(
        self,
        new: Callable[[], str],
        connect: Callable[[], Awaitable[Any]],
        empty: Callable[[Any, str], Awaitable[object]],
        disconnect: Callable[[Any], Awaitable[object]],
    ) -> None:
        self._new = new
        self._connect = connect
        self._empty = empty
        self._disconnect = disconnect
        self._names: deque[str] = deque()
        self._connection: Any = None
        self._loop = asyncio.new_event_loop()
        atexit.register(self._close)

    def take(self) -> str:
        """Return the name of an empty store."""
        with ThreadPoolExecutor(1) as pool:  # an event loop may run in this thread
            return pool.submit(self._taken).result()

    def _taken(self) -> str:
        name = self._new() if len(self._names) < KEPT else self._emptied(self._names.popleft())
        self._names.append(name)
        return name

    def _emptied(self, name: str) -> str:
        """Empty a store and return its name, or that of a new one if a failed case locks it."""
        with suppress(TimeoutError):
            self._loop.run_until_complete(asyncio.wait_for(self._delete_rows(name), _SECONDS))
            return name
        self._connection = None
        return self._new()

    def _close(self) -> None:
        if self._connection is not None:
            self._loop.run_until_complete(self._disconnect(self._connection))
        self._loop.close()

    async def _delete_rows(self, name: str) -> None:
        if self._connection is None:
            self._connection = await self._connect()
        await self._empty(self._connection, name)
