"""Callers of the metrics port cannot use up the threads and files of the service."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agent_cores.session.service.metrics import listening
from agent_cores.session.service.metrics.exporting import listener
from tests.service.processes import SECONDS


@pytest.fixture
def place() -> Iterator[tuple[str, int]]:
    """Return where metrics are served."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    with listener(host, port, None):
        yield host, port


def scrape(place: tuple[str, int]) -> str:
    with urllib.request.urlopen(f"http://{place[0]}:{place[1]}/metrics", timeout=SECONDS) as found:
        text: str = found.read().decode()
        return text


def test_a_new_caller_ends_the_oldest_of_too_many_connections(place: tuple[str, int]) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(place, SECONDS)) for _ in range(80)]
        for caller in idle[: -listening.MOST_CONNECTIONS]:
            assert caller.recv(1) == b""
        assert "agent_sessions_http_requests_in_flight" in scrape(place)
        assert threading.active_count() <= before + listening.MOST_CONNECTIONS + 1


def test_a_caller_who_sends_nothing_more_is_hung_up_on(
    place: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening._Handler, "timeout", 0.05)  # noqa: SLF001 - seconds otherwise
    with socket.create_connection(place, SECONDS) as caller:
        caller.sendall(b"GET /metrics HTTP/1.1\r\nHost:")
        assert caller.recv(1) == b""
    assert "agent_sessions_http_requests_in_flight" in scrape(place)
