"""``ServerClock``: the time of the server's clock, without asking it again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent_cores.session.storage.sql.dialect import Statement, Step

if TYPE_CHECKING:
    from agent_cores.session.storage.sql.database import Database


class ServerClock:
    """An estimate of the server's clock, in milliseconds since 1970.

    A monotonic clock counts on from the last measurement. The estimate is never behind the server's
    clock, and ahead of it by at most one round trip: so the server never overestimates how long a
    write has waited.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ahead: int | None = None

    async def measure(self) -> int:
        """Read the server's clock; return what it shows."""
        before = _monotonic_millis()
        [(now,)] = await self._database.run(Step(Statement.STORE_TIME))
        self._ahead = int(now) - before
        return int(now)

    def now(self) -> int | None:
        """Return the estimate; ``None`` if the clock was never read."""
        return None if self._ahead is None else _monotonic_millis() + self._ahead


def _monotonic_millis() -> int:
    return time.monotonic_ns() // 1_000_000
