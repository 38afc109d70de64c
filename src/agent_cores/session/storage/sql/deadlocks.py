"""``Deadlocks``: how often a server ended a transaction of ours because of a deadlock."""

from __future__ import annotations

import logging
import time

logger: logging.Logger = logging.getLogger("agent_cores.session")

_SECONDS_BETWEEN_WARNINGS = 60.0


class Deadlocks:
    """Counts deadlocks, and logs a warning at most once a minute.

    Each one is retried, so none reaches a caller; many of them cost time. ``count`` is the number
    since the store was made.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self._last_warning: float | None = None

    def add(self) -> None:
        """Count one more."""
        self.count += 1
        now = time.monotonic()
        last = self._last_warning
        if last is None or now - last >= _SECONDS_BETWEEN_WARNINGS:
            self._last_warning = now
            logger.warning(
                "the database server ended a transaction because of a deadlock; it is retried "
                "(deadlocks so far: %d)",
                self.count,
            )
