"""Writers that are stopped, or die, between the steps of a change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from agent_cores.session.errors import SessionError, StorageUnavailableError
from agent_cores.session.models import Change
from agent_cores.session.models.change import Applied
from agent_cores.session.storage.redis.changes import Changes
from agent_cores.session.storage.redis.creates import Creates, New
from agent_cores.session.storage.redis.indexes import Indexes, IndexUpdate
from agent_cores.session.storage.redis.provider import RedisProvider


def before_writes(
    patch: pytest.MonkeyPatch,
    act: Callable[[], Awaitable[object]],
    *,
    of: RedisProvider | None = None,
) -> None:
    """Run ``act`` after the index entries of a change and before its write.

    It does so for the changes and creates ``of`` one provider, or of all.
    """
    write, create = Changes.write, Creates._write  # noqa: SLF001 - the two places that write

    async def changes(self: Changes, change: Change, applied: Applied) -> Applied | None:
        if of is None or self is of._changes:  # noqa: SLF001 - whose it is
            await act()
        return await write(self, change, applied)

    async def creates(self: Creates, batch: Sequence[New]) -> Any:  # noqa: ANN401 - passed on
        if of is None or self is of._creates:  # noqa: SLF001 - whose it is
            await act()
        return await create(self, batch)

    patch.setattr(Changes, "write", changes)
    patch.setattr(Creates, "_write", creates)


async def die() -> None:
    """Act as if the process had died before the write."""
    detail = "down"
    raise StorageUnavailableError(detail)


def die_after_writes(patch: pytest.MonkeyPatch) -> None:
    """Have processes die after the write, so that they remove no stale index entry."""

    async def dies(_: Indexes, update: IndexUpdate) -> None:
        pass

    patch.setattr(Indexes, "_remove_stale", dies)


def lose_writes(patch: pytest.MonkeyPatch) -> None:
    """Make every change find that another process has written first."""

    async def loses(_: Changes, change: Change, applied: Applied) -> None:
        pass

    patch.setattr(Changes, "write", loses)


class Late:
    """Delays one provider's index updates after its write, until it may continue."""

    def __init__(self, patch: pytest.MonkeyPatch, provider: RedisProvider, *names: str) -> None:
        self._go = asyncio.Event()
        self.reached = asyncio.Event()
        for name in names:
            patch.setattr(Indexes, name, self._delayed(getattr(Indexes, name), provider))

    def _delayed(self, method: Any, provider: RedisProvider) -> Any:  # noqa: ANN401 - any method
        async def late(indexes: Indexes, *arguments: Any) -> Any:  # noqa: ANN401 - as above
            if indexes is provider._indexes:  # noqa: SLF001 - whose it is
                self.reached.set()
                await self._go.wait()
            return await method(indexes, *arguments)

        return late

    @asynccontextmanager
    async def doing(self, provider: RedisProvider, change: Change) -> AsyncIterator[None]:
        """Let the change be written, run the block, then let the rest of the change happen."""
        task = asyncio.create_task(provider.apply(change))
        await self.reached.wait()
        yield
        self._go.set()
        with suppress(SessionError):
            await task
