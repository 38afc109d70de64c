"""Logs as lines of JSON: what was asked, by whose key, and how it went; never what was said."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec

_FIELDS = ("request_id", "route", "status", "duration_ms", "credential")


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
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def log_config() -> dict[str, Any]:
    """Return what ``logging.config.dictConfig`` takes: everything to standard error, as JSON."""
    quiet = {"handlers": ["stderr"], "level": "INFO", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "loggers": {"agent_cores": quiet, "uvicorn": quiet},
    }
