"""Logs as lines of JSON: what was asked, by whose key, and how it went; never what was said."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

GATHERED_SECONDS = 0.2
FIELDS = ("request_id", "route", "status", "duration_ms", "credential")
"""What a line of a request tells beside what all lines do."""


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
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class GatheringHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of a moment in one piece, since a write for each would cost as much as they.

    A warning is written at once, and so is everything where no event loop runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line for at most ``GATHERED_SECONDS``."""
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:  # noqa: BLE001 - a line that cannot be made must not fail a request
            self.handleError(record)
            return
        loop = asyncio._get_running_loop()  # noqa: SLF001 - documented, and does not raise
        if loop is None or record.levelno >= logging.WARNING:
            self.flush()
        elif self._timer is None or self._timer.when() < loop.time():
            self._timer = loop.call_later(GATHERED_SECONDS, self.flush)

    def gather(self, line: str) -> None:
        """Keep a line of a request, made already, for at most ``GATHERED_SECONDS``."""
        self._lines.append(line + self.terminator)
        timer, loop = self._timer, asyncio.get_running_loop()
        if timer is None or timer.when() < loop.time():
            self._timer = loop.call_later(GATHERED_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what was gathered."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("".join(lines))
            super().flush()


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
