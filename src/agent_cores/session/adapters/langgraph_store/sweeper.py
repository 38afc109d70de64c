"""A thread that calls a blocking sweep again and again, as LangGraph's own stores have one."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log: logging.Logger = logging.getLogger(__name__)


class Sweeper:
    """At most one thread that sweeps. A sweep that fails is logged, and the next one follows."""

    def __init__(self, sweep: Callable[[], int]) -> None:
        self._sweep = sweep
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._future = self.idle()

    def idle(self) -> Future[None]:
        """Return a future that is done."""
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def start(self, seconds: float) -> Future[None]:
        """Sweep every so many seconds; return the future of the thread that runs."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive() and not self._stopped.is_set():
                return self._future
            stopped, future = threading.Event(), Future[None]()
            future.add_done_callback(lambda _: stopped.set())
            self._stopped, self._future = stopped, future
            self._thread = threading.Thread(
                target=self._run, args=(seconds, stopped, future), name="ttl-sweeper", daemon=True
            )
            self._thread.start()
            return future

    def stop(self, timeout: float | None) -> bool:
        """Stop the thread; return whether it has ended."""
        with self._lock:
            thread = self._thread
            self._stopped.set()
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def _run(self, seconds: float, stopped: threading.Event, future: Future[None]) -> None:
        while not stopped.wait(seconds):
            try:
                self._sweep()
            except Exception:
                log.exception("sweeping expired items failed")
        with suppress(InvalidStateError):  # it was cancelled
            future.set_result(None)
