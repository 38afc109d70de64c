"""A watchdog: the longest time that one callback blocked the event loop."""

# ruff: noqa: ANN401, SLF001 - it looks behind the event loop

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Stalls:
    """Seconds of processor time, which does not depend on other programs on the machine."""

    longest = 0.0


@contextmanager
def watched(patch: pytest.MonkeyPatch) -> Iterator[Stalls]:
    """Watch every callback of the event loop while the block runs."""
    stalls = Stalls()
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> Any:
        started = time.thread_time()
        try:
            return run(handle)
        finally:
            stalls.longest = max(stalls.longest, time.thread_time() - started)

    with patch.context() as patched:
        patched.setattr(asyncio.Handle, "_run", timed)
        yield stalls
