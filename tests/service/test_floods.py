"""The memory of a service that is flooded, measured from outside."""

# ruff: noqa: ANN401 - settings of any kind

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.service.processes import SECONDS, get, key_in, logged, serving

MIB = 1_048_576
APPEND = b"POST /v1/sessions/some/messages"
MOST = 200 * MIB
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HEAD = b"%b HTTP/1.1\r\nHost: 127.0.0.1\r\n%b\r\n"


class Flooded:
    """A service, where it listens, and how much more memory it has taken than at its start."""

    def __init__(self, process: psutil.Process, address: str, key: str) -> None:
        self.address, self.key = address, key
        self._process = process
        self._stack = ExitStack()
        for _ in range(3):
            assert get(f"{address}/healthz")[0] == 200
        self._before = process.memory_info().rss
        self._most = 0
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._is_over.wait(0.02):
            self._most = max(self._most, self._process.memory_info().rss)

    def connect(self) -> socket.socket:
        host, _, port = self.address.removeprefix("http://").partition(":")
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        connection.settimeout(SECONDS)
        connection.connect((host, int(port)))
        return self._stack.enter_context(connection)

    def seconds_to_stop(self) -> float:
        """Terminate the service, whose memory is not watched from here on, and wait for its end."""
        self._is_over.set()
        self._watcher.join()
        started = time.monotonic()
        self._process.terminate()
        self._process.wait(SECONDS)
        return time.monotonic() - started

    def check(self) -> None:
        """Hold the service to its bound, and to its answer in the middle of all this."""
        started = time.monotonic()
        assert get(f"{self.address}/healthz")[0] == 200
        assert time.monotonic() - started < 10
        assert self._most - self._before < MOST, f"{(self._most - self._before) / MIB:.0f} MiB"

    def close(self) -> None:
        self._is_over.set()
        self._watcher.join()
        self._stack.close()


@contextmanager
def flooded(folder: Path, **settings: Any) -> Iterator[Flooded]:
    with serving(folder, **settings) as (process, address, printed):
        service = Flooded(psutil.Process(process.pid), address, key_in(printed))
        try:
            yield service
        finally:
            service.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flooded]:
    with flooded(tmp_path_factory.mktemp("flooded")) as service:
        yield service


def pour(connection: socket.socket, piece: bytes, size: int) -> None:
    """Send so many bytes, or as many as are taken."""
    connection.settimeout(0.3)
    with suppress(OSError):
        for _ in range(size // len(piece)):
            connection.sendall(piece)


def test_pipelined_requests_that_nobody_reads(service: Flooded) -> None:
    tiny = (HEAD % (b"GET /healthz", b"")) * 1_000
    for _ in range(10):
        pour(service.connect(), tiny, 5_000_000)
    service.check()


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /", b"a" * 65_536),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", b"a" * 65_536),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"a: b\r\n" * 10_000),
        (
            HEAD % (b"POST /v1/sessions", CHUNKED) + b"0\r\n",
            b"a: b\r\n" * 9_999,
        ),
        (HEAD % (b"POST /v1/sessions", CHUNKED) + b"1;", b"a" * 65_536),
        (HEAD % (b"POST /v1/sessions", CHUNKED), b"2\r\nxx\r\n" * 9_000),
        (HEAD % (b"GET /healthz", b"Content-Length: 99999999\r\n"), b"a" * 65_536),
    ],
    ids=["url", "header", "headers", "trailers", "extension", "chunks", "body"],
)
def test_heads_and_bodies_of_strangers(service: Flooded, begin: bytes, piece: bytes) -> None:
    for _ in range(5):
        connection = service.connect()
        connection.sendall(begin)
        pour(connection, piece, 50_000_000)
    service.check()


def authorized(service: Flooded, target: bytes, more: bytes = b"") -> bytes:
    key = service.key.encode()
    lines = b"Authorization: Bearer %b\r\nX-User-Id: ann\r\nContent-Type: application/json\r\n%b"
    return HEAD % (target, lines % (key, more))


def test_many_bodies_that_do_not_end(service: Flooded) -> None:
    head = authorized(service, APPEND, b"Content-Length: 16000000\r\n")
    waiting = [service.connect() for _ in range(40)]
    for connection in waiting:
        connection.sendall(head)
        pour(connection, b" " * 65_536, 15_900_000)
    refused = 0
    for connection in waiting:
        connection.settimeout(0.02)
        with suppress(OSError):
            refused += connection.recv(12) == b"HTTP/1.1 503"
    assert refused >= 30
    service.check()


def test_a_body_of_tiny_chunks(service: Flooded) -> None:
    connection = service.connect()
    connection.sendall(authorized(service, APPEND, CHUNKED))
    pour(connection, b"2\r\nxx\r\n" * 10_000, 28_000_000)
    service.check()


def test_answers_that_nobody_reads(tmp_path: Path) -> None:
    with flooded(tmp_path, SESSION_SERVICE_SHUTDOWN_TIMEOUT="15") as service:
        fill(service)
        ask = authorized(service, b"GET /v1/sessions/full/messages?limit=1000")
        waiting = [service.connect() for _ in range(16)]
        for connection in waiting:
            connection.sendall(ask)
        time.sleep(1)
        service.check()
        assert service.seconds_to_stop() < 8
    assert logged(tmp_path)[-1]["message"].startswith("Finished server process")


def test_many_large_reads_at_once(tmp_path: Path) -> None:
    with flooded(tmp_path) as service:
        fill(service)
        ask = authorized(service, b"GET /v1/sessions/full/messages?limit=1000")
        waiting = [service.connect() for _ in range(200)]
        for connection in waiting:
            connection.sendall(ask)
        assert all(connection.recv(12).startswith(b"HTTP/1.1 ") for connection in waiting)
        service.check()


def fill(service: Flooded) -> None:
    """Make a session with some megabytes."""
    create = b'{"id": "full"}'
    messages = b",".join(b'{"role": "user", "content": "%b"}' % (b"x" * 900_000) for _ in range(4))
    append = b'{"messages": [%b]}' % messages
    connection = service.connect()
    for target, body in (
        (b"POST /v1/sessions", create),
        (b"POST /v1/sessions/full/messages", append),
    ):
        head = authorized(service, target, b"Content-Length: %d\r\n" % len(body))
        connection.sendall(head + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 201"), answer
        left = int(answer.partition(b"content-length: ")[2].partition(b"\r")[0])
        left -= len(answer.partition(b"\r\n\r\n")[2])
        while left > 0:
            left -= len(connection.recv(65_536))
