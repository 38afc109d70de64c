"""What an update makes of a stored message. Pure functions.

Fields of the body that this release does not know stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import CorruptRecordError, InvalidInputError
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.times import to_millis
from agent_cores.session.models.values import (
    MOST_SLOW_NUMBERS,
    TOO_MANY_SLOW,
    UNREADABLE,
    encode_json,
    same_value,
    slow_numbers,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from agent_cores.session.models.effects import MessageUpdate
    from agent_cores.session.models.limits import Limits
    from agent_cores.session.models.session import SessionMetadata

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_millis = msgspec.json.Decoder(int).decode
_UPDATED_AT = "updated_at"
_NO_METADATA = msgspec.Raw(b"{}")


def updated_message(
    header: SessionMetadata,
    known: Mapping[str, StoredMessage],
    update: MessageUpdate,
    at: datetime,
) -> StoredMessage | None:
    """Return the message after the update; the stored one itself if that changes nothing.

    ``None`` if there is no such message. ``updated_at`` never falls.
    """
    stored = known.get(update.id)
    if stored is None or stored.seq != update.seq:
        return None
    try:
        return _updated(stored, update, to_millis(at))
    except UNREADABLE as error:
        problem = f"message {stored.seq} cannot be read"
        raise CorruptRecordError(header.namespace, header.session_id, problem) from error


def _updated(stored: StoredMessage, update: MessageUpdate, at: int) -> StoredMessage:
    version, fields = stored.body[:1], _decode_fields(stored.body[1:])
    if update.content is not None:
        fields["content"] = msgspec.Raw(update.content)
    if update.metadata != b"{}" or update.metadata_drop:
        metadata = _decode_fields(fields.get("metadata", _NO_METADATA))
        metadata |= _decode_fields(update.metadata)
        for key in update.metadata_drop:
            metadata.pop(key, None)
        fields["metadata"] = msgspec.Raw(encode_json(metadata))
    if same_value(stored.body, version + encode_json(fields)):
        return stored
    before = _decode_millis(fields.get(_UPDATED_AT, b"0"))
    fields[_UPDATED_AT] = msgspec.Raw(b"%d" % max(at, before, to_millis(stored.created_at)))
    return StoredMessage(stored.seq, stored.id, stored.created_at, version + encode_json(fields))


def check_updated_size(stored: StoredMessage, updated: StoredMessage, limits: Limits) -> None:
    """Raise ``InvalidInputError`` if an update makes a message larger than one may be.

    An update that makes it smaller is always allowed.
    """
    size = len(updated.body)
    if size <= len(stored.body):
        return
    if size > limits.append_bytes:
        problem = f"would make the message {size} bytes, at most {limits.append_bytes} allowed"
        raise InvalidInputError("content", problem)
    held, kept = (_metadata_of(message) for message in (stored, updated))
    if len(held) < len(kept) > limits.metadata_bytes:
        most = limits.metadata_bytes
        problem = f"would make the metadata {len(kept)} bytes, at most {most} allowed"
        raise InvalidInputError("metadata_updates", problem)
    if slow_numbers(kept) > max(MOST_SLOW_NUMBERS, slow_numbers(held)):
        raise InvalidInputError("metadata_updates", f"would have {TOO_MANY_SLOW}")


def _metadata_of(message: StoredMessage) -> bytes:
    return bytes(_decode_fields(message.body[1:]).get("metadata", _NO_METADATA))


def same_message(stored: bytes, appended: bytes) -> bool:
    """Whether a stored body and an appended one say the same, whenever it was updated."""
    if same_value(stored, appended):
        return True
    try:
        fields = _decode_fields(stored[1:])
    except UNREADABLE:
        return False
    if fields.pop(_UPDATED_AT, None) is None:
        return False
    return same_value(stored[:1] + encode_json(fields), appended)
