"""What callers of the metrics port may hold, and what they read while workers are replaced."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent_cores.session.service.metrics import listening
from agent_cores.session.service.metrics.exporting import listener
from tests.service.processes import SECONDS, get, logged, run, serving, workers_of


def free_place() -> tuple[str, int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    return host, port


@pytest.fixture
def place() -> Iterator[tuple[str, int]]:
    """Return where metrics are served."""
    host, port = free_place()
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
        most, until = before + listening.MOST_CONNECTIONS + 1, time.monotonic() + SECONDS
        while threading.active_count() > most and time.monotonic() < until:
            time.sleep(0.01)  # a caller is hung up on before its thread has ended
        assert threading.active_count() <= most


def test_a_caller_who_sends_nothing_more_is_hung_up_on(
    place: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening._Handler, "timeout", 0.05)  # noqa: SLF001 - seconds otherwise
    with socket.create_connection(place, SECONDS) as caller:
        caller.sendall(b"GET /metrics HTTP/1.1\r\nHost:")
        assert caller.recv(1) == b""
    assert "agent_sessions_http_requests_in_flight" in scrape(place)


def counted(place: tuple[str, int]) -> int:
    """Return how many requests the workers have counted."""
    series = 'agent_sessions_http_request_seconds_count{route="GET /v1/me",status="200"}'
    found = re.search(rf"^{re.escape(series)} (\S+)$", scrape(place), re.MULTILINE)
    return 0 if found is None else int(float(found[1]))


def test_workers_that_are_replaced_hand_over_all_that_they_counted(tmp_path: Path) -> None:
    place = free_place()
    more = {"SESSION_SERVICE_METRICS_PORT": str(place[1])}
    key = {"Authorization": f"Bearer {run(tmp_path, 'keys', 'create', 'x').stdout.strip()}"}
    with serving(tmp_path, "--workers", "2", first_run=False, **more) as (process, address, _):
        process.send_signal(signal.SIGHUP)
        asked, until = 0, time.monotonic() + SECONDS
        while ended(tmp_path) < 2 and time.monotonic() < until:
            assert get(f"{address}/v1/me", key)[0] == 200
            asked += 1
        while counted(place) < asked and time.monotonic() < until:
            time.sleep(0.1)
        assert (ended(tmp_path), counted(place)) == (2, asked)


def test_workers_that_are_told_to_stop_hand_over_what_they_counted_last(tmp_path: Path) -> None:
    place = free_place()
    more = {"SESSION_SERVICE_METRICS_PORT": str(place[1])}
    key = {"Authorization": f"Bearer {run(tmp_path, 'keys', 'create', 'x').stdout.strip()}"}
    with serving(tmp_path, "--workers", "2", first_run=False, **more) as (process, address, _):
        asked = 40
        for _ in range(asked):  # a connection each, so that both workers get some
            assert get(f"{address}/v1/me", key)[0] == 200
        for worker in workers_of(process):
            worker.terminate()
        until = time.monotonic() + SECONDS
        while (ended(tmp_path) < 2 or counted(place) < asked) and time.monotonic() < until:
            time.sleep(0.1)
        assert (ended(tmp_path), counted(place)) == (2, asked)


def ended(folder: Path) -> int:
    """Return how many workers have ended."""
    lines = [line["message"] for line in logged(folder)]
    return sum(line.startswith("Finished server process") for line in lines)
