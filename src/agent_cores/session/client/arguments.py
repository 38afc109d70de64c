"""Convert arguments for HTTP. What JSON cannot express is refused here, with the field's name.

Everything else is left to the service, so that each rule exists in one place.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET, UnsetType

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.inputs import (
    DEFAULT_TTL_HOURS,
    Inputs,
    expected_state,
    new_id,
    plain_text,
    ttl_seconds,
)
from agent_cores.session.inputs import lease as lease_length
from agent_cores.session.models.limits import DEFAULT_LIMITS
from agent_cores.session.models.message import NewMessage
from agent_cores.session.models.new_session import NewSession, read_create
from agent_cores.session.models.raw_json import checked_content
from agent_cores.session.models.session import RenewOn
from agent_cores.session.models.times import whole_millis
from agent_cores.session.models.values import to_json
from agent_cores.session.wire import shapes

_DEEPEST = 500
"""Deeper than any service allows, but shallow enough to check without overflow."""

INPUTS = Inputs(msgspec.structs.replace(DEFAULT_LIMITS, name_bytes=4_096))
"""The rules for names; the service bounds their length. Longer ones do not fit a header."""


def raw(value: object, field: str) -> Any:  # noqa: ANN401 - any field of a shape
    """Return a value as ``msgspec.Raw`` JSON; refuse what is not plain JSON."""
    held = _held(value)
    return msgspec.Raw(to_json(held, field, depth=_DEEPEST, at_most=sys.maxsize))


def plain(value: object) -> object:
    """Return a number or a text of a subclass as what it holds, for an encoder."""
    if isinstance(value, float):
        return float(value)
    held = _held(value)
    if held is value:
        raise TypeError(type(value).__name__)
    return held


def _held(value: object) -> object:
    """Return a text or an integer of a subclass as what it holds, and any other value unchanged."""
    if isinstance(value, str):
        return str.__str__(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def content(value: object, field: str) -> Any:  # noqa: ANN401 - see above
    """Return what a message says as JSON; ``msgspec.Raw`` stays as it is."""
    if isinstance(value, msgspec.Raw):
        return msgspec.Raw(checked_content(value, field, depth=_DEEPEST, at_most=sys.maxsize))
    return raw(value, field)


def optional(value: object, field: str) -> Any:  # noqa: ANN401 - see above
    """Return a value as JSON, or ``None``."""
    return None if value is None else raw(value, field)


def mapping(value: object, field: str, *, by_key: bool = False) -> Any:  # noqa: ANN401 - see above
    """Return a mapping as JSON. ``by_key``: an error names the key."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInputError(field, f"a mapping, not {type(value).__name__}")
    if not by_key:
        given = dict(value)
        tags = given.get("tags")
        if isinstance(tags, Iterable) and not isinstance(tags, str | bytes | Mapping):
            given["tags"] = [_held(tag) for tag in tags]
            raw(given["tags"], f"{field}/tags")
        if "title" in given:
            given["title"] = _held(given["title"])
        return raw(given, field)
    if not all(isinstance(key, str) for key in value):
        raise InvalidInputError(field, "keys are text")
    given = {str.__str__(key): item for key, item in value.items()}
    raw(list(given), field)
    return {key: raw(item, f"{field}/{key}") for key, item in given.items()}


def plain_mapping(value: object, field: str) -> Any:  # noqa: ANN401 - see above
    """Return a mapping, none of whose keys has a meaning of its own, as JSON."""
    if not isinstance(value, Mapping):
        raise InvalidInputError(field, f"a mapping, not {type(value).__name__}")
    return raw(dict(value), field)


def names(value: object, field: str) -> Any:  # noqa: ANN401 - see above
    """Return a list of strings or numbers."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidInputError(field, f"a list of text, not {type(value).__name__}")
    return raw([_held(item) for item in value], field)


def integer(value: object, field: str) -> int:
    """Return an integer; the service checks its bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(field, f"an integer, not {type(value).__name__}")
    return int(value)


def expected(revision: object, version: object) -> dict[str, str]:
    """Return the header with the version that the session is expected to have."""
    wanted = expected_state(revision, version)
    if version is not None:
        return {"If-Match": f'"{plain_text(version, "expected_version")}"'}
    if wanted.revision is None:
        return {}
    if wanted.revision >= 10**18:
        raise InvalidInputError("expected_revision", "out of range")
    return {"If-Match": f'"{wanted.revision}"'}


def guards(last_seq: object, turn: object) -> dict[str, Any]:
    """Return the query for the conditions of a write that has no body."""
    return {
        "expected_last_seq": None if last_seq is None else integer(last_seq, "expected_last_seq"),
        "turn": INPUTS.turn(turn),
    }


def seconds(hours: object, field: str) -> int | None:
    """Return hours as whole seconds, rounded up: HTTP carries nothing finer."""
    whole = ttl_seconds(hours, field)
    return None if whole is None else math.ceil(whole)


def ttl(hours: object) -> int | UnsetType | None:
    """Return the idle time in seconds; unset if omitted."""
    return UNSET if hours is DEFAULT_TTL_HOURS else seconds(hours, "ttl_hours")


def renewed_ttl(hours: object) -> int | UnsetType | None:
    """Return the new idle time in seconds; unset if omitted."""
    if hours is UNSET:
        return UNSET
    if hours is DEFAULT_TTL_HOURS:
        problem = "a number of hours: only create and fork may ask for the service's default"
        raise InvalidInputError("ttl_hours", problem)
    return seconds(hours, "ttl_hours")


def lease(value: object) -> int:
    """Return a lease in whole seconds, rounded up."""
    return math.ceil(lease_length(value))


def instant(value: object, field: str) -> Any:  # noqa: ANN401 - see above
    """Return an aware datetime, to the millisecond."""
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidInputError(field, "an aware datetime, or None")
    try:
        return whole_millis(value).isoformat()
    except OverflowError as error:
        raise InvalidInputError(field, "must be in the years 1 to 9999") from error


def message(item: object, path: str) -> dict[str, Any]:
    """Return a message to append; a missing id is generated, so that a retry is recognised."""
    if isinstance(item, NewMessage):
        item = {name: getattr(item, name) for name in item.__struct_fields__}
    if not isinstance(item, Mapping):
        raise InvalidInputError(path, f"a mapping or NewMessage, not {type(item).__name__}")
    given = {str(key): value for key, value in item.items()}
    if given.get("id") is None:
        given["id"] = new_id()
    if isinstance(given.get("metadata"), Mapping):
        given["metadata"] = dict(given["metadata"])
    prefix = f"{path}/" if path else ""
    for field in ("created_at", "author_id"):
        if field in given and given[field] is None:
            del given[field]
    if "created_at" in given:
        given["created_at"] = instant(given["created_at"], f"{prefix}created_at")
    fields = {} if path else {"id": "message_id"}
    return {
        key: (content if key == "content" else raw)(value, prefix + fields.get(key, key))
        for key, value in given.items()
    }


def messages(items: object) -> Any:  # noqa: ANN401 - see above
    """Return messages to append."""
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        raise InvalidInputError("messages", f"a list, not {type(items).__name__}")
    return [message(item, f"messages/{index}") for index, item in enumerate(items)]


def new_session(given: NewSession) -> dict[str, Any]:
    """Return the fields of the request for what a session begins with."""
    return {
        "title": optional(given.get("title"), "title"),
        "metadata": mapping(given.get("metadata"), "metadata"),
        "public": raw(given.get("public", False), "public"),
        "ttl_seconds": ttl(given.get("ttl_hours", DEFAULT_TTL_HOURS)),
        "max_lifetime_seconds": seconds(given.get("max_lifetime_hours"), "max_lifetime_hours"),
        "renew_on": raw(given.get("renew_on", RenewOn.WRITE), "renew_on"),
    }


def create(given: object) -> Any:  # noqa: ANN401 - see above
    """Return the field ``create`` of an append."""
    if isinstance(given, bool):
        return given
    try:
        return shapes.NewSession(**new_session(read_create(given)))
    except InvalidInputError as error:
        field = error.field if error.field == "create" else f"create/{error.field}"
        raise InvalidInputError(field, error.problem) from error


def texts(value: object, field: str) -> list[str]:
    """Return strings for a query."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidInputError(field, f"a list of text, not {type(value).__name__}")
    return [text(item, field) for item in value]


def json_text(value: object, field: str) -> str:
    """Return a mapping as JSON, for a query."""
    if not isinstance(value, Mapping):
        raise InvalidInputError(field, f"a mapping, not {type(value).__name__}")
    return to_json(dict(value), field, depth=_DEEPEST, at_most=sys.maxsize).decode()


def text(value: object, field: str) -> str:
    """Return a string for a query."""
    if not isinstance(value, str):
        raise InvalidInputError(field, f"text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(field, "text with a lone surrogate") from error
    return str.__str__(value)


def segment(text: str) -> str:
    """Return a string as one step of a path."""
    return quote(text, safe="").replace(".", "%2E") if text in {".", ".."} else quote(text, safe="")
