"""Helpers that create sessions, append to them by the fast path, and read them back."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.models import Applied, Change, SessionMetadata, StoredMessage, Window
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing.samples import change_of, creation, new_header, new_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

ALL = Window(limit=100_000, after_seq=0)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisProvider]:
    """Open a provider, and close it."""
    provider = RedisProvider.from_url(url)
    await provider.initialize()
    try:
        yield provider
    finally:
        await provider.shutdown()


async def start(
    provider: RedisProvider,
    session_id: str = "talk",
    **fields: Any,  # noqa: ANN401 - fields of a header
) -> SessionMetadata:
    """Create a session and return its header."""
    applied = await provider.apply(creation(new_header(session_id, at=utc_now(), **fields)))
    return applied.header


def append(
    header: SessionMetadata, message_id: str, content: str = "hello", *, at: datetime | None = None
) -> Change:
    """Return the change by which a manager appends a message, on its cached header."""
    at = at or utc_now()
    message = new_message(message_id, content, at=at)
    guards = {"access_revision": header.access_revision, "basis": header}
    return change_of(header, at, append=(message,), **guards)


async def messages(provider: RedisProvider, session_id: str = "talk") -> list[StoredMessage]:
    """Return all messages of a session."""
    snapshot = await provider.read("default", session_id, window=ALL)
    assert snapshot is not None
    assert snapshot.messages is not None
    return snapshot.messages


async def retried(provider: RedisProvider, change: Change) -> Applied:
    """Apply a repeatable change; three attempts are enough to find a server that responds."""
    for _ in range(2):
        with suppress(StorageUnavailableError):
            return await provider.apply(change)
    return await provider.apply(change)


class Writers:
    """Tasks that append endlessly and retry what got no response, as a manager does."""

    def __init__(self, provider: RedisProvider, headers: list[SessionMetadata]) -> None:
        self._provider = provider
        self._headers = headers
        self._stopping = False
        self.acknowledged: dict[str, list[str]] = {header.session_id: [] for header in headers}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write(header)) for header in self._headers]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    @property
    def count(self) -> int:
        """How many appends were acknowledged."""
        return sum(map(len, self.acknowledged.values()))

    async def more(self, number: int = 200, *, of: str | None = None) -> None:
        """Return after that many more acknowledged appends to all sessions, or to ``of``."""
        before = self._count(of)
        while self._count(of) < before + number:
            failed = [task for task in self._tasks if task.done()]
            for task in failed:
                task.result()
            await asyncio.sleep(0.01)

    def _count(self, of: str | None) -> int:
        return self.count if of is None else len(self.acknowledged[of])

    async def _write(self, header: SessionMetadata) -> None:
        number = 0
        while not self._stopping:
            number += 1
            change = append(header, f"m{number}")
            while True:
                try:
                    header = (await self._provider.apply(change)).header
                    break
                except StorageUnavailableError:
                    await asyncio.sleep(0.01)
            self.acknowledged[header.session_id].append(f"m{number}")

    def so_far(self) -> set[tuple[str, str]]:
        """Return the appends acknowledged so far, as session and message ids."""
        return {(talk, name) for talk, names in self.acknowledged.items() for name in names}

    async def assert_stored(self, promised: set[tuple[str, str]] | None = None) -> None:
        """Check that what was acknowledged is stored; by default all of it must be."""
        promised = self.so_far() if promised is None else promised
        for session_id, acknowledged in self.acknowledged.items():
            stored = await messages(self._provider, session_id)
            names = [message.id for message in stored]
            assert [message.seq for message in stored] == list(range(1, len(stored) + 1))
            assert len(set(names)) == len(names)
            assert names == [name for name in acknowledged if name in set(names)]
            assert {name for talk, name in promised if talk == session_id} <= set(names)
