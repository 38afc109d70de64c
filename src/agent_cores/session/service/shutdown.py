"""How a serving process stops: it first reports not ready, then closes connections.

The server and the manager do the rest: requests in flight finish, and queued writes are written.
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
    """From the service's start, let SIGTERM turn ``/readyz`` to 503 before the server stops.

    The server gets the signal after ``drain_seconds``, so that a load balancer has time to notice.
    Its own handler is taken over when the service starts, and called then.
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
    """Keep the signal that stopped a server from also ending the process.

    After a signal, a uvicorn server restores the previous handlers and raises the signal again,
    which would end the process before the manager is closed.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
