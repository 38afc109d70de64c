"""Purging: removing, in the background, messages and context of deleted sessions."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import TYPE_CHECKING

from agent_cores.session.errors import SessionError
from agent_cores.session.storage.sql.dialect import Statement, Step, carry_out

if TYPE_CHECKING:
    from agent_cores.session.storage.sql.database import Database
    from agent_cores.session.storage.sql.dialect import Plan

logger: logging.Logger = logging.getLogger("agent_cores.session")

_SESSIONS = 100
_ROWS = 5_000
"""The most sessions, and the most rows of them all, that one transaction removes."""


def purge_plan(rows: int = _ROWS) -> Plan[bool]:
    """Remove at most so many rows of deleted sessions; return whether there were any sessions."""
    keys = [tuple(row) for row in (yield Step(Statement.NEXT_DELETED, [(_SESSIONS,)]))]
    if not keys:
        return False
    left = rows
    for statement in (Statement.PURGE_MESSAGES, Statement.PURGE_CONTEXT):
        [(removed,)] = yield Step(statement, [(key, left) for (key,) in keys])
        left -= removed
        if left <= 0:
            return True
    yield Step(Statement.FORGET_DELETED, keys)
    return True


class Purger:
    """Works off the queue of deleted sessions, in short transactions, one task at a time.

    Any number of processes may purge: each takes what no other has locked, and any of them takes
    what another left behind.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._closed = False

    def wake(self) -> None:
        """Start purging everything that is queued now, in no caller's context."""
        self._again = True
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())

    def reopen(self) -> None:
        """Purge again after ``stop``."""
        self._closed = False

    async def stop(self, deadline: float) -> None:
        """Finish the current transaction and start no other; cancel it at the deadline."""
        self._closed = True
        if self._task is not None:
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            _, late = await asyncio.wait([self._task], timeout=left)
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
        if not await self._database.run(Step(Statement.ANY_DELETED)):
            return False
        async with self._database.transaction() as connection:
            return await carry_out(purge_plan(), connection.run)
