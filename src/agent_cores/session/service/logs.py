"""Logs as lines of JSON: what was asked, by whose key, and how it went; never what was said."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from agent_cores.session.service.failures import outline

GATHERED_SECONDS = 0.2
_encode = msgspec.json.Encoder().encode
_NEVER = float("-inf")
FIELDS = ("request_id", "route", "status", "duration_ms", "credential")
"""What a line of a request tells beside what all lines do."""


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """The fields of a line about a request, in the order in which they are written.

    ``JsonFormatter`` makes the same of a record.
    """

    time: str
    level: str
    logger: str
    message: str
    request_id: str
    route: str | None
    status: int
    duration_ms: float
    credential: str | None


class JsonFormatter(logging.Formatter):
    """One line of JSON a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds")[:23] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = outline(record.exc_info[1])
        return msgspec.json.encode(line, enc_hook=str).decode()


class GatheringHandler(logging.StreamHandler[TextIO]):
    """Writes what the requests of a moment tell in one piece: a write for each costs too much.

    A warning is written at once, and so is what no request tells: the process may end right after.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str | RequestLine] = []
        self._written_at = _NEVER

    @property
    def is_gathering(self) -> bool:
        """Whether lines are kept that will be written in a moment."""
        return bool(self._lines) and time.monotonic() < self._written_at

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line for at most ``GATHERED_SECONDS``."""
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:  # noqa: BLE001 - a line that cannot be made must not fail a request
            self.handleError(record)
            return
        loop = asyncio._get_running_loop()  # noqa: SLF001 - documented, and does not raise
        of_a_request = hasattr(record, "request_id") and record.levelno < logging.WARNING
        if loop is None or not of_a_request:
            self.flush()
        else:
            self._flush_soon()

    def gather(self, line: RequestLine) -> None:
        """Keep the line of a request for at most ``GATHERED_SECONDS``; it is encoded then."""
        self._lines.append(line)
        self._flush_soon()

    def _flush_soon(self) -> None:
        """See to it that the lines are written; by the next line, if the loop ends before that."""
        now = time.monotonic()
        if now >= self._written_at:
            self._written_at = now + GATHERED_SECONDS
            asyncio.get_running_loop().call_later(GATHERED_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what was gathered; where that fails, the requests go on all the same."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            self._written_at = _NEVER
            try:
                if lines:
                    self.stream.write("".join(map(self._text, lines)))
                super().flush()
            except (OSError, ValueError):
                return  # closed, or full: there is nobody left to tell it to

    def _text(self, line: str | RequestLine) -> str:
        return line if isinstance(line, str) else _encode(line).decode() + self.terminator


def log_config() -> dict[str, Any]:
    """Return what ``logging.config.dictConfig`` takes: everything to standard error, as JSON."""
    quiet = {"handlers": ["stderr"], "level": "INFO", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"()": GatheringHandler, "formatter": "json"}},
        "loggers": {"agent_cores": quiet, "uvicorn": quiet},
    }
