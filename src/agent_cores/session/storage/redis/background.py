"""``Background``: index work that no caller waits for. Readers repair what it leaves undone."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from agent_cores.session.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Coroutine

_MOST = 1_000
"""The most tasks while indexes are slow: if a cluster node is down, more would pile up."""
_SHORTLY = 0.1
"""Seconds that a caller waits for an index, so that it shows what was just written."""

_log = logging.getLogger(__name__)


class Background:
    """Runs index work in tasks, and logs what fails."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[bool]] = set()
        self._is_slow = False

    def start_unless_slow(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[bool] | None:
        """Start a task; ``None`` if indexes are slow and too many tasks already wait for them."""
        if self._is_slow and len(self._tasks) >= _MOST:
            work.close()
            _log.debug("an index update was dropped: too many are waiting")
            return None
        return self.start(work)

    def start(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[bool]:
        """Start a task."""
        task = asyncio.create_task(_succeeds(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def shortly(self, task: asyncio.Task[bool] | None) -> None:
        """Wait for a task, for a tenth of a second at most.

        After a slower task, callers wait only a millisecond each, until a task is quick again.
        """
        if task is not None and not task.done():
            await asyncio.wait([task], timeout=0.001 if self._is_slow else _SHORTLY)
            self._is_slow = not task.done()

    async def succeeds(self, task: asyncio.Task[bool], within: float) -> bool:
        """Wait for a task, at most ``within`` seconds; return whether it has succeeded by then."""
        await asyncio.wait([task], timeout=within)
        return task.done() and not task.cancelled() and task.result()

    async def finish(self) -> None:
        """Return once all tasks are done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        """Cancel the tasks that are left."""
        for task in self._tasks:
            task.cancel()


async def _succeeds(work: Coroutine[Any, Any, object]) -> bool:
    """Return whether the work succeeded. If not, the write holds, and readers repair indexes."""
    try:
        await work
    except SessionError as error:
        _log.warning("an index of sessions could not be updated; reads will repair it: %s", error)
        return False
    return True
