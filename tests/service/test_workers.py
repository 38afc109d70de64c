"""Several workers: one that ends is replaced, none outlives its supervisor, the status is true."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvicorn

import agent_cores.session.cli.supervisor as module
from agent_cores.session.cli.sockets import listening_sockets
from agent_cores.session.cli.supervisor import Supervisor
from agent_cores.session.errors import ConfigurationError
from agent_cores.session.service.settings import ServiceSettings
from tests.service.processes import SECONDS, get, logged, run, serving, workers_of


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 3 * SECONDS  # processes are started meanwhile
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(address: str) -> bool:
    with contextlib.suppress(OSError):
        return get(f"{address}/healthz")[0] == 200
    return False


def started(folder: Path) -> int:
    lines = [line["message"] for line in logged(folder)]
    return lines.count("Application startup complete.")


def ends(folder: Path) -> list[str]:
    return [line["message"] for line in logged(folder) if "the next one starts" in line["message"]]


@pytest.fixture
def key(tmp_path: Path) -> str:
    """Make a key, without which several workers do not start."""
    return run(tmp_path, "keys", "create", "x").stdout.strip()


@pytest.mark.usefixtures("key")
def test_a_worker_that_dies_is_replaced_also_while_it_cannot_start(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", first_run=False) as (process, address, _):
        until(lambda: started(tmp_path) == 2)
        moved = {file: file.with_name(f"{file.name}.away") for file in tmp_path.glob("*.db*")}
        for file, away in moved.items():
            file.rename(away)
        (tmp_path / "sessions.db").mkdir()  # the store is away: a worker cannot open it
        victim = workers_of(process)[0]
        victim.kill()
        until(lambda: len(ends(tmp_path)) >= 2)  # itself, and the first one after it
        assert process.poll() is None
        assert answers(address)
        (tmp_path / "sessions.db").rmdir()
        for file, away in moved.items():
            away.rename(file)
        until(lambda: started(tmp_path) == 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    first, second = ends(tmp_path)[:2]
    assert "ended with -9; the next one starts in 0.5 s" in first
    assert "ended with 3; the next one starts in 1.0 s" in second


@pytest.mark.usefixtures("key")
def test_workers_do_not_outlive_their_supervisor(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", first_run=False) as (process, address, _):
        until(lambda: started(tmp_path) == 2)
        workers = workers_of(process)
        process.kill()
        process.wait(SECONDS)
        gone, alive = psutil.wait_procs(workers, SECONDS)
    assert (len(gone), alive) == (2, [])
    assert not answers(address)
    lines = [line["message"] for line in logged(tmp_path)]
    assert sum(line.startswith("Finished server process") for line in lines) == 2


@pytest.mark.usefixtures("key")
def test_a_stop_does_not_wait_for_the_end_of_a_replacement(tmp_path: Path) -> None:
    drains = {"SESSION_SERVICE_DRAIN_SECONDS": "3"}
    with serving(tmp_path, "--workers", "2", first_run=False, **drains) as (process, _, _printed):
        until(lambda: started(tmp_path) == 2)
        process.send_signal(signal.SIGHUP)
        until(lambda: "Terminated child process" in (tmp_path / "log").read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert started(tmp_path) == 3, "the second worker is not replaced any more"
    lines = [line["message"] for line in logged(tmp_path)]
    assert sum(line.startswith("Finished server process") for line in lines) == 3


class Ended:
    """A worker that has ended."""

    pid, exitcode = 1, 3

    def __init__(self, *_: object) -> None:
        self.process = self

    def start(self) -> None:
        pass

    def is_alive(self, timeout: float) -> bool:
        return timeout < 0

    def join(self, timeout: float = 0) -> None:
        del timeout

    def kill(self) -> None:
        self.exitcode = -9

    def terminate(self) -> None:
        pass


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(module, "Worker", Ended)
    before = {number: signal.getsignal(number) for number in signal.valid_signals() - {9, 19}}
    config = uvicorn.Config("x:y", workers=1, log_config=None)
    yield Supervisor(config, [], ServiceSettings(workers=1))
    for number, handler in before.items():
        if handler is not None:
            signal.signal(number, handler)


def test_a_worker_that_starts_slowly_is_not_killed() -> None:
    config = uvicorn.Config(
        "starlette.applications:Starlette",
        factory=True,
        workers=1,
        lifespan="off",
        log_config=None,
        timeout_worker_healthcheck=0,  # no process answers as fast as that
    )
    sockets = listening_sockets("127.0.0.1", 0)
    worker = module.Worker(config, sockets)
    worker.start()
    try:
        while not worker.has_answered:
            assert worker.is_alive(0)
            time.sleep(0.01)
        assert worker.wait_until_ready(SECONDS)
    finally:
        worker.terminate()
        worker.join()
        sockets[0].close()


def test_a_worker_that_never_answers_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_START_SECONDS", 0.1)
    worker = module.Worker(uvicorn.Config("x:y"), [])
    monkeypatch.setattr(worker, "process", Ended())
    monkeypatch.setattr(Ended, "is_alive", lambda _: True)
    worker.start()
    assert worker.is_alive()
    time.sleep(0.2)
    assert not worker.is_alive()


def test_a_service_that_never_runs_gives_up_and_says_so(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    supervisor.init_processes()
    starts = 1
    while not supervisor.should_exit.is_set():
        supervisor.keep_subprocess_alive()
        now += 0.5
        starts += 1
        assert starts < 200
    assert supervisor.status == 1
    assert now - 1_000 > 10  # it is given some time


def test_one_that_has_run_is_started_for_ever(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    supervisor.init_processes()
    supervisor._has_run = True  # noqa: SLF001
    seen = set()
    for _ in range(1_000):
        supervisor.keep_subprocess_alive()
        now += 0.5
        seen.add(supervisor._pause)  # noqa: SLF001
    assert not supervisor.should_exit.is_set()
    assert max(seen) == 30


def test_a_worker_that_failed_makes_the_status_1(supervisor: Supervisor) -> None:
    supervisor.init_processes()
    supervisor.terminate_all()
    supervisor.join_all()
    assert supervisor.status == 1


class Hanging(Ended):
    """A worker that serves, and does not stop until it is killed."""

    exitcode = None  # type: ignore[assignment]

    def wait_until_ready(self, *_: object) -> bool:
        return True


def test_a_worker_that_hangs_is_killed_when_it_is_replaced_or_removed(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Worker", Hanging)
    supervisor._stop_seconds = 0  # noqa: SLF001
    supervisor.init_processes()
    supervisor.handle_ttin()
    before = list(supervisor.processes)
    supervisor.restart_all()
    last = supervisor.processes[-1]
    supervisor.handle_ttou()
    supervisor.handle_ttou()
    assert [worker.exitcode for worker in (*before, last)] == [-9, -9, -9]
    assert len(supervisor.processes) == 1
    assert supervisor.processes[0].exitcode is None


def test_a_port_that_there_is_not_is_refused(tmp_path: Path) -> None:
    refused = run(tmp_path, "serve", "--port", "99999")
    assert refused.returncode == 2
    assert "SESSION_SERVICE_PORT is at most 65535" in refused.stderr
    assert "Listening" not in refused.stdout


def test_every_address_is_that_of_both_families() -> None:
    sockets = listening_sockets("::", 0)
    try:
        assert len(sockets) == 1
        port = sockets[0].getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=SECONDS).close()
    finally:
        for one in sockets:
            one.close()


def test_a_name_is_all_that_it_resolves_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_: object, **__: object) -> list[Any]:
        kind = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET6, *kind, ("::1", 0, 0, 0)),
            (socket.AF_INET, *kind, ("127.0.0.1", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    sockets = listening_sockets("localhost", 0)
    names = [one.getsockname() for one in sockets]
    for one in sockets:
        one.close()
    assert [name[0] for name in names] == ["::1", "127.0.0.1"]
    assert len({name[1] for name in names}) == 1


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1", "x" * 300, "\x00"])
def test_a_host_that_is_not_here_is_refused_in_words(host: str) -> None:
    with pytest.raises(ConfigurationError):
        listening_sockets(host, 0)


def test_a_port_that_is_taken_is_refused_in_a_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = run(tmp_path, "serve", "--port", str(port))
    assert refused.returncode == 2
    assert f"cannot listen on ('127.0.0.1', {port})" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_all_of_the_machine_with_one_worker_is_both_families(tmp_path: Path) -> None:
    assert run(tmp_path, "keys", "create", "x").returncode == 0
    with serving(tmp_path, "--host", "::", first_run=False) as (_, address, _printed):
        port = address.rpartition(":")[2]
        assert get(f"http://127.0.0.1:{port}/healthz")[0] == 200
        assert get(f"http://[::1]:{port}/healthz")[0] == 200


def test_a_process_may_open_as_many_files_as_it_has_connections() -> None:
    code = (
        "import resource as r; from agent_cores.session.cli.sockets import allow_open_files\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (256, 2_000)); allow_open_files(1_000)\n"
        "print(r.getrlimit(r.RLIMIT_NOFILE)); allow_open_files(9_000)\n"
        "print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(1512, 2000)", "(2000, 2000)"]
