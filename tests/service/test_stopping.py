"""A process that serves is told to stop: not ready first, work finishes, and all within a bound."""

from __future__ import annotations

import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from agent_cores.session import SyncSessionManager
from tests.service.processes import SECONDS, get, key_in, logged, serving


def test_it_ends_well_with_all_that_it_had_to_say_and_write(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, address, printed):
        assert get(f"{address}/v1/me", {"Authorization": f"Bearer {key_in(printed)}"})[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    lines = [line["message"] for line in logged(tmp_path)]
    assert "GET /v1/me 200" in lines
    assert lines[-1].startswith("Finished server process")
    assert {file.name for file in tmp_path.glob("sessions.db*")} == {"sessions.db"}


def test_it_is_not_ready_first(tmp_path: Path) -> None:
    with serving(tmp_path, SESSION_SERVICE_DRAIN_SECONDS="1.5") as (process, address, _):
        kept = HTTPConnection(address.removeprefix("http://"), timeout=SECONDS)
        assert header_of(kept, "/readyz", "connection") is None
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 1
        while get(f"{address}/readyz")[0] == 200:
            assert time.monotonic() < deadline
        assert header_of(kept, "/healthz", "connection") == "close"
        assert process.wait(SECONDS) == 0
    with pytest.raises(OSError):  # noqa: PT011 - whatever the system says
        get(f"{address}/healthz")


def test_a_write_that_waits_for_the_store_is_finished(tmp_path: Path) -> None:
    file = tmp_path / "sessions.db"
    with serving(tmp_path) as (process, address, printed):
        with SyncSessionManager(f"sqlite:///{file}") as sessions:
            session_id = sessions.create_session("ann")
        body = b'{"messages": [{"role": "user", "content": "Hello"}]}'
        path = f"/v1/sessions/{session_id}/messages"
        with (
            closing(sqlite3.connect(file, isolation_level=None)) as other,
            begun(address, key_in(printed), path, len(body)) as request,
        ):
            other.execute("BEGIN IMMEDIATE")
            request.sendall(body)
            process.send_signal(signal.SIGTERM)
            wait_until_it_listens_no_more(address)
            other.execute("ROLLBACK")
            answer = all_of(request)
        assert b"HTTP/1.1 201" in answer
        assert process.wait(SECONDS) == 0
    with SyncSessionManager(f"sqlite:///{file}") as sessions:
        assert [
            message.content for message in sessions.get_session_messages(session_id, "ann")
        ] == ["Hello"]


def test_a_request_that_does_not_end_is_waited_for_within_a_bound(tmp_path: Path) -> None:
    with (
        serving(
            tmp_path,
            SESSION_SERVICE_SHUTDOWN_TIMEOUT="0.2",
            SESSION_SERVICE_BODY_TIMEOUT="3600",
        ) as (process, address, printed),
        begun(address, key_in(printed), "/v1/sessions", 100),
    ):
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert logged(tmp_path)[-1]["message"].startswith("Finished server process")
    assert {file.name for file in tmp_path.glob("sessions.db*")} == {"sessions.db"}


@contextmanager
def begun(address: str, key: str, path: str, length: int) -> Iterator[socket.socket]:
    """Give a connection with a request that is being worked on and whose body is awaited."""
    host, _, port = address.removeprefix("http://").partition(":")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        "X-User-Id: ann\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        yield connection


def header_of(connection: HTTPConnection, path: str, name: str) -> str | None:
    connection.request("GET", path)
    with connection.getresponse() as response:
        assert response.status == 200
        response.read()
        return response.getheader(name)


def all_of(connection: socket.socket) -> bytes:
    read = b""
    while some := connection.recv(65_536):
        read += some
    return read


def wait_until_it_listens_no_more(address: str) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            get(f"{address}/healthz")
        except OSError:
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)
