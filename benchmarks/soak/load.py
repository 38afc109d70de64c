"""The mixed load: appends, reads, listings and creates over kept-alive connections.

A response that did not come, since its worker ended, is asked for again under the same message id.
A 503 with `Retry-After` is too, after that time. What was acknowledged is kept for the check.
"""

from __future__ import annotations

import asyncio
import json
import random
from array import array
from collections import Counter
from time import perf_counter
from typing import NamedTuple, cast

CALLERS = 32
USERS = 50
SESSIONS = 1_000
MIX = {"append": 50, "read": 35, "list": 10, "create": 5}
"""Per cent of the requests."""
TEXT = "how do I get from the station to the old town and what should I see there first " * 3
_HEAD_END = b"\r\n\r\n"
_TOO_MANY = 100


class Answer(NamedTuple):
    """A response."""

    status: int
    retry_after: float | None
    body: bytes


class Connection(asyncio.Protocol):
    """One request at a time; `is_open` is false once the service has closed it."""

    def __init__(self) -> None:
        self.is_open = True
        self._came = b""
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def request(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request and wait for the whole response; `ConnectionError` if none comes."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, end, body = self._came.partition(_HEAD_END)
        if not end or self._answer is None:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields.get(b"content-length", 0)):
            return
        self._came = b""
        if fields.get(b"connection") == b"close":
            self.is_open = False
        again = fields.get(b"retry-after")
        found = Answer(int(head[9:12]), None if again is None else float(again), body)
        answer, self._answer = self._answer, None
        answer.set_result(found)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("no response"))

    def close(self) -> None:
        """Close it."""
        self._transport.close()


class Load:
    """Callers of the service, what they were told, and how long it took."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._number = 0
        self.sessions: list[tuple[str, str]] = []
        self.acknowledged: dict[str, array[int]] = {}
        self.statuses: Counter[str] = Counter()
        self.unanswered = 0
        self.wrong: list[str] = []
        self.done = 0
        self.latencies: list[float] = []
        """Of the requests since this was last emptied, in seconds."""

    async def prepare(self) -> None:
        """Create the sessions."""
        connection = await self._connected(None)
        for _ in range(SESSIONS):
            connection = await self._create(connection)
        connection.close()

    async def run(self, seconds: float, rate: float | None = None) -> float:
        """Load the service, as fast as it goes or at a rate; return the requests per second."""
        loop = asyncio.get_running_loop()
        started, before = loop.time(), self.done
        slots = iter(range(1 << 62))

        async def caller() -> None:
            connection = await self._connected(None)
            while True:
                if rate is not None:
                    due = started + next(slots) / rate
                    await asyncio.sleep(max(due - loop.time(), 0))
                if loop.time() - started >= seconds:
                    break
                connection = await self._one(connection)
            connection.close()

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return (self.done - before) / (loop.time() - started)

    async def _one(self, connection: Connection) -> Connection:
        [kind] = random.choices(list(MIX), list(MIX.values()))
        if kind == "create":
            return await self._create(connection)
        session, user = random.choice(self.sessions)
        path = f"/v1/sessions/{session}/messages"
        if kind == "append":
            self._number += 1
            number = self._number
            message = {"role": "user", "content": TEXT, "id": f"m{number}"}
            connection, answer = await self._ask(
                connection, "POST", path, user, {"messages": [message]}
            )
            if answer.status in {200, 201}:
                self.acknowledged[session].append(number)
        elif kind == "read":
            connection, _ = await self._ask(connection, "GET", f"{path}?limit=20", user)
        else:
            connection, _ = await self._ask(connection, "GET", "/v1/sessions?limit=10", user)
        return connection

    async def _create(self, connection: Connection) -> Connection:
        self._number += 1
        session, user = f"soak-{self._number}", f"user-{self._number % USERS}"
        connection, answer = await self._ask(
            connection, "POST", "/v1/sessions", user, {"id": session}
        )
        if answer.status in {200, 201, 409}:  # 409: the response to the first attempt was lost
            self.sessions.append((session, user))
            self.acknowledged[session] = array("Q")
        return connection

    async def _ask(
        self,
        connection: Connection,
        method: str,
        path: str,
        user: str,
        body: object = None,
    ) -> tuple[Connection, Answer]:
        """Send a request until it has its response."""
        data = b"" if body is None else json.dumps(body).encode()
        request = self._request(method, path, user, data)
        started = perf_counter()
        while True:
            connection = await self._connected(connection)
            try:
                answer = await connection.request(request)
            except ConnectionError:
                self.unanswered += 1
                continue
            self._note(answer, method, path)
            if answer.status != 503 or answer.retry_after is None:
                break
            await asyncio.sleep(answer.retry_after)
        self.latencies.append(perf_counter() - started)
        self.done += 1
        return connection, answer

    def _request(self, method: str, path: str, user: str, data: bytes) -> bytes:
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self._port}",
            f"Authorization: Bearer {self._key}",
            f"X-User-Id: {user}",
        ]
        if data:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        return "\r\n".join([*lines, "", ""]).encode() + data

    def _note(self, answer: Answer, method: str, path: str) -> None:
        again = " with Retry-After" if answer.retry_after is not None else ""
        self.statuses[f"{answer.status}{again}"] += 1
        if answer.status >= 400 and not (answer.status == 503 and again):
            if answer.status == 409 and path == "/v1/sessions":
                return
            if len(self.wrong) < _TOO_MANY:
                self.wrong.append(f"{method} {path}: {answer.status} {answer.body[:200]!r}")

    async def _connected(self, connection: Connection | None) -> Connection:
        loop = asyncio.get_running_loop()
        while connection is None or not connection.is_open:
            try:
                _, connection = await loop.create_connection(Connection, "127.0.0.1", self._port)
            except OSError:
                self.unanswered += 1
                await asyncio.sleep(0.05)
        return connection
