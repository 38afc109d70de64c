"""``ServerClock``: what the server's clock shows now, without asking it again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent_cores.session.storage.postgres import queries as sql

if TYPE_CHECKING:
    from agent_cores.session.storage.postgres.connection import Database


class ServerClock:
    """An estimate of the server's clock, in milliseconds since 1970.

    It counts on by a clock that nobody sets, and is ahead of the server's by no more than the time
    that its measurement took: so the server finds that a write waited no longer than it did.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ahead: int | None = None

    async def measure(self) -> int:
        """Read the server's clock; return what it shows."""
        before = _steady()
        shown = int((await self._database.fetch(sql.STORE_TIME))[0]["now"])
        self._ahead = shown - before
        return shown

    def now(self) -> int | None:
        """Return the estimate; ``None`` if the clock was never read."""
        return None if self._ahead is None else _steady() + self._ahead


def _steady() -> int:
    return time.monotonic_ns() // 1_000_000
