"""Records and entries of Pydantic AI as they are stored, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord
from pydantic_ai.messages import ModelMessagesTypeAdapter

from agent_cores.session.adapters.ids import id_of

if TYPE_CHECKING:
    from agent_cores.session.models.message import Message

_RECORDS: TypeAdapter[list[ConversationRecord]] = TypeAdapter(
    list[ConversationRecord],
    config=ConfigDict(ser_json_bytes="base64", val_json_bytes="base64"),
)
_KEYS = {"id", "parent_id", "kind", "message"}
"""What the content of an entry's message has."""


def encoded_record(record: ConversationRecord) -> dict[str, Any]:
    """Return a record as the value of a context key."""
    value: dict[str, Any] = _RECORDS.dump_python([record], mode="json")[0]
    return value


def record_of(value: Any) -> ConversationRecord | None:  # noqa: ANN401 - JSON
    """Return the record that a value of the context holds; ``None`` if it holds none."""
    try:
        [record] = _RECORDS.validate_json(msgspec.json.encode([value]))
    except ValidationError:
        return None
    return record


def message_of(entry: ConversationEntry) -> dict[str, Any]:
    """Return the message that holds an entry."""
    return {
        "id": id_of(entry.id),
        "role": entry.message.kind,
        "content": {
            "id": entry.id,
            "parent_id": entry.parent_id,
            "kind": entry.kind,
            "message": ModelMessagesTypeAdapter.dump_python([entry.message], mode="json")[0],
        },
    }


def is_entry(message: Message) -> bool:
    """Return whether a message was made of an entry: it has the id of the entry that it holds."""
    content: Any = message.content
    if not isinstance(content, dict) or not content.keys() >= _KEYS:
        return False
    if not isinstance(content["id"], str) or not isinstance(content["parent_id"], str | None):
        return False
    return message.id == id_of(content["id"])


def entry_of(message: Message) -> ConversationEntry:
    """Return the entry that a message holds."""
    content: Any = message.content
    encoded = msgspec.json.encode([content["message"]])
    [stored] = ModelMessagesTypeAdapter.validate_json(encoded)
    return ConversationEntry(
        id=content["id"], parent_id=content["parent_id"], message=stored, kind=content["kind"]
    )
