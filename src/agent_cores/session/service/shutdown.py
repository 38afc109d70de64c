"""How a process that serves is told to stop: not ready first, then no new connections.

The end is the server's and the manager's: requests at work finish, what waits is written.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from agent_cores.session.service.app import Service


def announce_stop(service: Service) -> None:
    """From its start on, let SIGTERM turn ``/readyz`` to 503 before the server hears of it.

    The server is told after ``drain_seconds``, so that a load balancer has seen it. The handler
    that the server has set is found when the service starts, and called.
    """
    service.on_start(lambda: _take_over(service))


def _take_over(service: Service) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()

    def stop(number: int, frame: FrameType | None) -> None:
        service.draining = True
        if callable(before):
            delay = service.settings.drain_seconds
            loop.call_soon_threadsafe(loop.call_later, delay, before, number, frame)

    signal.signal(signal.SIGTERM, stop)


@contextmanager
def ignore_repeated_stop() -> Iterator[None]:
    """Within, the signal that has stopped a server does not end the process as well.

    A uvicorn server that was stopped by a signal puts the handlers from before it back and raises
    the signal again, which would end the process before the manager is closed.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
