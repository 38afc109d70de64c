"""``Purger``: removes, in the background, messages and context of sessions that are gone."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent_cores.session.errors import SessionError
from agent_cores.session.storage.postgres import queries as sql
from agent_cores.session.storage.postgres.connection import seconds_until

if TYPE_CHECKING:
    from agent_cores.session.storage.postgres.connection import Database

logger = logging.getLogger(__name__)

_SESSIONS = 100
_MESSAGES = 5_000
"""How many sessions and messages one transaction removes."""


class Purger:
    """Works the queue of deleted sessions off, in short transactions, one task at a time.

    Any number of processes may: each takes what no other has locked. What one leaves behind, the
    next one takes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._closed = False

    def wake(self) -> None:
        """See to it that what is queued now will be removed."""
        self._again = True
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def reopen(self) -> None:
        """Work again, after ``stop``."""
        self._closed = False

    async def stop(self, deadline: float) -> None:
        """Finish the transaction under way and no other; give it up at the deadline."""
        self._closed = True
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=seconds_until(deadline))
            for task in late:
                task.cancel()

    async def _run(self) -> None:
        try:
            while self._again and not self._closed:
                self._again = False
                while not self._closed and await self._purge():
                    pass
        except SessionError as error:
            logger.warning("deleted sessions wait to be purged: %s", error)
        finally:
            self._task = None

    async def _purge(self) -> bool:
        """Remove one batch; return whether there was any."""
        if not await self._database.fetch(sql.ANY_DELETED):
            return False
        async with self._database.transaction() as transaction:
            rows = await transaction.fetch(sql.NEXT_DELETED, _SESSIONS)
            keys = [row["session_key"] for row in rows]
            if not keys:
                return False
            done = await transaction.execute(sql.PURGE_MESSAGES, keys, _MESSAGES)
            if int(done.removeprefix("DELETE ")) < _MESSAGES:
                await transaction.execute(sql.PURGE_CONTEXT, keys)
                await transaction.execute(sql.FORGET_DELETED, keys)
        return True
