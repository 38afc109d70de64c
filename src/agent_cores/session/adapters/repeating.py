"""How long an adapter repeats a call that others keep overtaking."""

from __future__ import annotations

import time

from agent_cores.session.backoff import Backoff

_SECONDS = 10.0


def backoff() -> Backoff:
    """Return the pauses between the attempts; they end after ten seconds."""
    return Backoff(until=time.monotonic() + _SECONDS)
