"""``Supervisor``: keeps the workers of a service running, and reports how it ended."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from multiprocessing import connection, current_process, parent_process
from typing import TYPE_CHECKING, Protocol

from uvicorn.supervisors.multiprocess import Multiprocess, Process

from agent_cores.session.cli.server import Server

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    import uvicorn

    from agent_cores.session.service.settings import ServiceSettings

logger: logging.Logger = logging.getLogger("uvicorn.error")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_SETTLED_SECONDS = 60.0
"""A worker that ran this long was healthy: the next pause is short again."""
_MOST_STARTS = 6
"""How often a service is retried that never ran: about 15 seconds in all."""
_START_SECONDS = 60.0
"""How long a worker may import and prepare before it responds to its first health check."""
_SPARE_SECONDS = 10.0
_POLL_SECONDS = 0.1
_FIRST = "worker 0"
_STOPS = {signal.SIGTERM, signal.SIGINT}
_STOPPED_BY = {0, *(-number for number in _STOPS)}


class _Stop(Protocol):
    """What tells to stop, such as an event."""

    def is_set(self) -> bool:
        """Whether it does."""


class _StopSignals:
    """Signals to stop that are still in the queue, since another one is being dealt with."""

    def __init__(self, queue: list[int]) -> None:
        self._queue = queue

    def is_set(self) -> bool:
        """Whether there is one."""
        return not _STOPS.isdisjoint(self._queue)


class Worker(Process):
    """One serving process."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self.has_answered: bool = False
        self._answers_by = math.inf

    def start(self) -> None:
        """Start the process, and ask it to answer once it can."""
        super().start()
        self._answers_by = time.monotonic() + _START_SECONDS
        self.parent_conn.send(b"ping")

    def is_alive(self, timeout: float = 5) -> bool:
        """Whether the process runs and responds.

        A process that still starts cannot respond yet. On a slow machine that takes longer than
        ``timeout``, and is no reason to kill it.
        """
        if not self.process.is_alive():
            return False
        if self.has_answered:
            return self.ping(timeout)
        self.has_answered = self._has_first_answer()
        return self.has_answered or time.monotonic() < self._answers_by

    def _has_first_answer(self) -> bool:
        try:
            return self.parent_conn.poll() and self.parent_conn.recv() is not None
        except (OSError, EOFError):
            return False

    def wait_until_ready(self, timeout: float, should_exit: _Stop | None = None) -> bool:
        """Wait at most ``timeout`` seconds until the process serves; return whether it does."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not (should_exit and should_exit.is_set()):
            if not self.is_alive(timeout):
                return False
            if self.has_answered and self.is_ready(timeout):
                return True
            time.sleep(_POLL_SECONDS)
        return False

    @property
    def server(self) -> Server:
        """The server of this process, created in it."""
        if self._server is None:
            self._server = Server(self.config)
        return self._server  # type: ignore[return-value]  # it is ours


class Supervisor(Multiprocess):
    """Starts workers, and restarts those that end, after a pause that doubles.

    ``announce`` is called once they serve. ``run`` returns the exit status: 0 after an orderly
    stop. If no worker ever runs, the service gives up after some starts with status 1. A stop in
    which a worker failed or had to be killed also returns 1.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        sockets: list[socket.socket],
        settings: ServiceSettings,
        announce: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config, sockets)
        self.status: int = 0
        self._announce = announce
        self._has_run = False
        self._seen: set[int] = set()
        self._failures = 0
        self._pause = _SHORTEST_PAUSE
        self._restart_at: dict[int, float] = {}
        self._started_at: dict[int, float] = {}
        self._leaving: list[Process] = []
        self._stop = _StopSignals(self.signal_queue)
        # The drain, the requests in flight, then the manager: each within its own bound.
        self._stop_seconds = settings.drain_seconds + 2 * settings.shutdown_timeout + _SPARE_SECONDS

    def init_processes(self) -> None:
        """Start the workers."""
        for index in range(self.processes_num):
            self.processes.append(self._started(index))

    def _started(self, index: int) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.process.name = _FIRST if index == 0 else f"worker {index}"
        worker.start()
        self._started_at[index] = time.monotonic()
        return worker

    def run(self) -> int:  # type: ignore[override]  # it returns the exit status
        """Serve until told to stop; return the exit status."""
        super().run()
        return self.status

    def keep_subprocess_alive(self) -> None:
        """Restart ended workers, once their pause is over."""
        for index, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if index in self._restart_at:
                if time.monotonic() >= self._restart_at[index]:
                    del self._restart_at[index]
                    self.processes[index] = self._started(index)
            elif not process.is_alive(timeout=self.config.timeout_worker_healthcheck):
                self._note_end(index, process)
            elif index not in self._seen and self._serves(process):
                self._has_run = True
                self._note_seen(index)

    def _serves(self, process: Process) -> bool:
        has_answered = isinstance(process, Worker) and process.has_answered
        return has_answered and process.is_ready(self.config.timeout_worker_healthcheck)

    def _note_seen(self, index: int) -> None:
        """Note whether a worker serves or cannot; report it once that is known of all."""
        self._seen.add(index)
        if self._has_run and self._announce is not None and len(self._seen) >= self.processes_num:
            self._announce()
            self._announce = None

    def _note_end(self, index: int, process: Process) -> None:
        process.kill()  # it runs but does not respond
        process.join()
        self._failures += 1
        self._note_seen(index)
        if not self._has_run and self._failures >= _MOST_STARTS * self.processes_num:
            logger.error("no worker could start; the service ends")
            self.status = 1
            self.should_exit.set()
            return
        if time.monotonic() - self._started_at.get(index, 0.0) >= _SETTLED_SECONDS:
            self._pause = _SHORTEST_PAUSE
        logger.error(
            "worker [%s] ended with %s; the next one starts in %s s",
            process.pid,
            process.exitcode,
            self._pause,
        )
        self._restart_at[index] = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def terminate_all(self) -> None:
        """Tell the running workers to stop."""
        for index, process in enumerate(self.processes):
            if index not in self._restart_at:
                process.terminate()

    def join_all(self) -> None:
        """Wait for the workers, for a bounded time, then kill the rest."""
        until = time.monotonic() + self._stop_seconds
        running = [one for n, one in enumerate(self.processes) if n not in self._restart_at]
        for process in (*self._leaving, *running):
            self._join(process, until)
            if process.exitcode not in _STOPPED_BY:
                self.status = 1

    def _join(self, process: Process, until: float) -> None:
        process.process.join(max(0.0, until - time.monotonic()))
        if process.process.exitcode is None:
            logger.error("worker [%s] does not stop and is killed", process.pid)
            process.process.kill()
            process.process.join()

    def restart_all(self) -> None:
        """Replace each worker by a new one, once the new one is ready; end early on a stop."""
        for index in range(len(self.processes)):
            before, after = self.processes[index], self._started(index)
            if not after.wait_until_ready(_START_SECONDS, self._stop):
                self._let_go(after)
                return
            self.processes[index] = after
            if self._restart_at.pop(index, None) is None and not self._retired(before):
                return

    def _retired(self, worker: Process) -> bool:
        """End a worker; return false, and leave it to ``join_all``, if all are to stop."""
        worker.terminate()
        until = time.monotonic() + self._stop_seconds
        while worker.process.exitcode is None and time.monotonic() < until:
            if self._stop.is_set():
                self._leaving.append(worker)
                return False
            worker.process.join(_POLL_SECONDS)
        self._join(worker, until)
        return True

    def _let_go(self, worker: Worker) -> None:
        """End a new worker that was not ready in time, or before the service was stopped."""
        if self._stop.is_set():
            worker.terminate()
            self._leaving.append(worker)
            return
        worker.kill()
        worker.join()
        logger.error("a new worker was not ready in time; those before go on")

    def handle_ttin(self) -> None:
        """Add a worker."""
        self.processes_num += 1
        self.processes.append(self._started(len(self.processes)))

    def handle_ttou(self) -> None:
        """Remove a worker, but not the last one."""
        if self.processes_num > 1:
            self.processes_num -= 1
            worker = self.processes.pop()
            if self._restart_at.pop(len(self.processes), None) is None:
                self._retired(worker)


def is_first_worker() -> bool:
    """Whether this process is the only one that serves, or the first of several."""
    return parent_process() is None or current_process().name == _FIRST


def stop_with_the_supervisor(settings: ServiceSettings) -> None:
    """Stop this worker if its supervisor is gone: it would keep the port otherwise."""
    parent = parent_process()
    if parent is None:
        return
    seconds = settings.drain_seconds + 2 * settings.shutdown_timeout + _SPARE_SECONDS

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()
