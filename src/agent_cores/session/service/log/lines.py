"""Logs as lines of JSON: what was asked, by whose key, and how it went; never what was said."""

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

    A warning is handed on at once, and so is what no request tells. A thread writes them, so that
    nothing waits for who reads the log; ``flush`` waits for a second at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str | RequestLine] = []
        self._written_at = _NEVER
        self.writer = LogWriter(_lost_lines)

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
        if loop is None:
            self.flush()
        elif hasattr(record, "request_id") and record.levelno < logging.WARNING:
            self._write_soon()
        else:
            self._write()

    def gather(self, line: RequestLine) -> None:
        """Keep the line of a request for at most ``GATHERED_SECONDS``; it is encoded then."""
        self._lines.append(line)
        self._write_soon()

    def _write_soon(self) -> None:
        """See to it that the lines are written; by the next line, if the loop ends before that."""
        now = time.monotonic()
        if now >= self._written_at:
            self._written_at = now + GATHERED_SECONDS
            asyncio.get_running_loop().call_later(GATHERED_SECONDS, self._write)

    def _write(self) -> None:
        """Hand what was gathered to the thread that writes."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            self._written_at = _NEVER
            if lines:
                self.writer.write(self.stream, "".join(map(self._text, lines)), len(lines))

    def flush(self) -> None:
        """Write what was gathered; where that fails or takes long, all goes on without it."""
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
    """Return what ``logging.config.dictConfig`` takes: all to standard error as JSON lines."""
    quiet = {"handlers": ["stderr"], "level": "INFO", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"()": GatheringHandler, "formatter": "json"}},
        "loggers": {"agent_cores": quiet, "uvicorn": quiet},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
    }
