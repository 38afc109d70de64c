"""How a process that serves is told to stop: not ready first, then no new connections."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
