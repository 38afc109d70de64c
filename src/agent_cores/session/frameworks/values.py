"""Values of foreign stores: JSON and times, in the forms that databases and files have them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from agent_cores.session.models.values import decode_json


class DamagedError(Exception):
    """A value that cannot be read; the message says why, without the value."""


def json_of(value: object) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON that a database holds as text, as bytes, or decoded already."""
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value)
    elif not isinstance(value, str):
        return value
    try:
        return decode_json(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedError("is not valid JSON") from error


def object_of(value: object) -> dict[str, Any]:
    """Return a JSON object."""
    found = json_of(value)
    if not isinstance(found, dict):
        raise DamagedError("is not a JSON object")
    return found


def time_of(value: object) -> datetime | None:
    """Return an aware time: of ISO text, of a datetime, or of seconds since 1970.

    Without a zone it is UTC. What is no time is ``None``: better no time than no message.
    """
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None
