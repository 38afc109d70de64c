"""This project as a contender, through its public verbs and with its default settings."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import asyncpg
from redis.asyncio import Redis

from agent_cores.session import SessionManager
from agent_cores.session.any_loop import portal_of
from benchmarks.limits.mysql_group_commit import connected as mysql_connection
from benchmarks.limits.mysql_group_commit import run as mysql_run
from benchmarks.store import Store, server_address

T = TypeVar("T")

AT_ONCE = 500
FEW_AT_ONCE = 50
"""So few at a time that none expires between its creation and its message."""
MOST_IN_A_CALL = 1_000


CROWD = 100
"""How many sessions hold the messages of others, if the store is to hold many."""
CROWD_IN = """
INSERT INTO messages (session_key, seq, id, created_at, body)
SELECT s.session_key, nth, 'copy-' || nth, model.created_at, model.body
FROM sessions s, generate_series(2, {each}) AS nth, (SELECT * FROM messages LIMIT 1) AS model;
UPDATE sessions SET last_seq = {each}, message_count = {each};
"""
MOST_CREATED = 10_000
"""More sessions than this are copied from one, on stores where each create needs a commit."""
COPY_SESSION = """
WITH model AS (
    SELECT * FROM sessions WHERE session_id = $1
), copied AS (
    INSERT INTO sessions ({columns})
    SELECT {values} FROM model, generate_series(1, $2::int) AS nth
    RETURNING session_key, owner_id, namespace, archived, listed_at, session_id
), listed AS (
    INSERT INTO owned (session_key, mark, owner_id, namespace, archived, listed_at, session_id)
    SELECT session_key, '', owner_id, namespace, archived, listed_at, session_id FROM copied
)
UPDATE counters SET sessions = sessions + $2
WHERE (namespace, shard) = (SELECT namespace, min(shard) FROM counters GROUP BY namespace)
"""
MYSQL_CROWD_IN = """
INSERT INTO messages (session_key, seq, id, created_at, body)
SELECT s.session_key, nth.seq, CONCAT('copy-', nth.seq), model.created_at, model.body
FROM sessions s JOIN seq_2_to_{each} nth JOIN (SELECT * FROM messages LIMIT 1) model;
UPDATE sessions SET last_seq = {each}, message_count = {each};
ANALYZE TABLE sessions, messages
"""
MYSQL_COPY_SESSION = """
INSERT INTO sessions ({columns})
SELECT {values} FROM (SELECT * FROM sessions WHERE session_id = '{model}') model
JOIN seq_1_to_{many};
INSERT INTO owned (session_key, mark, owner_id, namespace, archived, listed_at, session_id)
SELECT session_key, '', owner_id, namespace, archived, listed_at, session_id FROM sessions
WHERE session_id LIKE '{model}_%';
UPDATE counters SET sessions = sessions + {many} ORDER BY namespace, shard LIMIT 1;
ANALYZE TABLE sessions, owned
"""
MYSQL_COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = 'sessions' AND column_name <> 'session_key'
"""
COLUMNS = """
SELECT column_name AS name FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = 'sessions' AND is_identity = 'NO'
"""


class SessionRef(NamedTuple):
    """The session and the caller."""

    session_id: str
    user_id: str


class ManagedStore(Store[SessionRef], abc.ABC):
    """Its own `SessionManager` on the storage that a subclass names."""

    packages: ClassVar[tuple[str, ...]] = ("agent-cores-session", "msgspec")

    @abc.abstractmethod
    def url(self, directory: Path) -> str:
        """The storage URL for the manager."""

    async def open(self, directory: Path) -> None:
        self._manager = SessionManager(self.url(directory))
        await self._manager.initialize()

    async def close(self) -> None:
        await self._manager.shutdown()

    async def create(self, user_id: str, count: int) -> list[SessionRef]:
        sessions: list[SessionRef] = []
        for start in range(0, count, AT_ONCE):
            wanted = range(start, min(start + AT_ONCE, count))
            ids = await asyncio.gather(*(self._manager.create_session(user_id) for _ in wanted))
            sessions.extend(SessionRef(session_id, user_id) for session_id in ids)
        return sessions

    async def create_session(self, user_id: str) -> None:
        await self._manager.create_session(user_id)

    async def append(self, session: SessionRef, text: str) -> None:
        await self._manager.add_message(session.session_id, session.user_id, "user", text)

    async def fill(self, session: SessionRef, count: int, text: str) -> None:
        for start in range(0, count, MOST_IN_A_CALL):
            size = min(MOST_IN_A_CALL, count - start)
            messages = [{"role": "user", "content": text} for _ in range(size)]
            await self._manager.add_messages(session.session_id, session.user_id, messages)

    async def append_as(self, session: SessionRef, message_id: str, text: str) -> None:
        """Append one message under an id."""
        await self._manager.add_message(*session, "user", text, message_id=message_id)

    async def read_by_id(self, session: SessionRef, message_id: str) -> None:
        """Read one message by its id."""
        assert len(await self._manager.get_messages(*session, ids=[message_id])) == 1

    async def delete_by_id(self, session: SessionRef, message_id: str) -> None:
        """Delete one message by its id."""
        assert await self._manager.delete_messages(*session, ids=[message_id]) == 1

    async def keep_last(self, session: SessionRef, keep: int, removed: int) -> None:
        """Delete the oldest messages, which are so many."""
        assert await self._manager.delete_messages(*session, keep_last=keep) == removed

    async def replace(self, session: SessionRef, after_seq: int, count: int, text: str) -> None:
        """Replace what follows a seq by so many messages."""
        messages = [{"role": "user", "content": text} for _ in range(count)]
        await self._manager.replace_messages(*session, messages, after_seq=after_seq)

    async def pop(self, session: SessionRef) -> None:
        """Pop the last message."""
        assert len(await self._manager.pop_messages(*session)) == 1

    async def create_marked(self, mark: str, count: int) -> None:
        """Create sessions whose owner, tag and metadata are the mark."""
        metadata = {"tags": [mark], "mark": mark}
        for start in range(0, count, AT_ONCE):
            wanted = range(start, min(start + AT_ONCE, count))
            await asyncio.gather(
                *(self._manager.create_session(mark, metadata=metadata) for _ in wanted)
            )

    async def list_as_operator(self, by: str, mark: str, limit: int) -> int:
        """List sessions of a mark by owner, tag or metadata; return how many came."""
        list_sessions = self._manager.as_operator("bench").list_sessions
        if by == "owner":
            return len(await list_sessions(owner_id=mark, limit=limit))
        if by == "tag":
            return len(await list_sessions(tags=[mark], limit=limit))
        return len(await list_sessions(metadata={"mark": mark}, limit=limit))

    async def read_last(self, session: SessionRef, limit: int) -> int:
        page = await self._manager.get_session_messages(
            session.session_id, session.user_id, limit=limit
        )
        return len(page)

    async def list_newest(self, user_id: str, limit: int) -> int:
        return len(await self._manager.list_user_sessions(user_id, limit=limit))

    async def create_expiring(self, user_id: str, count: int, seconds: float) -> None:
        for start in range(0, count, FEW_AT_ONCE):
            wanted = range(start, min(start + FEW_AT_ONCE, count))
            await asyncio.gather(*(self._create_one_expiring(user_id, seconds) for _ in wanted))

    async def _create_one_expiring(self, user_id: str, seconds: float) -> None:
        session_id = await self._manager.create_session(user_id, ttl_hours=seconds / 3600)
        await self._manager.add_message(session_id, user_id, "user", "soon gone")

    async def sweep(self) -> int:
        return await self._manager.clean_expired_sessions()


class SqliteStore(ManagedStore):
    """On one SQLite file."""

    packages = (*ManagedStore.packages, "apsw")

    def url(self, directory: Path) -> str:
        return f"sqlite:///{directory / 'sessions.db'}"


class MemoryStore(ManagedStore):
    """In this process's memory."""

    def url(self, directory: Path) -> str:
        return "memory://"


class AnyLoopStore(ManagedStore, abc.ABC):
    """A manager that works in its own loop and is called from any."""

    async def open(self, directory: Path) -> None:
        self._manager = SessionManager(self.url(directory), any_loop=True)
        await self._manager.initialize()

    async def in_its_own_loop(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function in the manager's own loop."""
        return await portal_of(self._manager).await_call(function)


class AnyLoopMemoryStore(AnyLoopStore, MemoryStore):
    """In this process's memory, from any loop."""


class AnyLoopSqliteStore(AnyLoopStore, SqliteStore):
    """On one SQLite file, from any loop."""


class RedisStore(ManagedStore):
    """On a Redis server, emptied when a store opens."""

    packages = (*ManagedStore.packages, "redis", "hiredis")

    def url(self, directory: Path) -> str:
        return server_address()

    async def open(self, directory: Path) -> None:
        self._server = Redis.from_url(server_address())
        await self._server.flushall()
        await super().open(directory)

    async def close(self) -> None:
        await super().close()
        await self._server.aclose()

    async def bytes_in_use(self) -> int:
        return int((await self._server.info("memory"))["used_memory"])


class PostgresStore(ManagedStore):
    """On PostgreSQL, each store in its own schema."""

    packages = (*ManagedStore.packages, "asyncpg")

    def url(self, directory: Path) -> str:
        self._schema = f"store_{directory.name}"
        return f"{server_address()}?table_prefix=&database_schema={self._schema}"

    async def crowd(self, messages: int) -> None:
        """Copy one message into sessions of others, by SQL; then update the statistics."""
        others = await self.create("others", CROWD)
        await self.append(others[0], "x" * 200)
        async with self._connected() as connection:
            await connection.execute(CROWD_IN.format(each=messages // CROWD))
            await connection.execute("VACUUM ANALYZE")

    async def create(self, user_id: str, count: int) -> list[SessionRef]:
        """Create sessions; of very many, one, and copies of it by SQL."""
        if count <= MOST_CREATED:
            return await super().create(user_id, count)
        [model] = await super().create(user_id, 1)
        async with self._connected() as connection:
            names = [row["name"] for row in await connection.fetch(COLUMNS)]
            differing = {
                "session_id": "session_id || nth",
                "incarnation": "incarnation + nth",
                "listed_at": "listed_at - nth",
            }
            values = [differing.get(name, name) for name in names]
            copy = COPY_SESSION.format(columns=", ".join(names), values=", ".join(values))
            await connection.execute(copy, model.session_id, count - 1)
            await connection.execute("VACUUM ANALYZE")
        copies = [f"{model.session_id}{nth}" for nth in range(1, count)]
        return [model, *(SessionRef(session_id, user_id) for session_id in copies)]

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        settings = {"search_path": self._schema}
        connection = await asyncpg.connect(server_address(), server_settings=settings)
        try:
            yield connection
        finally:
            await connection.close()


class MysqlStore(ManagedStore):
    """On MariaDB, each store in its own database."""

    packages = (*ManagedStore.packages, "asyncmy")

    def url(self, directory: Path) -> str:
        return f"{server_address()}/{self._database}?table_prefix="

    async def open(self, directory: Path) -> None:
        self._database = f"store_{directory.name}"
        await self._sql("", f"CREATE DATABASE {self._database}")
        await super().open(directory)

    async def crowd(self, messages: int) -> None:
        """Copy one message into sessions of others, by SQL; then update the statistics."""
        others = await self.create("others", CROWD)
        await self.append(others[0], "x" * 200)
        await self._sql(self._database, MYSQL_CROWD_IN.format(each=messages // CROWD))

    async def create(self, user_id: str, count: int) -> list[SessionRef]:
        """Create sessions; of very many, one, and copies of it by SQL."""
        if count <= MOST_CREATED:
            return await super().create(user_id, count)
        [model] = await super().create(user_id, 1)
        columns = [name for (name,) in await self._sql(self._database, MYSQL_COLUMNS)]
        differing = {
            "session_id": "CONCAT(session_id, seq)",
            "incarnation": "incarnation + seq",
            "listed_at": "listed_at - seq",
        }
        copy = MYSQL_COPY_SESSION.format(
            columns=", ".join(columns),
            values=", ".join(differing.get(name, name) for name in columns),
            model=model.session_id,
            many=count - 1,
        )
        await self._sql(self._database, copy)
        copies = [f"{model.session_id}{nth}" for nth in range(1, count)]
        return [model, *(SessionRef(session_id, user_id) for session_id in copies)]

    async def _sql(self, database: str, statements: str) -> list[tuple[str, ...]]:
        connection = await mysql_connection(database)
        try:
            return await mysql_run(connection, statements)
        finally:
            await connection.ensure_closed()
