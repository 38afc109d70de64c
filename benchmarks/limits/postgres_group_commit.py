"""The limit on PostgreSQL: hand-written; one statement on one connection for all waiting callers.

While a statement and its commit are in flight, callers queue; the next one serves all of them.
There are no access rules, expiry, replay, validation or encoding: what remains is the cost of
PostgreSQL, its driver and the disk.

The tables, the indexes, the session rows and the bytes of a message are exactly ours, because our
own package creates them: every message is a copy of one that it wrote, under a new id, and every
session that `create_session` makes is a copy of one that it created.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from time import time
from typing import NamedTuple

import asyncpg

from agent_cores.session import SessionManager
from benchmarks.store import Store, server_address

APPEND = """
WITH sent AS MATERIALIZED (
    SELECT *, row_number() OVER (PARTITION BY session_key ORDER BY place) AS nth
    FROM unnest($1::bigint[], $2::text[], $5::bytea[])
        WITH ORDINALITY AS each(session_key, id, body, place)
), numbered AS (
    UPDATE sessions s
    SET last_seq = s.last_seq + new.many, message_count = s.message_count + new.many,
        last_active_at = $3, expires_at = $4
    FROM (SELECT session_key, count(*) AS many FROM sent GROUP BY session_key) AS new
    WHERE s.session_key = new.session_key
    RETURNING s.session_key, s.last_seq - new.many AS before
), written AS (
    INSERT INTO messages (session_key, seq, id, created_at, body)
    SELECT session_key, before + nth, id, $3, body FROM sent JOIN numbered USING (session_key)
)
SELECT before + nth FROM sent JOIN numbered USING (session_key) ORDER BY place
"""
CREATE = """
WITH created AS (
    INSERT INTO sessions ({columns})
    SELECT {values}
    FROM unnest($1::text[], $2::bigint[]) AS new(session_id, incarnation),
        (SELECT * FROM sessions WHERE session_key = $3) AS model
    RETURNING session_key, owner_id, namespace, archived, listed_at, session_id
), listed AS (
    INSERT INTO owned (session_key, mark, owner_id, namespace, archived, listed_at, session_id)
    SELECT session_key, '', owner_id, namespace, archived, listed_at, session_id FROM created
)
UPDATE counters SET sessions = sessions + cardinality($1)
WHERE (namespace, shard) = (SELECT namespace, min(shard) FROM counters GROUP BY namespace)
"""
COLUMNS = """
SELECT column_name AS name FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = 'sessions' AND is_identity = 'NO'
"""
KEYS = "SELECT session_id, session_key FROM sessions"
MODEL = "SELECT body FROM messages"
DAY = 86_400_000


class Append(NamedTuple):
    """One caller's message, and the future of its response."""

    session_key: int
    message_id: str
    answer: asyncio.Future[int]


class PostgresGroupCommit(Store[int]):
    """A handle is a session's integer key."""

    packages = ("asyncpg",)

    async def open(self, directory: Path) -> None:
        self._schema = f"limit_{directory.name}"
        self._waiting: list[Append] = []
        self._writer: asyncio.Task[None] | None = None
        self._to_create: list[asyncio.Future[None]] = []
        self._creator: asyncio.Task[None] | None = None

    async def create(self, user_id: str, count: int) -> list[int]:
        url = f"{server_address()}?table_prefix=&database_schema={self._schema}"
        async with SessionManager(url) as manager:
            new = (manager.create_session(user_id) for _ in range(count + 1))
            *ids, model_id = await asyncio.gather(*new)
            await manager.add_message(model_id, user_id, "user", "x" * 200)
        settings = {"search_path": self._schema}
        self._connection = await asyncpg.connect(server_address(), server_settings=settings)
        self._body: bytes = await self._connection.fetchval(MODEL)
        self._append = await self._connection.prepare(APPEND)
        keys = {row["session_id"]: row["session_key"] for row in await self._connection.fetch(KEYS)}
        self._create = await self._connection.prepare(await self._create_statement())
        self._model = keys[model_id]
        return [keys[session_id] for session_id in ids]

    async def _create_statement(self) -> str:
        names = [row["name"] for row in await self._connection.fetch(COLUMNS)]
        own = {"session_id": "new.session_id", "incarnation": "new.incarnation"}
        values = [own.get(name, f"model.{name}") for name in names]
        return CREATE.format(columns=", ".join(names), values=", ".join(values))

    async def create_session(self, user_id: str) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._to_create.append(answer)
        if self._creator is None:
            self._creator = asyncio.create_task(self._create_all())
        await answer

    async def _create_all(self) -> None:
        """Create until nobody waits: one statement and one commit per batch."""
        while self._to_create:
            batch, self._to_create = self._to_create, []
            ids = [secrets.token_urlsafe(16) for _ in batch]
            await self._create.fetch(ids, [secrets.randbits(63) for _ in batch], self._model)
            for answer in batch:
                answer.set_result(None)
        self._creator = None

    async def close(self) -> None:
        await self._connection.close()

    async def append(self, session: int, text: str) -> None:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(Append(session, secrets.token_urlsafe(16), answer))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await answer

    async def _write(self) -> None:
        """Write until nobody waits: one statement and one commit per batch."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            keys = [append.session_key for append in batch]
            ids = [append.message_id for append in batch]
            now = int(time() * 1000)
            bodies = [self._body] * len(batch)  # each caller's message crosses the wire
            rows = await self._append.fetch(keys, ids, now, now + DAY, bodies)
            for append, (seq,) in zip(batch, rows, strict=True):
                append.answer.set_result(seq)
        self._writer = None
