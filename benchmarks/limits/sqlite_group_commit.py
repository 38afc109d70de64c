"""The limit on SQLite: hand-written; the two statements of the least append, many per commit.

One writer thread, WAL, synchronous=FULL. While a transaction is in flight, callers queue; the next
transaction serves all of them; one call to the event loop completes a whole transaction. There are
no access rules, expiry, replay, validation or encoding: what remains is the cost of SQLite and the
disk.

The tables, the indexes, the session rows and the bytes of a message are exactly ours, because our
own package creates them: every message written here is a copy of one row that it wrote, under a new
id, and every session that `create_session` makes is a copy of one that it created. Only the
statements below depend on the schema.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from pathlib import Path
from queue import SimpleQueue
from time import time
from typing import NamedTuple

import apsw

from agent_cores.session import SessionManager
from benchmarks.store import Store

NUMBER = """
    UPDATE sessions
    SET last_seq = last_seq + 1, message_count = message_count + 1,
        last_active_at = ?, expires_at = ?
    WHERE session_key = ? RETURNING last_seq
"""
INSERT = "INSERT INTO messages ({columns}) VALUES ({marks})"
CREATE = "INSERT INTO sessions ({columns}) VALUES ({marks})"
MODEL = "SELECT * FROM sessions ORDER BY session_key DESC LIMIT 1"
KEYS = "SELECT session_id, session_key FROM sessions"
READ_LAST = "SELECT * FROM messages WHERE session_key = ? ORDER BY seq DESC LIMIT ?"

PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA cache_size = -16384",
)
"""The settings of our package, so that different defaults do not distort the comparison."""

DAY = 86_400_000


class Append(NamedTuple):
    """One caller's message, and the future of its response."""

    session_key: int
    message_id: str
    text: str
    answer: asyncio.Future[apsw.SQLiteValue]


class Create(NamedTuple):
    """One caller's new session, and the future of its response."""

    session_id: str
    incarnation: int
    answer: asyncio.Future[apsw.SQLiteValue]


Call = Append | Create


class SqliteGroupCommit(Store[int]):
    """A handle is a session's integer key."""

    packages = ("apsw",)

    async def open(self, directory: Path) -> None:
        self._path = directory / "sessions.db"
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Call] = []
        self._busy = False
        self._batches: SimpleQueue[list[Call] | None] = SimpleQueue()
        self._writer: threading.Thread | None = None

    async def create(self, user_id: str, count: int) -> list[int]:
        manager = SessionManager(f"sqlite:///{self._path}")
        ids = await asyncio.gather(*(manager.create_session(user_id) for _ in range(count + 1)))
        await manager.add_message(ids[-1], user_id, "user", "x" * 200)
        await manager.shutdown()
        self._reader = _connect(self._path)
        keys = dict(self._reader.execute(KEYS))
        self._learn_message_row()
        self._learn_session_row()
        self._writer = threading.Thread(target=self._write)
        self._writer.start()
        return [keys[session_id] for session_id in ids[:-1]]

    async def close(self) -> None:
        if self._writer is not None:
            self._batches.put(None)
            self._writer.join()
            self._reader.close()

    async def append(self, session: int, text: str) -> None:
        answer: asyncio.Future[apsw.SQLiteValue] = self._loop.create_future()
        self._wait_for(Append(session, secrets.token_urlsafe(16), text, answer))
        await answer

    async def create_session(self, user_id: str) -> None:
        answer: asyncio.Future[apsw.SQLiteValue] = self._loop.create_future()
        self._wait_for(Create(secrets.token_urlsafe(16), secrets.randbits(63), answer))
        await answer

    def _wait_for(self, call: Call) -> None:
        self._waiting.append(call)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._send)

    async def read_last(self, session: int, limit: int) -> int:
        """Read on the event loop itself: a second thread would only be slower."""
        rows = self._reader.execute(READ_LAST, (session, limit)).fetchall()
        rows.reverse()
        return len(rows)

    def _learn_message_row(self) -> None:
        """Use the one message that our package wrote as the template of every other."""
        cursor = self._reader.execute("SELECT * FROM messages")
        columns = [name for name, _ in cursor.get_description()]
        [self._model] = cursor.fetchall()
        self._session_at = columns.index("session_key")
        self._seq_at = columns.index("seq")
        self._id_at = columns.index("id")
        marks = ", ".join("?" for _ in columns)
        self._insert = INSERT.format(columns=", ".join(columns), marks=marks)

    def _learn_session_row(self) -> None:
        """Use the last session that our package created as the template of every other."""
        cursor = self._reader.execute(MODEL)
        columns = [name for name, _ in cursor.get_description()]
        [self._session] = cursor.fetchall()
        self._session_id_at = columns.index("session_id")
        self._incarnation_at = columns.index("incarnation")
        self._session_key_at = columns.index("session_key")
        marks = ", ".join("?" for _ in columns)
        self._create = CREATE.format(columns=", ".join(columns), marks=marks)

    def _send(self) -> None:
        batch, self._waiting = self._waiting, []
        self._batches.put(batch)

    def _answer(self, batch: list[Call], numbers: list[apsw.SQLiteValue]) -> None:
        for call, number in zip(batch, numbers, strict=True):
            call.answer.set_result(number)
        if self._waiting:
            self._send()
        else:
            self._busy = False

    def _write(self) -> None:
        """The writer thread: one transaction per batch."""
        connection = _connect(self._path)
        while (batch := self._batches.get()) is not None:
            connection.execute("BEGIN IMMEDIATE")
            numbers = self._write_batch(connection, batch)
            connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(self._answer, batch, numbers)
        connection.close()

    def _write_batch(
        self, connection: apsw.Connection, batch: list[Call]
    ) -> list[apsw.SQLiteValue]:
        execute = connection.cursor().execute
        now = int(time() * 1000)
        numbers: list[apsw.SQLiteValue] = []
        for call in batch:
            if isinstance(call, Create):
                execute(self._create, self._session_row(call))
                numbers.append(None)
                continue
            [[seq]] = execute(NUMBER, (now, now + DAY, call.session_key)).fetchall()
            execute(self._insert, self._row(call, seq))
            numbers.append(seq)
        return numbers

    def _session_row(self, create: Create) -> list[apsw.SQLiteValue]:
        row = list(self._session)
        row[self._session_key_at] = None
        row[self._session_id_at] = create.session_id
        row[self._incarnation_at] = create.incarnation
        return row

    def _row(self, append: Append, seq: apsw.SQLiteValue) -> list[apsw.SQLiteValue]:
        row = list(self._model)
        row[self._session_at] = append.session_key
        row[self._seq_at] = seq
        row[self._id_at] = append.message_id
        return row


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5_000)
    for pragma in PRAGMAS:
        connection.execute(pragma).fetchall()
    return connection
