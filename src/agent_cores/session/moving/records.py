"""The lines of an export: JSON, one record a line, each with its checksum.

A line is ``{"sha256": "…", "record": {…}}``: the checksum is that of the record's bytes as they
stand in the line. The first record is ``opening``, the last one ``closing``. The fields are
described in ``docs/moving-data.md``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.codec import JSON_FIELDS, VERSION, decode_header, encode_header
from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.representation import hides
from agent_cores.session.models.times import from_millis, to_millis
from agent_cores.session.models.values import decode_json, encode_json
from agent_cores.session.moving.walking import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent_cores.session.models.session import SessionMetadata

FORMAT = "agent-sessions export"
FORMAT_VERSION = 1
_AS_TEXT = ("incarnation", "access_revision")
"""Fields of 63 bits, which many JSON readers would round."""


class Opening(msgspec.Struct, tag_field="kind", tag="opening"):
    """The first record."""

    format: str
    version: int
    written_at: str


@hides("body")
class MessageShape(msgspec.Struct):
    """A message. ``created_at`` is in milliseconds since 1970; see ``_message_shape``."""

    seq: int
    id: str
    created_at: int
    body: msgspec.Raw


@hides("context", "context_text", "messages")
class SessionRecord(msgspec.Struct, tag_field="kind", tag="session", omit_defaults=True):
    """A session, with the first of its messages; ``more`` follow in records of their own.

    ``context_text`` has the entries whose JSON does not fit a line as it is.
    """

    header: dict[str, msgspec.Raw]
    context: dict[str, msgspec.Raw] = {}
    context_text: dict[str, str] = {}
    messages: list[MessageShape] = []
    more: bool = False


@hides("messages")
class MessagesRecord(msgspec.Struct, tag_field="kind", tag="messages", omit_defaults=True):
    """Further messages of the session before it."""

    messages: list[MessageShape] = []
    more: bool = False


class VoidRecord(msgspec.Struct, tag_field="kind", tag="void"):
    """The session before it was changed while it was read: forget it."""


class Closing(msgspec.Struct, tag_field="kind", tag="closing"):
    """The last record. ``sha256`` is that of the checksums of all lines before it, joined."""

    sessions: int
    messages: int
    sha256: str


Record = Opening | SessionRecord | MessagesRecord | VoidRecord | Closing


class Line(msgspec.Struct):
    """A line: the record's JSON, and its checksum."""

    sha256: str
    record: msgspec.Raw


_encode = msgspec.json.Encoder().encode
decode_line: Callable[[bytes], Line] = msgspec.json.Decoder(Line).decode
decode_record: Callable[[msgspec.Raw], Record] = msgspec.json.Decoder(Record).decode


def checksum(record: bytes) -> str:
    """Return the checksum of a record's bytes."""
    return hashlib.sha256(record).hexdigest()


def encode_line(record: Record) -> tuple[bytes, str]:
    """Return the line of a record, with its line end, and its checksum."""
    encoded = _encode(record)
    digest = checksum(encoded)
    return b'{"sha256":"%b","record":%b}\n' % (digest.encode(), encoded), digest


def record_of(part: Part) -> SessionRecord | MessagesRecord:
    """Return the record of a part; ``CorruptRecordError`` if it is of an unknown version."""
    header, more = part.header, not part.is_last
    messages = [_message_shape(message, header) for message in part.messages]
    if not part.is_first:
        return MessagesRecord(messages, more=more)
    context = {key: _unversioned(value, header) for key, value in part.context.items()}
    fits = {key: msgspec.Raw(value) for key, value in context.items() if _fits(value)}
    text = {key: value.decode() for key, value in context.items() if key not in fits}
    return SessionRecord(_header_shape(header), fits, text, messages, more=more)


def part_of(record: SessionRecord | MessagesRecord, header: SessionMetadata) -> Part:
    """Return the part that a record was made of; ``CorruptRecordError`` if it cannot be read."""
    try:
        messages = tuple(map(_message_of, record.messages))
    except (OverflowError, ValueError) as error:  # a time out of bounds, a body that is no JSON
        problem = "a message of the export cannot be read"
        raise CorruptRecordError(header.namespace, header.session_id, problem) from error
    if isinstance(record, MessagesRecord):
        return Part(header=header, messages=messages, is_first=False, is_last=not record.more)
    context = {key: VERSION + bytes(value) for key, value in record.context.items()}
    context |= {key: VERSION + value.encode() for key, value in record.context_text.items()}
    return Part(header=header, context=context, messages=messages, is_last=not record.more)


def header_of(record: SessionRecord) -> SessionMetadata:
    """Return the header in a record; ``CorruptRecordError`` if it cannot be read."""
    fields: dict[str, Any] = {
        name: bytes(value) if name in JSON_FIELDS else decode_json(value)
        for name, value in record.header.items()
    }
    return decode_header(fields, str(fields.get("namespace")), str(fields.get("session_id")))


def _header_shape(header: SessionMetadata) -> dict[str, msgspec.Raw]:
    fields: Mapping[str, Any] = encode_header(header)
    shape = {}
    for name, value in fields.items():
        given = str(value) if name in _AS_TEXT and value is not None else value
        shape[name] = msgspec.Raw(given if isinstance(given, bytes) else encode_json(given))
    return shape


def _message_shape(message: StoredMessage, header: SessionMetadata) -> MessageShape:
    """Return a message whose body is its JSON object, or text where that does not fit a line."""
    body = _unversioned(message.body, header)
    shape = body if _fits(body) else encode_json(body.decode())
    return MessageShape(message.seq, message.id, to_millis(message.created_at), msgspec.Raw(shape))


def _message_of(shape: MessageShape) -> StoredMessage:
    body = bytes(shape.body)
    if body.startswith(b'"'):
        body = msgspec.json.decode(body, type=str).encode()
    return StoredMessage(shape.seq, shape.id, from_millis(shape.created_at), VERSION + body)


def _fits(json: bytes) -> bool:
    """Whether JSON can be embedded in a line as it is, and read back byte for byte."""
    return b"\n" not in json and b"\r" not in json and json == json.strip()


def _unversioned(stored: bytes, header: SessionMetadata) -> bytes:
    if stored[:1] != VERSION:
        problem = "a record is of a version that this release cannot read"
        raise CorruptRecordError(header.namespace, header.session_id, problem)
    return stored[1:]
