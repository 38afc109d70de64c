"""``Database``: the interface of a database server for the core, and what all servers share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

from agent_cores.session.deadline import time_left
from agent_cores.session.errors import CorruptRecordError, StorageUnavailableError
from agent_cores.session.storage.sql.creates import create_plan
from agent_cores.session.storage.sql.deadlocks import Deadlocks
from agent_cores.session.storage.sql.dialect import carry_out
from agent_cores.session.storage.sql.errors import (
    ClashError,
    ConnectionLostError,
    DeadlockError,
)
from agent_cores.session.storage.sql.hot_plan import hot_plan
from agent_cores.session.storage.sql.reading import read_several_plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from agent_cores.session.errors import SessionError
    from agent_cores.session.models import Snapshot, Window
    from agent_cores.session.storage.pool_use import PoolUse
    from agent_cores.session.storage.sql.creates import PlannedCreate
    from agent_cores.session.storage.sql.dialect import Row, Rows, Step
    from agent_cores.session.storage.sql.hot import HotAppends
    from agent_cores.session.storage.sql.names import Names
    from agent_cores.session.storage.sql.reading import ReadSession
    from agent_cores.session.storage.sql.rows import SessionName
    from agent_cores.session.storage.sql.tail import TailDatabase

Result = TypeVar("Result")


class Connection(Protocol):
    """A connection inside a transaction, bounded by the deadline of that transaction."""

    async def run(self, step: Step) -> Rows:
        """Execute one step."""

    async def script(self, text: str) -> None:
        """Run a schema file: several statements, with the table names filled in."""


class Database(ABC):
    """A database server, reached by a pool of connections.

    ``timeout`` in seconds bounds an operation, from the wait for a connection to its end. A
    deadline is a time of the event loop's clock. ``has_hot_append``: whether ``append_hot`` is
    supported.
    """

    has_hot_append = False
    timeout: float

    @property
    def tails(self) -> TailDatabase | None:
        """What changes a session's end in one statement, if the database can."""
        return None

    @property
    @abstractmethod
    def pool_size(self) -> int:
        """The maximum number of connections; at least 2."""

    @abstractmethod
    def pool_use(self) -> PoolUse:
        """Return how many connections are in use, and how many callers wait for one."""

    @abstractmethod
    def use(self, names: Names) -> None:
        """Use tables of these names from now on, see ``Names.fill``."""

    @abstractmethod
    async def open(self) -> None:
        """Connect; raise for a server that cannot be used. Return at once if it is open."""

    @abstractmethod
    async def close(self, deadline: float | None = None) -> None:
        """Close what this opened; at the deadline, abort connections that are still in use."""

    @abstractmethod
    def transaction(
        self,
        *,
        deadline: float | None = None,
        lock_wait: float | None = None,
        one_instant: bool = False,
    ) -> AbstractAsyncContextManager[Connection]:
        """Run a block in one transaction, committed at its end, rolled back if it raises.

        ``lock_wait`` in seconds is how long a statement waits for a lock; ``LockedError`` after
        that. ``one_instant``: all statements see one snapshot, and none writes. After an error in
        the block nothing was written; after an error of the commit, the outcome is unknown.
        """

    @abstractmethod
    def schema_lock(self, deadline: float) -> AbstractAsyncContextManager[Connection]:
        """Run a block that creates tables while no other process does, committed at its end."""

    async def prepare_schema(self, connection: Connection) -> None:  # noqa: B027 - most have none
        """Create the database schema if it is missing, where a database has schemas."""

    async def run(self, step: Step, *, deadline: float | None = None) -> list[Row]:
        """Execute one step by itself. A dialect that can do so in one round trip overrides this."""
        async with self.transaction(deadline=deadline) as connection:
            return list(await connection.run(step))

    async def read(
        self, namespace: str, session_id: str, *, context: bool, window: Window | None
    ) -> Snapshot | None:
        """Read one session at one instant."""
        names = [(namespace, session_id)]
        [found] = await self.read_several(names, context=context, window=window)
        if isinstance(found, CorruptRecordError):
            raise found
        return found

    async def read_several(
        self, names: Sequence[SessionName], *, context: bool, window: Window | None
    ) -> list[ReadSession]:
        """Read sessions at one instant. A dialect with one statement for it overrides this."""
        deadline = self.deadline()

        async def attempt() -> list[ReadSession]:
            plan = read_several_plan(names, context=context, window=window)
            async with self.transaction(deadline=deadline, one_instant=True) as connection:
                return await carry_out(plan, connection.run)

        return await self.repeatable(attempt)

    async def append_hot(
        self,
        appends: HotAppends,
        *,
        lock_wait: float,
        skip_locked: bool,
        sent_at: int | None,  # noqa: ARG002 - for a database that judges the appends itself
        deadline: float,
    ) -> list[Row]:
        """Apply plain appends in one transaction, see ``hot.py``.

        A dialect that can do so in one statement overrides this. Called only if ``has_hot_append``
        is set.
        """
        async with self.transaction(deadline=deadline, lock_wait=lock_wait) as connection:
            return await carry_out(hot_plan(appends, skip_locked=skip_locked), connection.run)

    async def create_sessions(
        self, sessions: Sequence[PlannedCreate], *, lock_wait: float, deadline: float
    ) -> set[SessionName]:
        """Insert new sessions in the order given; return the names of those that did not exist.

        A dialect that can do so in one statement overrides this.
        """
        async with self.transaction(deadline=deadline, lock_wait=lock_wait) as connection:
            return await carry_out(create_plan(sessions), connection.run)

    @cached_property
    def deadlocks(self) -> Deadlocks:
        """The deadlocks of this database's transactions."""
        return Deadlocks()

    def counted(self, error: SessionError) -> SessionError:
        """Return the error of a transaction that failed; count it if it is a deadlock.

        A dialect calls this for each error of a statement that it has translated.
        """
        if isinstance(error, DeadlockError):
            self.deadlocks.add()
        return error

    def deadline(self) -> float:
        """Return the deadline of an operation that begins now, at most that of its caller."""
        return asyncio.get_running_loop().time() + time_left(self.timeout)

    async def repeatable(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Run an operation that may run twice; retry once after a lost connection or a clash.

        A standby cancels reads that conflict with its replay. A reader has no conflict to resolve,
        so if it happens again, the store is unavailable.
        """
        with suppress(ConnectionLostError, ClashError):
            return await work()
        try:
            return await work()
        except ClashError as error:
            raise StorageUnavailableError(str(error)) from error
