"""How messages, context values and headers are encoded for storage, with their version.

A message body and a context value are one version byte, then JSON. A header is a set of named
fields, each an integer, a float, text, bytes or ``None``. A store keeps fields by name and a write
touches only those that change, so a field that this release does not know survives.

Decoding raises ``CorruptRecordError``, which names the session, for records that are damaged or of
a newer release.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models import Grant, Message, SessionMetadata, StoredMessage, Turn
from agent_cores.session.models.message import Content
from agent_cores.session.models.representation import hides
from agent_cores.session.models.times import from_millis, to_millis
from agent_cores.session.models.values import UNREADABLE, decode_json, encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION = b"1"
FORMAT = 1

Field = int | float | str | bytes | None
Fields = dict[str, Field]


@hides("content", "metadata")
class _Body(msgspec.Struct, omit_defaults=True, gc=False):
    role: str
    content: Content
    author_id: str
    metadata: dict[str, Any]
    updated_at: int | None = None


@hides("content", "metadata")
class _RawBody(msgspec.Struct, omit_defaults=True, gc=False):
    role: str
    content: msgspec.Raw
    author_id: str
    metadata: msgspec.Raw
    updated_at: int | None = None


class Origin(msgspec.Struct, frozen=True):
    """Who wrote a message, and in which role."""

    author_id: str
    role: str


_NO_METADATA: dict[str, Any] = {}
_decode_body = msgspec.json.Decoder(_Body).decode
_decode_bodies = msgspec.json.Decoder(list[_Body]).decode
_decode_raw_bodies = msgspec.json.Decoder(list[_RawBody]).decode
_decode_origin = msgspec.json.Decoder(Origin).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_grants = msgspec.json.Decoder(dict[str, Grant]).decode
_decode_title = msgspec.json.Decoder(str | None).decode
_decode_tags = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_attributes = msgspec.json.Decoder(dict[str, Any]).decode


def encode_body(
    role: str,
    content: bytes,
    author_id: str,
    metadata: bytes,
    updated_at: datetime | None = None,
) -> bytes:
    """Return the body of a message whose ``content`` and ``metadata`` are already JSON."""
    millis = None if updated_at is None else to_millis(updated_at)
    body = _RawBody(role, msgspec.Raw(content), author_id, msgspec.Raw(metadata), millis)
    return VERSION + encode_json(body)


def encode_text(role: str, text: str, author_id: str, at_most: int) -> bytes | None:
    """Return the body of a message of plain text without metadata: the fast path of an append.

    ``None`` if it cannot be encoded or is longer than ``at_most`` bytes; ``encode_body`` and the
    full check of the input then find out what is wrong.
    """
    try:
        body = VERSION + encode_json(_Body(role, text, author_id, _NO_METADATA))
    except (TypeError, UnicodeEncodeError):
        return None
    return body if len(body) <= at_most else None


def decode_message(stored: StoredMessage, namespace: str, session_id: str) -> Message:
    """Decode a stored message."""
    try:
        return _message(stored, _decode_body(_unversioned(stored.body)))
    except UNREADABLE as error:
        problem = f"message {stored.seq} cannot be read"
        raise CorruptRecordError(namespace, session_id, problem) from error


def decode_messages(
    stored: Sequence[StoredMessage], namespace: str, session_id: str
) -> list[Message]:
    """Decode the messages of a page together, which is faster than one by one."""
    known = [message.body[1:] for message in stored if message.body[:1] == VERSION]
    try:
        bodies = _decode_bodies(b"[" + b",".join(known) + b"]")
        if len(bodies) == len(stored):
            return list(map(_message, stored, bodies))
    except UNREADABLE:
        pass  # one by one, the damaged message is found
    return [decode_message(message, namespace, session_id) for message in stored]


def raw_messages(stored: Sequence[StoredMessage], namespace: str, session_id: str) -> list[Message]:
    """Return the messages of a page with ``content`` and ``metadata`` as ``msgspec.Raw`` JSON.

    For a response that passes them on: nothing is decoded and encoded again.
    """
    try:
        texts = [_unversioned(message.body) for message in stored]
        page = b"[" + b",".join(texts) + b"]"
        page.decode()  # msgspec does not look into what it passes on
        bodies = _decode_raw_bodies(page)
        if len(bodies) == len(stored):
            return list(map(_message, stored, bodies))
    except UNREADABLE as error:
        raise CorruptRecordError(namespace, session_id, "a message cannot be read") from error
    raise CorruptRecordError(namespace, session_id, "a message cannot be read")


def author_of(stored: StoredMessage, namespace: str, session_id: str) -> str:
    """Return the author of a stored message, without decoding its content."""
    return origin_of(stored, namespace, session_id).author_id


def origin_of(stored: StoredMessage, namespace: str, session_id: str) -> Origin:
    """Return the author and the role of a stored message, without decoding its content."""
    try:
        return _decode_origin(_unversioned(stored.body))
    except UNREADABLE as error:
        problem = f"message {stored.seq} cannot be read"
        raise CorruptRecordError(namespace, session_id, problem) from error


def _message(stored: StoredMessage, body: Any) -> Message:  # noqa: ANN401 - either kind of body
    return Message(
        seq=stored.seq,
        id=stored.id,
        role=body.role,
        content=body.content,
        author_id=body.author_id,
        created_at=stored.created_at,
        metadata=body.metadata,
        updated_at=None if body.updated_at is None else from_millis(body.updated_at),
    )


def encode_message(message: Message) -> StoredMessage:
    """Encode a message for storage. Its values were checked before."""
    content, metadata = encode_json(message.content), encode_json(message.metadata)
    body = encode_body(message.role, content, message.author_id, metadata, message.updated_at)
    return StoredMessage(message.seq, message.id, message.created_at, body)


def encode_value(json: bytes) -> bytes:
    """Encode a context value, given as JSON, for storage."""
    return VERSION + json


def decode_context(entries: Mapping[str, bytes], namespace: str, session_id: str) -> dict[str, Any]:
    """Decode stored context entries."""
    try:
        return {key: decode_json(_unversioned(value)) for key, value in entries.items()}
    except UNREADABLE as error:
        problem = "a context value cannot be read"
        raise CorruptRecordError(namespace, session_id, problem) from error


def raw_context(
    entries: Mapping[str, bytes], namespace: str, session_id: str
) -> dict[str, msgspec.Raw]:
    """Return stored context entries with their values as JSON."""
    try:
        for value in entries.values():
            value.decode()  # msgspec does not look into what it passes on
        return {key: _decode_raw(_unversioned(value)) for key, value in entries.items()}
    except UNREADABLE as error:
        problem = "a context value cannot be read"
        raise CorruptRecordError(namespace, session_id, problem) from error


def _unversioned(record: bytes) -> bytes:
    if record[:1] != VERSION:
        detail = "unknown version"
        raise msgspec.DecodeError(detail)
    return record[1:]


_TIMES = ("created_at", "updated_at", "last_active_at")
_ENDS = ("expires_at", "listed_at", "due_at")
JSON_FIELDS = ("title", "tags", "attributes", "grants")
_FLAGS = ("archived", "public")
_TEXT = ("namespace", "session_id", "owner_id", "renew_on", "hold", "request_digest")
_PLAIN = tuple(
    name
    for name in SessionMetadata.__struct_fields__
    if name not in {*_TIMES, *_ENDS, *JSON_FIELDS, *_FLAGS, "turn"}
)
HEADER_FIELDS = (
    "format",
    *_PLAIN,
    *_TIMES,
    *_ENDS,
    *_FLAGS,
    *JSON_FIELDS,
    "turn_token",
    "turn_expires_at",
)
"""The names of all stored header fields. Times are milliseconds since 1970; JSON is bytes."""


def encode_header(header: SessionMetadata) -> Fields:
    """Encode a header: every field by name."""
    fields: dict[str, Any] = msgspec.structs.asdict(header)
    for name in _TIMES:
        fields[name] = to_millis(fields[name])
    for name in _ENDS:
        if fields[name] is not None:
            fields[name] = to_millis(fields[name])
    for name in _FLAGS:
        fields[name] = int(fields[name])
    for name in JSON_FIELDS:
        fields[name] = encode_json(fields[name])
    for name in _TEXT:  # some are members of an enum
        if fields[name] is not None:
            fields[name] = str(fields[name])
    del fields["turn"]
    return {"format": FORMAT, **fields, **_encode_turn(header.turn)}


def encode_changes(before: SessionMetadata, after: SessionMetadata) -> Fields:
    """Encode the fields in which ``after`` differs from ``before``."""
    fields: Fields = {}
    for name in SessionMetadata.__struct_fields__:
        value = getattr(after, name)
        if value is not getattr(before, name) and _differs(getattr(before, name), value):
            fields |= _encode_field(name, value)
    return fields


def _differs(before: object, after: object) -> bool:
    if isinstance(after, dict):  # 1, 1.0 and True are equal in Python, not as JSON
        return encode_json(before) != encode_json(after)
    return before != after


def _encode_field(name: str, value: Any) -> Fields:  # noqa: ANN401 - any field of a header
    if isinstance(value, datetime):
        return {name: to_millis(value)}
    if name == "turn":
        return _encode_turn(value)
    if name in JSON_FIELDS:
        return {name: encode_json(value)}
    if name in _FLAGS:
        return {name: int(value)}
    return {name: str(value) if isinstance(value, str) else value}


def _encode_turn(turn: Turn | None) -> Fields:
    if turn is None:
        return {"turn_token": None, "turn_expires_at": None}
    return {"turn_token": turn.token, "turn_expires_at": to_millis(turn.expires_at)}


def decode_header(fields: Mapping[str, Any], namespace: str, session_id: str) -> SessionMetadata:
    """Decode the stored fields of a header; fields with other names are ignored.

    Integers and floats may be text, as Redis returns them.
    """
    try:
        return _decode_header(fields)
    except (KeyError, TypeError, *UNREADABLE) as error:
        problem = f"its header cannot be read ({type(error).__name__})"
        raise CorruptRecordError(namespace, session_id, problem) from error


def _decode_header(fields: Mapping[str, Any]) -> SessionMetadata:
    if int(fields["format"]) != FORMAT:
        raise ValueError
    values: dict[str, Any] = {name: fields[name] for name in _PLAIN}
    for name in _TIMES:
        values[name] = from_millis(int(fields[name]))
    for name in _ENDS:
        values[name] = None if fields[name] is None else from_millis(int(fields[name]))
    for name in _FLAGS:
        values[name] = bool(int(fields[name]))
    values["title"] = _decode_title(fields["title"])
    values["tags"] = _decode_tags(fields["tags"])
    values["attributes"] = _decode_attributes(fields["attributes"])
    values["grants"] = _decode_grants(fields["grants"])
    if fields["turn_token"] is not None:
        end = from_millis(int(fields["turn_expires_at"]))
        values["turn"] = Turn(fields["turn_token"], end)
    return msgspec.convert(values, SessionMetadata, strict=False)
