"""What LangGraph's serializer wrote, taken apart without it: nothing is ever made into an object.

A checkpoint is MessagePack, or JSON in releases before 2.0, of which only the outermost two levels
are read. What they hold stays as the bytes that it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agent_cores.session.frameworks.values import DamagedError, object_of, time_of

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.adapters.pieces import Typed

_CODECS: dict[str, Any] = {
    "msgpack": (msgspec.msgpack, b"\xc0"),
    "json": (msgspec.json, b"null"),
}
"""How checkpoints are encoded, and how that encodes nothing."""
_RAW = dict[str, msgspec.Raw]
_NULL = "null", b""
Versions = dict[str, str]
"""The version of each channel."""


class Checkpoint(NamedTuple):
    """A checkpoint, without and with the values of its channels that are stored in it."""

    typed: Typed
    versions: Versions
    values: dict[str, Typed]
    at: datetime | None


def checkpoint_of(kind: str | None, data: bytes) -> Checkpoint:
    """Take a serialized checkpoint apart; ``DamagedError`` if that cannot be done."""
    codec, nothing = _CODECS.get(kind or "", (None, b""))
    if codec is None:
        raise DamagedError(f"is of type {kind!r}, which is encrypted, or not known here")
    try:
        fields = codec.decode(data, type=_RAW)
        held = codec.decode(fields.pop("channel_values", codec.encode({})), type=_RAW)
        versions = codec.decode(fields["channel_versions"], type=dict[str, str | int | float])
        at = time_of(codec.decode(fields.get("ts", nothing)))
    except (msgspec.MsgspecError, KeyError, ValueError, RecursionError) as error:
        raise DamagedError("cannot be decoded") from error
    values = {channel: (str(kind), bytes(value)) for channel, value in held.items()}
    values |= {channel: _NULL for channel, value in values.items() if value[1] == nothing}
    return Checkpoint((str(kind), codec.encode(fields)), _texts(versions), values, at)


def checkpoint_of_json(value: object) -> Checkpoint:
    """Take a checkpoint apart that PostgreSQL holds as JSON, with simple values in it."""
    fields = object_of(value)
    values, versions = fields.pop("channel_values", None), fields.get("channel_versions")
    if not isinstance(versions, dict) or not isinstance(values, dict | None):
        raise DamagedError("has no versions or no values of channels")
    found = {channel: typed_of_json(each) for channel, each in (values or {}).items()}
    return Checkpoint(typed_of_json(fields), _texts(versions), found, time_of(fields.get("ts")))


def typed_of_json(value: object) -> Typed:
    """Return JSON as the serializer would write it."""
    try:
        return _NULL if value is None else ("msgpack", msgspec.msgpack.encode(value))
    except (OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise DamagedError("cannot be encoded") from error


def _texts(versions: dict[str, Any]) -> Versions:
    return {channel: str(version) for channel, version in versions.items()}
