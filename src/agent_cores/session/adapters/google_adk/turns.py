"""One append at a time to each session of ADK, within one event loop.

Agents that run in parallel append to the same session object, which knows what is stored only once
the append before has returned. The store detects appends of other processes.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Turns:
    """A lock for each session that is being appended to, for each event loop that does so."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock] = (
            WeakValueDictionary()
        )

    def of(self, session_id: str) -> asyncio.Lock:
        """Return the lock of a session; it is forgotten when nobody holds or awaits it."""
        key = (asyncio.get_running_loop(), session_id)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock
