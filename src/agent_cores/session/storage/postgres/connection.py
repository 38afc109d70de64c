"""``Database``: connections to PostgreSQL and transactions, each bounded by one deadline.

It knows no table. A deadline is a time of the event loop's clock; what begins without one gets
``timeout`` seconds. A connection whose work ended badly is tidied up in the background, so that
nobody waits for that beyond the deadline.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import asyncpg
import msgspec

from agent_cores.session.errors import CorruptRecordError, StorageUnavailableError
from agent_cores.session.models import Snapshot, StoredMessage, Window
from agent_cores.session.models.times import from_millis
from agent_cores.session.storage.postgres import fast_queries, read_queries
from agent_cores.session.storage.postgres.creates import create_arguments
from agent_cores.session.storage.postgres.errors import DRIVER_ERRORS, PostgresErrors
from agent_cores.session.storage.postgres.queries import (
    SCHEMA_KNOWN,
    SCHEMA_LOCK,
    PostgresQueries,
)
from agent_cores.session.storage.postgres.tails import Tails
from agent_cores.session.storage.postgres.url import driver_tls
from agent_cores.session.storage.sql.errors import ClashError, DeadlockError, LockedError
from agent_cores.session.storage.sql.forms import TAKE_ONE_ROW
from agent_cores.session.storage.sql.pool import PooledConnection, PooledDatabase
from agent_cores.session.storage.sql.reading import message_bounds
from agent_cores.session.storage.sql.rows import columns, decode_header

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from agent_cores.session.storage.postgres.options import PostgresOptions
    from agent_cores.session.storage.sql.creates import PlannedCreate
    from agent_cores.session.storage.sql.database import Connection as SqlConnection
    from agent_cores.session.storage.sql.dialect import Row, Step
    from agent_cores.session.storage.sql.hot import HotAppends
    from agent_cores.session.storage.sql.reading import ReadSession
    from agent_cores.session.storage.sql.rows import SessionName

    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]

_encode = msgspec.json.Encoder().encode

READ_COMMITTED = "BEGIN ISOLATION LEVEL READ COMMITTED"
ONE_INSTANT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_PLANS_LIVE = 15
"""Seconds until a statement is planned anew: the tables may have grown since."""
LOOKS = 100
"""How many batches look for stored message ids after one has met some."""
_LAST_MOMENT = 0.01
"""Seconds that a statement gets at least: the driver takes none for no bound."""


class Transaction(PooledConnection):
    """A connection of the pool. Tables are named as ``{schema}."{prefix}…"``."""

    async def run(self, step: Step) -> list[Row]:
        """Carry out one step."""
        one_row = step.statement in TAKE_ONE_ROW
        arguments = step.rows[0] if one_row else columns(step.rows)
        return await self._fetch(self._database.text_of(step), arguments)

    async def fetch(self, text: str, *arguments: object) -> list[Row]:
        """Run a statement and return its rows."""
        return await self._fetch(self._database.filled(text), arguments)

    async def _fetch(self, text: str, arguments: Sequence[object]) -> list[Row]:
        timeout = seconds_until(self._deadline)
        rows: list[Row] = await self._driver.fetch(text, *arguments, timeout=timeout)
        return rows

    async def script(self, text: str) -> None:
        """Run several statements."""
        await self._execute(self._database.filled(text))

    async def begin(self, statements: str) -> None:
        """Begin a transaction."""
        await self._execute(statements)

    async def commit(self) -> None:
        """Commit; raise if the server rolled back instead."""
        self.may_be_done = True
        outcome = await self._execute("COMMIT")
        if outcome != "COMMIT":
            raise StorageUnavailableError(f"PostgreSQL answered COMMIT with {outcome}")

    async def _execute(self, text: str) -> str:
        outcome: str = await self._driver.execute(text, timeout=seconds_until(self._deadline))
        return outcome


class Database(PooledDatabase[Transaction]):
    """A pool of connections: one that the caller gave, which stays open, or one made by ``dsn``."""

    queries: PostgresQueries = PostgresQueries()
    connection = Transaction

    def __init__(self, dsn: str | None, pool: Pool | None, options: PostgresOptions) -> None:
        super().__init__(options)
        self._dsn = dsn
        self._given = pool
        self._pool = pool
        self._pooled = options.pooler is not None
        self.errors: PostgresErrors = PostgresErrors(pooled=self._pooled)
        self._looks = 0
        self._tidying: set[asyncio.Task[None]] = set()

    @property
    def pool_size(self) -> int:
        """How many connections there are at most."""
        return self._pool_size if self._given is None else self._given.get_max_size()

    async def close(self, deadline: float | None = None) -> None:
        """Close the pool, if it is this one's own; at the deadline, cut what is still open."""
        if self._given is None:
            await super().close(deadline)

    async def append_hot(
        self,
        appends: HotAppends,
        *,
        lock_wait: float,
        skip_locked: bool,
        sent_at: int | None,
        deadline: float,
    ) -> list[Row]:
        """Carry out plain appends in one statement and one commit.

        A message id that is stored already fails the statement. Then it is sent again with a look
        for such ids, as are the next ones: where some are repeated, others will be.
        """
        guards, messages = _encode(appends.sessions).decode(), _encode(appends.messages).decode()
        arguments = guards, messages, appends.bodies, str(milliseconds(lock_wait)), sent_at

        async def send(*, look: bool) -> list[Row]:
            text = fast_queries.HOT_APPENDS[look, skip_locked]
            return await self._run_alone(text, *arguments, writes=True, deadline=deadline)

        if self._looks:
            self._looks -= 1
            return await send(look=True)
        try:
            return await send(look=False)
        except (DeadlockError, LockedError):
            raise
        except ClashError:
            self._looks = LOOKS
        return await send(look=True)

    async def create_sessions(
        self, sessions: Sequence[PlannedCreate], *, lock_wait: float, deadline: float
    ) -> set[SessionName]:
        """Insert new sessions in one statement and one commit."""
        arguments = *create_arguments(sessions), str(milliseconds(lock_wait))
        text = fast_queries.CREATE_SESSIONS
        rows = await self._run_alone(text, *arguments, writes=True, deadline=deadline)
        return {(namespace, session_id) for namespace, session_id in rows}

    @property
    def tails(self) -> Tails:
        """Removals and replacements of a range, in one statement each."""
        return Tails(self._run_alone)

    async def _run_alone(
        self, text: str, *arguments: object, writes: bool = False, deadline: float
    ) -> list[Row]:
        """Run one statement by itself; one that ``writes`` commits."""
        async with self.connected(deadline) as connection:
            connection.may_be_done = writes
            return await connection.fetch(text, *arguments)

    @asynccontextmanager
    async def schema_lock(self, deadline: float) -> AsyncIterator[Transaction]:
        """Run a block that makes tables while no other process does, committed at its end."""
        async with self.transaction(deadline=deadline) as transaction:
            await transaction.fetch(SCHEMA_LOCK, f"agent-cores-session {self.names.schema}")
            yield transaction

    async def prepare_schema(self, connection: SqlConnection) -> None:
        """Make the schema if it is missing."""
        if isinstance(connection, Transaction) and not await connection.fetch(
            SCHEMA_KNOWN, self.names.schema
        ):
            await connection.script("CREATE SCHEMA {schema}")

    def _begin(self, lock_wait: float | None, *, one_instant: bool) -> str:
        begin = ONE_INSTANT if one_instant else READ_COMMITTED
        if lock_wait is None:
            return begin
        return f"{begin}; SET LOCAL lock_timeout = {milliseconds(lock_wait)}"

    def _reads_at_once(self, window: Window) -> bool:
        return window.named is None or bool(window.named.ids)

    async def _read_at_once(
        self,
        names: Sequence[SessionName],
        *,
        context: bool,
        window: Window | None,
        deadline: float,
    ) -> list[ReadSession]:
        forward = None if window is None else window.forward
        bounds: tuple[Any, ...] = () if window is None else message_bounds(window)[1]
        named = None if window is None else window.named
        if named is not None:
            bounds = (named.ids, *bounds[1:])
        several = len(names) > 1
        text = read_queries.read_session(
            context=context,
            forward=forward,
            named=named is not None,
            several=several,
            capped=window is not None and window.capped,
        )
        namespaces, session_ids = columns(names) if several else names[0]
        async with self.connected(deadline) as connection:
            rows = await connection.fetch(text, namespaces, *bounds, session_ids)
        found = {
            (row["namespace"], row["session_id"]): _read(row, context=context, window=window)
            for row in rows
        }
        return [found.get(name) for name in names]

    async def _create_pool(self) -> Pool:
        dsn, tls = (None, None) if self._dsn is None else driver_tls(self._dsn)
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=self._pool_size,
            timeout=self.connect_timeout,
            reset=_keep,
            ssl=tls,
            max_cached_statement_lifetime=_PLANS_LIVE,
            **self._session_options(),
        )

    async def _close_pool(self, pool: Pool) -> None:
        await pool.close()

    async def _renew(self, pool: Pool) -> None:
        if pool is not self._given:
            await pool.expire_connections()

    async def _acquire(self, pool: Pool, deadline: float) -> Connection:
        return await pool.acquire(timeout=seconds_until(deadline))

    async def _release(self, pool: Pool, driver: Connection) -> None:
        with suppress(*DRIVER_ERRORS):  # the work is done; the pool drops a broken connection
            await pool.release(driver, timeout=self.timeout)

    async def _discard(
        self, pool: Pool, driver: Connection, error: BaseException, deadline: float
    ) -> None:
        """Tidy the connection up in the background; wait for that if the server responds."""
        tidying = self._tidy_up(pool, driver)
        if _answered(error):  # then so will the rollback be, and locks are gone by it
            await asyncio.wait([tidying], timeout=seconds_until(deadline))

    def _tidy_up(self, pool: Pool, connection: Connection) -> asyncio.Task[None]:
        """Roll back and give the connection back, in a task of its own."""
        task = asyncio.get_running_loop().create_task(self._give_back(pool, connection))
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)
        return task

    async def _give_back(self, pool: Pool, connection: Connection) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                if not connection.is_closed() and connection.is_in_transaction():
                    await connection.execute("ROLLBACK")  # waits until the server has cancelled
        except DRIVER_ERRORS:
            with suppress(asyncpg.InterfaceError):  # it broke, and is back in the pool already
                connection.terminate()
        with suppress(*DRIVER_ERRORS):
            await pool.release(connection, timeout=self.timeout)

    def _session_options(self) -> Mapping[str, Any]:
        if self._pooled:
            return {"statement_cache_size": 0}
        wait = self.timeout / 2
        settings = {
            "default_transaction_isolation": "read committed",
            "enable_seqscan": "off",  # a plan made while a table is small is kept while it grows
            "jit": "off",  # every statement is short
            "lock_timeout": str(milliseconds(wait)),
            "idle_in_transaction_session_timeout": str(milliseconds(4 * wait)),
        }
        chosen = dict(parse_qsl(urlsplit(self._dsn or "").query))
        return {"server_settings": {k: v for k, v in settings.items() if k not in chosen}}


def seconds_until(deadline: float) -> float:
    """Return what is left until a deadline, as a timeout of the driver."""
    return max(_LAST_MOMENT, deadline - asyncio.get_running_loop().time())


def milliseconds(seconds: float) -> int:
    """Return a bound as the server takes it; 0 would be none."""
    return max(1, round(seconds * 1000))


def _answered(error: BaseException) -> bool:
    """Whether the server answers this connection, though the work on it failed."""
    return isinstance(error, asyncpg.PostgresError) or not isinstance(
        error, (*DRIVER_ERRORS, asyncio.CancelledError, GeneratorExit)
    )


async def _keep(_: object) -> None:
    """Leave a connection as it is when it returns to the pool: nothing in it was changed."""


def _read(row: Row, *, context: bool, window: Window | None) -> ReadSession:
    """Return the session in a row of ``read_session``."""
    try:
        return _snapshot(row, context=context, window=window)
    except CorruptRecordError as error:
        return error


def _snapshot(row: Row, *, context: bool, window: Window | None) -> Snapshot:
    messages, has_more, entries = None, False, None
    if window is not None:
        candidates = _messages(row)
        candidates.sort(key=lambda message: message.seq, reverse=not window.forward)
        messages, has_more = window.fill(candidates)
    if context:
        keys, values = row["context_keys"] or (), row["context_values"] or ()
        entries = dict(zip(keys, values, strict=True))
    header = decode_header(row)
    return Snapshot(header=header, context=entries, messages=messages, has_more=has_more)


def _messages(row: Row) -> list[StoredMessage]:
    if row["seqs"] is None:
        return []
    rows = zip(row["seqs"], row["ids"], row["times"], row["bodies"], strict=True)
    return [StoredMessage(seq, id_, from_millis(at), body) for seq, id_, at, body in rows]
