"""Calls of several tasks on one manager, one at a time, in an order that a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver


class Stepped:
    """A manager whose verbs wait for their turn."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager
        self._turn = asyncio.Event()
        self.waits = asyncio.Event()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        verb = getattr(self._manager, name)

        async def stepped(*args: object, **options: object) -> object:
            self.waits.set()
            await self._turn.wait()
            self._turn.clear()
            return await verb(*args, **options)

        return stepped

    async def step(self, task: asyncio.Task[Any]) -> None:
        """Let one call happen, and return when its task waits for the next or is done."""
        self.waits.clear()
        self._turn.set()
        waits = asyncio.ensure_future(self.waits.wait())
        await asyncio.wait({task, waits}, return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()


def saver_of(manager: SessionManager, stepped: Stepped | None = None) -> SessionSaver:
    """Return a saver of its own, as another process has it."""
    saver = SessionSaver(manager, user_id="ann")
    if stepped is not None:
        saver._owner.verbs = stepped  # type: ignore[assignment]  # noqa: SLF001 - it has the verbs
    return saver


async def interleaved(
    manager: SessionManager,
    order: Sequence[int],
    *uses: Callable[[SessionSaver], Coroutine[Any, Any, Any]],
) -> list[Any]:
    """Run uses of savers of their own, each call in the order given; then one after the other.

    Return what they return or raise.
    """
    stepped = [Stepped(manager) for _ in uses]
    tasks = [
        asyncio.ensure_future(use(saver_of(manager, each)))
        for use, each in zip(uses, stepped, strict=True)
    ]
    for task, each in zip(tasks, stepped, strict=True):
        waits = asyncio.ensure_future(each.waits.wait())
        await asyncio.wait({task, waits}, return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
    for turn in order:
        if not tasks[turn].done():
            await stepped[turn].step(tasks[turn])
    while not all(task.done() for task in tasks):
        for task, each in zip(tasks, stepped, strict=True):
            if not task.done():
                await each.step(task)
    return await asyncio.gather(*tasks, return_exceptions=True)
