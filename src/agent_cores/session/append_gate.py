"""``AppendGate``: holds back a manager's own appends while a change of a session's end is retried.

A replacement or a pop succeeds only if nobody appends between its read and its write. Without the
gate, a task that appends without a pause would starve it. Appends of other processes do not wait.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_WAIT = 0.25
"""Seconds that an append waits at most; then it is sent."""

Key = tuple[str, str]
"""Namespace and session id."""


class AppendGate:
    """The sessions whose appends wait. Usually there are none, so a check costs next to nothing."""

    def __init__(self) -> None:
        self._closed: dict[Key, _Closed] = {}

    @contextmanager
    def closed_for(self, key: Key) -> Iterator[None]:
        """Let appends to a session wait until the block ends; several blocks may overlap."""
        closed = self._closed.setdefault(key, _Closed())
        closed.holders += 1
        try:
            yield
        finally:
            closed.holders -= 1
            if not closed.holders:
                del self._closed[key]
                closed.opened.set()

    def is_closed_for(self, key: Key) -> bool:
        """Whether appends to a session wait."""
        return key in self._closed

    async def wait(self, key: Key, until: float) -> None:
        """Return once appends may go on: by ``until``, as ``time.monotonic()`` counts, at last."""
        closed = self._closed.get(key)
        if closed is None:
            return
        left = min(until - time.monotonic(), LONGEST_WAIT)
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await closed.opened.wait()


class _Closed:
    def __init__(self) -> None:
        self.holders = 0
        self.opened = asyncio.Event()
