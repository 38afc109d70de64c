"""Logs as JSON lines: which route, whose key, which outcome; never any content."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from agent_cores.session.service.log.outline import outline
from agent_cores.session.service.log.writer import LogWriter
from agent_cores.session.verbs import audit

GATHERED_SECONDS = 0.2
_encode = msgspec.json.Encoder().encode
_NEVER = float("-inf")
FIELDS = ("request_id", "route", "status", "duration_ms", "credential", "user")
"""Fields that a request's line has besides those of every line."""


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """The fields of a request's log line, in the order in which they are written.

    ``JsonFormatter`` makes the same line from a record.
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
    user: str | None


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON line of a record."""
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds")[:23] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = audit.FIELDS if record.name == audit.logger.name else FIELDS
        line |= {name: getattr(record, name) for name in fields if hasattr(record, name)}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = outline(record.exc_info[1])
        return msgspec.json.encode(line, enc_hook=str).decode()


class GatheringHandler(logging.StreamHandler[TextIO]):
    """Gathers the lines of requests and writes them together; one write per line costs too much.

    Warnings, and records that are not about a request, are written immediately. A thread does the
    writing, so a slow log reader blocks nothing; ``flush`` waits for at most a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str | RequestLine] = []
        self._written_at = _NEVER
        self.writer: LogWriter = LogWriter(_lost_lines)

    @property
    def is_gathering(self) -> bool:
        """Whether lines are being gathered that will be written shortly."""
        return bool(self._lines) and time.monotonic() < self._written_at

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line for at most ``GATHERED_SECONDS``."""
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:  # noqa: BLE001 - a line that cannot be formatted must not fail a request
            self.handleError(record)
            return
        loop = asyncio._get_running_loop()  # noqa: SLF001 - documented, and does not raise
        if loop is None:
            self.flush()
        elif hasattr(record, "request_id") and record.levelno < logging.WARNING:
            self._write_soon()
        else:
            self._write()

    def gather(self, line: RequestLine) -> None:
        """Keep a request's line for at most ``GATHERED_SECONDS``; it is encoded when written."""
        self._lines.append(line)
        self._write_soon()

    def _write_soon(self) -> None:
        """Schedule the write; if the loop ends before it runs, the next line triggers it."""
        now = time.monotonic()
        if now >= self._written_at:
            self._written_at = now + GATHERED_SECONDS
            asyncio.get_running_loop().call_later(GATHERED_SECONDS, self._write)

    def _write(self) -> None:
        """Hand the gathered lines to the writing thread."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            self._written_at = _NEVER
            if lines:
                self.writer.write(self.stream, "".join(map(self._text, lines)), len(lines))

    def flush(self) -> None:
        """Write the gathered lines; if that fails or takes too long, continue without them."""
        self._write()
        self.writer.wait()

    def _text(self, line: str | RequestLine) -> str:
        return line if isinstance(line, str) else _encode(line).decode() + self.terminator


def _lost_lines(count: int) -> str:
    message = f"{count} lines were dropped, since the log was not read"
    now = f"{datetime.now(UTC).isoformat(timespec='milliseconds')[:23]}Z"
    line = {"time": now, "level": "warning", "logger": __name__, "message": message}
    return msgspec.json.encode(line).decode() + "\n"


def log_config() -> dict[str, Any]:
    """Return a configuration for ``dictConfig``: everything to standard error as JSON lines."""
    quiet = {"handlers": ["stderr"], "level": "INFO", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"()": GatheringHandler, "formatter": "json"}},
        "loggers": {"agent_cores": quiet, "uvicorn": quiet},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
    }
