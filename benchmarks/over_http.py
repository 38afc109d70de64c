"""`HttpStore`: a service in its own process, called over 32 kept-alive connections.

The caller is an `asyncio.Protocol` on uvloop that implements just enough of HTTP/1.1 and is the
same for all. It shares the machine with the service, so it must use little of it: the service is
what is measured.
"""

from __future__ import annotations

import abc
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, NamedTuple, cast

from benchmarks.store import Store

CONNECTIONS = 32
START_SECONDS = 60
HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"


class Answer(NamedTuple):
    """A response; a body without `Content-Length` counts as empty."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._came = b""
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def request(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request and wait for the complete response."""
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._answer = answer
        self._transport.write(request)
        return answer

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, end, body = self._came.partition(HEAD_END)
        if not end:
            return
        place = head.lower().find(LENGTH)
        size = 0 if place < 0 else int(head[place + len(LENGTH) :].partition(b"\r\n")[0])
        if len(body) >= size and self._answer is not None:
            self._came = b""
            self._answer.set_result(Answer(int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the service hung up"))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class HttpStore(Store[str], abc.ABC):
    """A handle is the id of a session."""

    @staticmethod
    def new_loop() -> asyncio.AbstractEventLoop:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop

    status: ClassVar[int] = 200
    """The status of a successful response."""

    @abc.abstractmethod
    def command(self, directory: Path, port: int) -> list[str]:
        """The arguments after `python -m`."""

    @abc.abstractmethod
    def create_path(self, user_id: str) -> str:
        """The path that creates a session."""

    def append_path(self, session: str) -> str:
        """The path that appends a message; the body is `append_body`."""
        raise NotImplementedError

    def headers(self, user_id: str) -> dict[str, str]:
        """Headers in addition to those of every request."""
        return {}

    def environment(self) -> dict[str, str]:
        """Environment variables in addition to those of this process."""
        return {}

    async def open(self, directory: Path) -> None:
        self._log = directory / "service.log"
        port = free_port()
        self._start(directory, port)
        await self._until_it_listens(port)
        loop = asyncio.get_running_loop()
        self._host = f"127.0.0.1:{port}"
        self._free: list[Connection] = []
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
            self._free.append(connection)
        self._user = "user"
        await self.started(self._log)

    def _start(self, directory: Path, port: int) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self.command(directory, port)],
                cwd=directory,
                env={**os.environ, **self.environment()},
                stdout=log,
                stderr=log,
            )

    async def started(self, log: Path) -> None:
        """Read what is needed from the service's output."""

    async def close(self) -> None:
        for connection in self._free:
            connection.close()
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._log.parent, ignore_errors=True)

    async def create(self, user_id: str, count: int) -> list[str]:
        self._user = user_id
        request = self._request(self.create_path(user_id), {})
        return [str(json.loads(await self._call(request))["id"]) for _ in range(count)]

    async def append(self, session: str, text: str) -> None:
        body = {"messages": [{"role": "user", "content": text}]}
        await self._call(self._request(self.append_path(session), body))

    def _request(self, path: str, body: object) -> bytes:
        data = json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", f"Host: {self._host}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers(self._user).items()]
        lines += [f"Content-Length: {len(data)}", "", ""]
        return "\r\n".join(lines).encode() + data

    async def _call(self, request: bytes) -> bytes:
        connection = self._free.pop()
        answer = await connection.request(request)
        self._free.append(connection)
        if answer.status != self.status:
            raise AssertionError(f"{answer.status}: {answer.body.decode()}")
        return answer.body

    async def _until_it_listens(self, port: int) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while asyncio.get_running_loop().time() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            await asyncio.sleep(0.05)
        raise AssertionError(f"the service did not start: {self._log.read_text()[-500:]}")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
