"""One log line per request, kept cheap because every request pays for it.

If the log goes only to this program's own handler, as ``agent-sessions serve`` sets it up, the line
is made here without a ``LogRecord``. Any other logging setup gets an ordinary record.
"""

from __future__ import annotations

import logging
import time
from functools import lru_cache

from agent_cores.session.service.log.lines import (
    FIELDS,
    GatheringHandler,
    JsonFormatter,
    RequestLine,
)


class RequestLog:
    """Logs requests to one logger, without ids of sessions and without bodies."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._own: GatheringHandler | None = None

    def tell(
        self,
        request_id: bytes,
        *,
        method: str,
        route: str | None,
        status: int,
        credential: str | None,
        user: str | None,
        seconds: float,
    ) -> None:
        """Log a finished request, which took so many seconds."""
        logger = self._logger
        if not logger.isEnabledFor(logging.INFO):
            return
        line = RequestLine(
            stamp(time.time_ns() // 1_000_000),
            "info",
            logger.name,
            f"{route or method} {status}",
            request_id.decode("latin-1"),
            route,
            status,
            round(seconds * 1000, 2),
            credential,
            user,
        )
        own = self._own
        if own is None or not own.is_gathering:  # look it up once per gathering period
            own = self._own = _own_handler(logger)
        if own is not None:
            own.gather(line)
        else:
            logger.handle(_record(logger, line))


def _record(logger: logging.Logger, line: RequestLine) -> logging.LogRecord:
    """Return the record that ``logger.info()`` would make, without looking up the caller's line."""
    extra = {name: getattr(line, name) for name in FIELDS}
    words: tuple[object, ...] = ()
    return logger.makeRecord(
        logger.name, logging.INFO, __file__, 0, line.message, words, None, extra=extra
    )


@lru_cache(maxsize=2)
def stamp(millis: int) -> str:
    """Return milliseconds since 1970 as an RFC 3339 time in UTC."""
    seconds, rest = divmod(millis, 1000)
    return f"{_to_the_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=2)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _own_handler(logger: logging.Logger) -> GatheringHandler | None:
    """Return our handler if it is the only one and nothing filters or changes what it receives."""
    found: logging.Handler | None = None
    step: logging.Logger | None = logger
    if logger.filters or logger.disabled:
        return None
    while step is not None:
        for handler in step.handlers:
            if found is not None:
                return None
            found = handler
        step = step.parent if step.propagate else None
    if type(found) is not GatheringHandler:
        return None
    is_ours = type(found.formatter) is JsonFormatter and found.level <= logging.INFO
    return found if is_ours and not found.filters else None
