"""The limit on MariaDB: hand-written; one packet on one connection for all waiting callers.

While a packet of statements and its commit are in flight, callers queue; the next packet serves all
of them. There are no access rules, expiry, replay, validation or encoding: what remains is the cost
of MariaDB, its driver and the disk.

The tables, the indexes, the session rows and the bytes of a message are exactly ours, because our
own package creates them: every message is a copy of one that it wrote, under a new id.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from pathlib import Path
from time import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import asyncmy

from agent_cores.session import SessionManager
from benchmarks.store import Store, server_address

APPEND = """
START TRANSACTION;
UPDATE ({counts}) new STRAIGHT_JOIN sessions s ON s.session_key = new.session_key
SET s.last_seq = s.last_seq + new.many, s.message_count = s.message_count + new.many,
    s.last_active_at = {now}, s.expires_at = {expires_at};
INSERT INTO messages (session_key, seq, id, created_at, body)
SELECT sent.session_key, s.last_seq - sent.behind, sent.id, {now}, @body
FROM ({sent}) sent STRAIGHT_JOIN sessions s ON s.session_key = sent.session_key;
SELECT session_key, last_seq FROM sessions WHERE session_key IN ({keys});
COMMIT
"""
CREATE = """
START TRANSACTION;
INSERT INTO sessions ({columns})
SELECT {values} FROM ({created}) new, (SELECT * FROM sessions WHERE session_key = {model}) model;
INSERT INTO owned (session_key, mark, owner_id, namespace, archived, listed_at, session_id)
SELECT session_key, '', owner_id, namespace, archived, listed_at, session_id
FROM sessions WHERE (namespace, session_id) IN ({names});
UPDATE counters SET sessions = sessions + {many} ORDER BY namespace, shard LIMIT 1;
COMMIT
"""
COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = 'sessions' AND column_name <> 'session_key'
"""
KEYS = "SELECT session_id, session_key FROM sessions"
MODEL = "SET @body = (SELECT body FROM messages)"
DAY = 86_400_000


class Append(NamedTuple):
    """One caller's message, and the future of its response."""

    session_key: int
    message_id: str
    answer: asyncio.Future[int]


async def connected(database: str) -> Any:  # noqa: ANN401 - asyncmy's connection
    """A connection of asyncmy, `READ COMMITTED` like ours."""
    server = urlsplit(server_address())
    return await asyncmy.connect(
        host="127.0.0.1",
        port=server.port or 3306,
        user="root",
        database=database,
        autocommit=True,
        init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    )


async def run(connection: Any, text: str) -> list[Any]:  # noqa: ANN401 - asyncmy's connection
    """Run statements in one packet; return the rows of all of them."""
    async with connection.cursor() as cursor:
        await cursor.execute(text)
        rows: list[Any] = []
        more = True
        while more:
            if cursor.description is not None:
                rows += await cursor.fetchall()
            more = await cursor.nextset()
        return rows


class MysqlGroupCommit(Store[int]):
    """A handle is a session's integer key."""

    packages = ("asyncmy",)

    async def open(self, directory: Path) -> None:
        self._database = f"limit_{directory.name}"
        connection = await connected("")
        await run(connection, f"CREATE DATABASE {self._database}")
        await connection.ensure_closed()
        self._waiting: list[Append] = []
        self._writer: asyncio.Task[None] | None = None
        self._to_create: list[asyncio.Future[None]] = []
        self._creator: asyncio.Task[None] | None = None

    async def create(self, user_id: str, count: int) -> list[int]:
        url = f"{server_address()}/{self._database}?table_prefix="
        async with SessionManager(url) as manager:
            new = (manager.create_session(user_id) for _ in range(count + 1))
            *ids, model_id = await asyncio.gather(*new)
            await manager.add_message(model_id, user_id, "user", "x" * 200)
        self._connection = await connected(self._database)
        await run(self._connection, MODEL)
        self._columns = [name for (name,) in await run(self._connection, COLUMNS)]
        keys = {name.decode(): key for name, key in await run(self._connection, KEYS)}
        self._model = keys[model_id]
        return [keys[session_id] for session_id in ids]

    async def close(self) -> None:
        await self._connection.ensure_closed()

    async def append(self, session: int, text: str) -> None:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(Append(session, secrets.token_urlsafe(16), answer))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await answer

    async def _write(self) -> None:
        """Write until nobody waits: one packet and one commit per batch."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            counts = Counter(append.session_key for append in batch)
            left = dict(counts)
            sent = []
            behind = []
            for append in batch:
                left[append.session_key] -= 1
                behind.append(left[append.session_key])
                row = (append.session_key, behind[-1], f"'{append.message_id}'")
                sent.append("SELECT {} AS session_key, {} AS behind, {} AS id".format(*row))
            now = int(time() * 1000)
            text = APPEND.format(
                counts=" UNION ALL ".join(
                    f"SELECT {key} AS session_key, {many} AS many" for key, many in counts.items()
                ),
                sent=" UNION ALL ".join(sent),
                keys=",".join(map(str, counts)),
                now=now,
                expires_at=now + DAY,
            )
            last = dict(await run(self._connection, text))
            for append, later in zip(batch, behind, strict=True):
                append.answer.set_result(last[append.session_key] - later)
        self._writer = None

    async def create_session(self, user_id: str) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._to_create.append(answer)
        if self._creator is None:
            self._creator = asyncio.create_task(self._create_all())
        await answer

    async def _create_all(self) -> None:
        """Create until nobody waits: one packet and one commit per batch."""
        own = {"session_id": "new.session_id", "incarnation": "new.incarnation"}
        while self._to_create:
            batch, self._to_create = self._to_create, []
            ids = [secrets.token_urlsafe(16) for _ in batch]
            created = (
                f"SELECT '{session_id}' AS session_id, {secrets.randbits(63)} AS incarnation"
                for session_id in ids
            )
            text = CREATE.format(
                columns=", ".join(self._columns),
                values=", ".join(own.get(name, f"model.{name}") for name in self._columns),
                created=" UNION ALL ".join(created),
                names=",".join(f"('default', '{session_id}')" for session_id in ids),
                model=self._model,
                many=len(batch),
            )
            await run(self._connection, text)
            for answer in batch:
                answer.set_result(None)
        self._creator = None
