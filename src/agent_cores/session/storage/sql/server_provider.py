"""``SqlProvider``: the five methods of a native store, on a database server of any dialect."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from agent_cores.session.errors import QuotaExceededError, StorageUnavailableError
from agent_cores.session.models.times import from_millis
from agent_cores.session.storage.base import Capabilities, Counts
from agent_cores.session.storage.findings import Finding
from agent_cores.session.storage.headers import HeaderReader
from agent_cores.session.storage.identity import StoreIdentity, new_identity
from agent_cores.session.storage.native import NativeProvider
from agent_cores.session.storage.sql.clock import ServerClock
from agent_cores.session.storage.sql.dialect import Statement, Step, carry_out
from agent_cores.session.storage.sql.errors import ClashError
from agent_cores.session.storage.sql.options import server_options_from
from agent_cores.session.storage.sql.purge import Purger
from agent_cores.session.storage.sql.reading import (
    archived_plan,
    count_plan,
    due_plan,
    find_plan,
    namespaces_plan,
)
from agent_cores.session.storage.sql.schema import apply_schema, check_schema, newest_version
from agent_cores.session.storage.sql.writing import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent_cores.session.models import Applied, Change, Ended, Found, Query, Snapshot, Window
    from agent_cores.session.settings import SessionSettings
    from agent_cores.session.storage.pool_use import PoolUse
    from agent_cores.session.storage.sql.database import Database
    from agent_cores.session.storage.sql.names import Names
    from agent_cores.session.storage.sql.options import ServerOptions
    from agent_cores.session.storage.sql.reading import ReadSession
    from agent_cores.session.storage.sql.rows import SessionName


FULL_SECONDS = 10.0
"""How long the server counts as full after it has refused a write for lack of room."""


class SqlProvider(NativeProvider):
    """Sessions in a database server. A dialect supplies its ``Database`` and its table names.

    ``names`` are those that an existing store may have; a new store gets the first.
    ``fast_path=False`` turns the hot append off.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(shared=True, durable=True, flat=True)
    dialect: ClassVar[str]
    """The folder of the dialect, whose ``schema/`` creates the tables."""

    def __init__(
        self,
        database: Database,
        names: Sequence[Names],
        options: ServerOptions,
        *,
        fast_path: bool = True,
    ) -> None:
        self.database = database
        self._names = names
        self._check_only = options.schema == "check"
        self._headers = HeaderReader()
        self._purger = Purger(database)
        self._clock = ServerClock(database)
        self._identity = StoreIdentity()
        self._full_at = -math.inf
        self._writer = Writer(
            database,
            clock=self._clock,
            fast_path=fast_path,
            max_queued=options.max_queued,
            on_delete=self._purger.wake,
        )

    @classmethod
    def options_from(cls, settings: SessionSettings) -> dict[str, Any]:
        return server_options_from(settings)

    @property
    def deadlocks(self) -> int:
        """How many transactions the server ended because of a deadlock; each was retried.

        It counts from the time this provider was made, in this process only.
        """
        return self.database.deadlocks.count

    async def initialize(self) -> None:
        await self.database.open()
        prepare = check_schema if self._check_only else apply_schema
        try:
            await prepare(self.database, self.dialect, self._names, self.database.deadline())
            await self._clock.measure()
        except ClashError as error:
            await self.database.close()
            raise StorageUnavailableError("another program is preparing the tables") from error
        except BaseException:
            await self.database.close()
            raise
        self._identity.forget()
        self._writer.reopen()
        self._purger.reopen()
        self._purger.wake()

    async def shutdown(self) -> None:
        """Finish the accepted changes; abort those that take longer than ``timeout`` seconds."""
        deadline = self.database.deadline()
        await self._writer.drain(deadline)
        await self._purger.stop(deadline)
        await self.database.close(deadline)

    async def check(self) -> None:
        """Write the store's own row, and see that no table or column is missing.

        It also fails if the server refused a write as full just now: the row itself is rewritten in
        its page, which takes no room.
        """
        if time.monotonic() - self._full_at < FULL_SECONDS:
            raise QuotaExceededError(f"{self.describe()} has no room: it has just refused a write")
        [(found,)] = await self.database.run(Step(Statement.CHECK, [(new_identity(),)]))
        self._identity.confirm(found)
        await self.database.run(Step(Statement.WHOLE))

    async def store_time(self) -> datetime:
        return from_millis(await self._clock.measure())

    def pool_use(self) -> PoolUse:
        return self.database.pool_use()

    async def inspect(self) -> list[Finding]:
        [(server,)] = await self.database.run(Step(Statement.SERVER_VERSION))
        [(version, _)] = await self.database.run(Step(Statement.GET_VERSION))
        newest = newest_version(self.dialect)
        return [
            Finding(about="server version", found=str(server)),
            Finding(about="schema", found=f"{version}; this program knows {newest}"),
        ]

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        return await self.database.read(namespace, session_id, context=context, window=window)

    async def read_several(
        self,
        names: Sequence[SessionName],
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> list[ReadSession]:
        if not names:
            return []
        return await self.database.read_several(names, context=context, window=window)

    async def apply(self, change: Change) -> Applied:
        try:
            return await self._writer.apply(change)
        except QuotaExceededError:
            self._full_at = time.monotonic()
            raise

    async def find(self, query: Query) -> Found:
        deadline = self.database.deadline()
        return await carry_out(
            find_plan(query, self._headers),
            lambda step: self.database.run(step, deadline=deadline),
        )

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Lease expired sessions. One that cannot be read is postponed by the lease."""
        self._purger.wake()  # to purge what another process left behind
        lease_end = at + timedelta(seconds=lease_seconds)
        deadline = self.database.deadline()
        taken: list[Ended] = []
        while wanted := limit - len(taken):
            came_due, ended = await self._take_due(at, wanted, lease_end, deadline)
            taken += ended
            if came_due < wanted:
                break
        return taken

    async def _take_due(
        self, at: datetime, limit: int, lease_end: datetime, deadline: float
    ) -> tuple[int, list[Ended]]:
        """Lease due sessions. If the response is lost, they are due again after the lease."""

        async def attempt() -> tuple[int, list[Ended]]:
            plan = due_plan(at, limit, lease_end, self._headers)
            async with self.database.transaction(deadline=deadline) as connection:
                return await carry_out(plan, connection.run)

        return await self.database.repeatable(attempt)

    async def count(self, namespace: str | None, at: datetime) -> Counts:
        return await carry_out(count_plan(namespace, at), self.database.run)

    async def count_archived(self) -> int:
        return await carry_out(archived_plan(), self.database.run)

    async def namespaces(self) -> list[str]:
        return await carry_out(namespaces_plan(), self.database.run)
