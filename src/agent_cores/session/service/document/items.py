"""The items of conversations in the description: what is checked of them, and nothing else."""

from __future__ import annotations

from typing import Any

from agent_cores.session.wire.shapes import ID_SCHEMA, NAME_SCHEMA

_ID = {"anyOf": [{"type": "string", "minLength": 1, **ID_SCHEMA}, {"type": "null"}]}
_PART = {
    "type": "object",
    "properties": {"type": {"type": "string"}},
    "required": ["type"],
    "additionalProperties": True,
}
_MESSAGE = {
    "type": "object",
    "description": "A message. Without type and status, and with content as text: the easy form.",
    "properties": {
        "id": _ID,
        "type": {"type": "string", "enum": ["message"]},
        "role": {"type": "string", "minLength": 1, **NAME_SCHEMA},
        "content": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": _PART},
            ]
        },
    },
    "required": ["role", "content"],
    "additionalProperties": True,
}
_OTHER = {
    "type": "object",
    "description": "An item of any other type, with the fields of that type.",
    "properties": {
        "id": _ID,
        "type": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_.:-]{1,64}$",
            "not": {"type": "string", "enum": ["message", "item_reference"]},
        },
    },
    "required": ["type"],
    "additionalProperties": True,
}


def describe_items(schemas: dict[str, Any]) -> None:
    """Set the schema of the items that requests contain, and of those in responses."""
    schemas["Item"] = {
        "description": "An item to add. Fields that are not listed are passed through.",
        "anyOf": [_MESSAGE, _OTHER],
    }
    item = {"$ref": "#/components/schemas/Item"}
    schemas["CreateItems"]["properties"]["items"]["items"] = item
    for choice in schemas["CreateConversation"]["properties"]["items"]["anyOf"]:
        if choice.get("type") == "array":
            choice["items"] = item
    schemas["ConversationItem"]["additionalProperties"] = True
    shown = {"$ref": "#/components/schemas/ConversationItem"}
    schemas["ItemList"]["properties"]["data"]["items"] = shown
