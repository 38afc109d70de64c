"""Items of a conversation, as messages of a session and back.

An item is stored as the content of a message, under the item's id. Items come in as they are, with
two additions that OpenAI makes too: an id, if there is none, and the full form of a message that
was given in the easy form. Messages that were not written through this interface are shown as
items as far as they can be.

Values may be ``msgspec.Raw`` here: those of long items are not decoded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from agent_cores.session.inputs import new_id
from agent_cores.session.models import NewMessage
from agent_cores.session.models.representation import hides
from agent_cores.session.models.values import EncodedJson, encode_json
from agent_cores.session.service.problems import ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_cores.session.models import Message
    from agent_cores.session.wire.openai import Item

_PREFIXES = {
    "additional_tools": "at",
    "apply_patch_call": "apc",
    "apply_patch_call_output": "apco",
    "code_interpreter_call": "ci",
    "compaction": "cmp",
    "computer_call": "cu",
    "computer_call_output": "cuo",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "file_search_call": "fs",
    "function_call": "fc",
    "function_call_output": "fco",
    "image_generation_call": "ig",
    "local_shell_call": "lsh",
    "local_shell_call_output": "lsho",
    "mcp_approval_request": "mcpr",
    "mcp_approval_response": "mcpa",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "message": "msg",
    "program": "prog",
    "program_output": "progo",
    "reasoning": "rs",
    "shell_call": "sh",
    "shell_call_output": "sho",
    "tool_search_call": "tsc",
    "tool_search_output": "tso",
    "web_search_call": "ws",
}
"""How ids begin that are minted for items of a type."""
ROLES = frozenset(
    {"unknown", "user", "assistant", "system", "critic", "discriminator", "developer", "tool"}
)
"""The roles that OpenAI's clients know."""
_TYPE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_LONGEST_NAME = 2_048
_QUOTE, _OBJECT = b'"', b"{"
_entries = msgspec.json.Decoder(dict[str, Raw]).decode
_decode = msgspec.json.Decoder().decode


class _Part(msgspec.Struct, gc=False):
    """A part of a message's content; its other fields are not looked at."""

    type: str


_parts = msgspec.json.Decoder(list[_Part]).decode


@hides("fields")
class NewItem(msgspec.Struct, frozen=True):
    """An item to add, complete. ``has_own_id``: the request gave its id."""

    fields: dict[str, Any]
    role: str
    id: str
    has_own_id: bool
    is_long: bool

    def message(self) -> NewMessage:
        """Return the message that holds the item."""
        content: Any = EncodedJson(encode_json(self.fields)) if self.is_long else self.fields
        return NewMessage(self.role, content, self.id)

    def shown(self) -> dict[str, Any]:
        """Return the item as it is read."""
        return self.fields if self.role in ROLES else {**self.fields, "role": "unknown"}


def new_items(
    given: Sequence[Item | EncodedJson], mint: Callable[[int], str] | None = None
) -> list[NewItem]:
    """Return the items to add. ``mint`` makes the unique part of the id of the item at an index.

    Raises ``ShapeError``.
    """
    return [_new_item(item, f"items/{index}", index, mint) for index, item in enumerate(given)]


def _new_item(
    given: Item | EncodedJson, place: str, index: int, mint: Callable[[int], str] | None
) -> NewItem:
    is_long = isinstance(given, EncodedJson)
    fields: dict[str, Any] = _entries(given.json) if isinstance(given, EncodedJson) else given
    kind = _plain(fields.get("type"))
    if "type" not in fields and "role" in fields:
        kind = "message"
    if not isinstance(kind, str) or _TYPE.fullmatch(kind) is None:
        raise ShapeError(f"{place}/type", "the type of the item, 1 to 64 of A-Z, a-z, 0-9, _.:-")
    if kind == "item_reference":
        raise ShapeError(f"{place}/type", "an item itself, not a reference to one")
    item_id = _plain(fields.get("id"))
    if item_id is not None and not isinstance(item_id, str):
        raise ShapeError(f"{place}/id", "text, or null")
    role = _role_of(kind)
    if kind == "message":
        role, fields = _full_message(fields, place)
    has_own_id = item_id is not None
    if item_id is None:
        unique = new_id() if mint is None else mint(index)
        item_id = f"{_PREFIXES.get(kind, 'item')}_{unique}"
    return NewItem({**fields, "id": item_id}, role, item_id, has_own_id, is_long)


def _full_message(fields: dict[str, Any], place: str) -> tuple[str, dict[str, Any]]:
    """Return the role of a message, and its full form."""
    role, content = _plain(fields.get("role")), fields.get("content")
    if not isinstance(role, str):
        raise ShapeError(f"{place}/role", "the role of the message, as text")
    if _is_text(content):
        content = _text_parts(content, role)
    elif not _are_parts(content):
        raise ShapeError(f"{place}/content", "text, or a list of objects, each with its type")
    added = {"type": "message", "status": "completed"}
    return role, {**added, **fields, "content": content}


def _role_of(kind: str) -> str:
    """Return the role of the message that holds an item that is no message."""
    return "tool" if kind.endswith(("_output", "_response")) else "assistant"


def shown_item(message: Message) -> Raw:
    """Return a stored message as an item, in JSON. Its content is raw JSON."""
    text = bytes(message.content)  # type: ignore[arg-type]  # raw in the view of a request
    fields = _entries(text) if text[:1] == _OBJECT else {}
    kind = _plain(fields.get("type"))
    if isinstance(kind, str) and kind != "message" and message.role != "user":
        return _encoded({**fields, "id": message.id})
    if kind == "message" or ("type" not in fields and {"role", "content"} <= fields.keys()):
        content = fields.get("content", Raw(b"null"))
    else:
        fields, content = {}, Raw(text)
    added = {"type": "message", "status": "completed"}
    fixed = {"id": message.id, "role": message.role if message.role in ROLES else "unknown"}
    return _encoded({**added, **fields, **fixed, "content": _shown_parts(content, message.role)})


def _shown_parts(content: Raw, role: str) -> Any:  # noqa: ANN401 - JSON
    """Return the content of a message as a list of parts; what is none, as the text of its JSON."""
    text = bytes(content)
    if text == b"null":
        return []
    if text[:1] == _QUOTE:
        return _text_parts(content, role)
    if _are_parts(content):
        return content
    return _text_parts(text.decode(), role)


def _text_parts(text: Any, role: str) -> list[Any]:  # noqa: ANN401 - text, or JSON of it
    if role == "assistant":
        return [{"type": "output_text", "text": text, "annotations": []}]
    return [{"type": "input_text", "text": text}]


def _is_text(value: object) -> bool:
    if isinstance(value, Raw):
        return bytes(memoryview(value)[:1]) == _QUOTE
    return isinstance(value, str)


def _are_parts(value: object) -> bool:
    if isinstance(value, Raw):
        try:
            _parts(value)
        except (msgspec.MsgspecError, RecursionError):
            return False
        return True
    return isinstance(value, list) and all(
        isinstance(part, dict) and isinstance(part.get("type"), str) for part in value
    )


def _plain(value: object) -> object:
    """Return a value that should be a short text."""
    if not isinstance(value, Raw):
        return value
    text = memoryview(value)
    if len(text) > _LONGEST_NAME or bytes(text[:1]) not in {_QUOTE, b"n"}:
        return 0  # neither text nor null
    return _decode(value)


def _encoded(fields: dict[str, Any]) -> Raw:
    return Raw(encode_json(fields))
