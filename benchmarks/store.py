"""`Store`: what a contender implements, so that every workload is written once.

It holds no timing and no numbers. A store that does not support something leaves the method out;
its entry in `benchmarks.catalogue` says what it lacks, and the table shows that instead of a
number. Standard library only.
"""

from __future__ import annotations

import abc
import asyncio
import os
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

Handle = TypeVar("Handle")

ADDRESS = "BENCHMARK_SERVER"
"""The variable with the URL of the server that was started for a contender."""


class Store(abc.ABC, Generic[Handle]):
    """One contender. `Handle` identifies one session in its calls."""

    packages: ClassVar[tuple[str, ...]] = ()
    """The distributions whose versions are reported with the numbers."""

    @staticmethod
    def new_loop() -> asyncio.AbstractEventLoop:
        """The event loop on which this contender is called."""
        return asyncio.new_event_loop()

    @abc.abstractmethod
    async def open(self, directory: Path) -> None:
        """Open an empty store; its files, if any, are in `directory`."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close everything."""

    @abc.abstractmethod
    async def create(self, user_id: str, count: int) -> list[Handle]:
        """Create `count` empty sessions of one user. Not timed."""

    async def create_session(self, user_id: str) -> None:
        """Create one empty session, and return once the store has acknowledged it."""
        await self.create(user_id, 1)

    @abc.abstractmethod
    async def append(self, session: Handle, text: str) -> None:
        """Append one message of the user, and return once the store has acknowledged it."""

    async def fill(self, session: Handle, count: int, text: str) -> None:
        """Append `count` messages in the fastest way available. Not timed."""
        for _ in range(count):
            await self.append(session, text)

    async def read_last(self, session: Handle, limit: int) -> int:
        """Read the latest `limit` messages in order; return their number."""
        raise NotImplementedError

    async def list_newest(self, user_id: str, limit: int) -> int:
        """List the user's `limit` sessions of newest activity; return their number."""
        raise NotImplementedError

    async def crowd(self, messages: int) -> None:
        """Fill the store with that many messages of others. Not timed; most leave it out."""

    async def bytes_in_use(self) -> int:
        """The memory that the server holds all sessions in."""
        raise NotImplementedError

    async def create_expiring(self, user_id: str, count: int, seconds: float) -> None:
        """Create sessions of one message each that expire in `seconds`. Not timed."""
        raise NotImplementedError

    async def sweep(self) -> int:
        """Remove every expired session; return how many were removed."""
        raise NotImplementedError


def server_address() -> str:
    """The URL of the server that was started for this process."""
    return os.environ[ADDRESS]


def empty_folder(directory: Path, name: str) -> Path:
    """A new folder within `directory`, for another store."""
    folder = directory / name
    folder.mkdir()
    return folder
