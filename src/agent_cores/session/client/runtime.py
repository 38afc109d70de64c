"""``ClientRuntime``: what a client and its views share, with its start and end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent_cores.session.client.reading import read
from agent_cores.session.client.retries import KnownVersions
from agent_cores.session.wire.shapes import Me

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from agent_cores.session.client.transport import Transport


class ClientRuntime:
    """One credential at one service, and how many users it has."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.me: Me | None = None
        self.versions: KnownVersions = KnownVersions()
        self._asking: asyncio.Task[Me] | None = None
        self._users = 0
        self._finishing: set[asyncio.Task[None]] = set()

    async def known(self) -> Me:
        """Return who the credential identifies; the service is asked once."""
        return self.me or await self._asked()

    async def acquire(self) -> None:
        """Check the credential with the service, and count one more user."""
        self._users += 1
        try:
            await self._asked()
        except BaseException:
            self._users -= 1
            if not self._users:
                await self.transport.close()
            raise

    async def release(self) -> None:
        """Count one user less; the last one finishes the requests in flight and closes."""
        self._users = max(self._users - 1, 0)
        if self._users:
            return
        others = self._finishing - {asyncio.current_task()}
        try:
            if others:
                await asyncio.wait(others)
            await self.transport.finish()
        finally:
            if not self._users:  # unless others started using it during the wait
                await self.transport.close()

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Complete what must not stop half way, even if the caller is cancelled."""
        task = asyncio.get_running_loop().create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        await asyncio.shield(task)

    async def _asked(self) -> Me:
        """Ask the service who the credential identifies. Concurrent callers share one request."""
        task = self._asking
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._asking = asyncio.create_task(self._ask())
            task.add_done_callback(_noted)
        await asyncio.wait([task])
        return task.result()

    async def _ask(self) -> Me:
        try:
            reply = await self.transport.send("GET", "/v1/me", repeatable=True)
            self.me = read(reply, Me)
            return self.me
        finally:
            if self._asking is asyncio.current_task():
                self._asking = None


def _noted(task: asyncio.Task[Me]) -> None:
    """Consume the failure of a request whose callers have all given up."""
    if not task.cancelled():
        task.exception()
