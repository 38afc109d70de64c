"""``Background``: work on the lists that holds nobody up. Readers repair what it leaves undone."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from agent_cores.session.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Coroutine

_MOST = 1_000
"""So many tasks at a time; where a node of a cluster is gone, more would only pile up."""
_SHORTLY = 0.1
"""Seconds that a caller waits for a list, so that it shows what was just written."""

_log = logging.getLogger(__name__)


class Background:
    """Runs work in tasks of its own; what fails is logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[bool]] = set()
        self._is_slow = False

    def start_unless_slow(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[bool] | None:
        """Begin; ``None`` if lists are slow, and too much waits for them already."""
        if self._is_slow and len(self._tasks) >= _MOST:
            work.close()
            _log.debug("a list lags behind: too many wait for it")
            return None
        return self.start(work)

    def start(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[bool]:
        """Begin."""
        task = asyncio.create_task(tried(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def shortly(self, task: asyncio.Task[bool] | None) -> None:
        """Wait a moment for the work.

        Once some work was slower than that, nobody waits until some is quick again.
        """
        if task is not None and not task.done():
            await asyncio.wait([task], timeout=0.001 if self._is_slow else _SHORTLY)
            self._is_slow = not task.done()

    async def succeeds(self, task: asyncio.Task[bool], within: float) -> bool:
        """Wait for the work so many seconds; return whether it was done by then."""
        await asyncio.wait([task], timeout=within)
        return task.done() and not task.cancelled() and task.result()

    async def finish(self) -> None:
        """Return once all that was begun is done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        """Leave the rest undone."""
        for task in self._tasks:
            task.cancel()


async def tried(work: Coroutine[Any, Any, object]) -> bool:
    """Do what may fail without harm: the write itself is done, and readers repair the lists."""
    try:
        await work
    except SessionError as error:
        _log.warning("a list of sessions lags behind: %s", error)
        return False
    return True
