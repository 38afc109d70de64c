"""Items of OpenAI's Agents SDK, as messages and back."""

from __future__ import annotations

import re
from contextlib import contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from agent_cores.session.adapters.parts import in_parts
from agent_cores.session.errors import InvalidInputError
from agent_cores.session.models.limits import MIB
from agent_cores.session.models.message import NewMessage
from agent_cores.session.models.values import encode_json, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_cores.session.models.message import Message

_PART_BYTES = 7 * MIB
_DEPTH = 1_000
_FEW = 7
"""Items that fit into one append whatever their sizes, by default."""
_ROLE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_SPEAKERS = frozenset({"user", "assistant", "system", "developer"})
_CONTENT = re.compile(r"messages/([0-9]+)/content")
_NOT_A_TYPE = _SPEAKERS | {"tool", "item"}


def role_of(item: dict[str, Any]) -> str:
    """Return the role of the message that holds an item.

    It is the role of an item that is a message. Any other has its type as role, and never that of
    a user or an agent: who reads the session elsewhere would take it for their words.
    """
    kind, role = item.get("type"), item.get("role")
    if (kind is None or kind == "message") and isinstance(role, str):
        return role if _ROLE.fullmatch(role) else "message"
    if isinstance(kind, str) and _ROLE.fullmatch(kind) and kind not in _NOT_A_TYPE:
        return kind
    return "item"


def item_of(message: Message) -> Any:  # noqa: ANN401 - an item of the SDK, any JSON
    """Return the item of a message; one that was not written as an item, as a message item.

    The role of the message decides who speaks: the store checks who may append it, while anybody
    may claim anything in its content.
    """
    content = message.content
    role = message.role if message.role in _SPEAKERS else "assistant"
    if isinstance(content, dict):
        kind = content.get("type", "")
        if message.role == role_of(content) and isinstance(kind, str | None):
            return content
        if content.get("type", "message") == "message" and {"role", "content"} <= content.keys():
            return {**content, "role": role}
        if "type" in content and isinstance(kind, str) and role != "user":
            return content
    if isinstance(content, str) or _are_parts(content):
        return {"role": role, "content": content}
    return {"role": role, "content": "" if content is None else encode_json(content).decode()}


def _are_parts(content: object) -> bool:
    return isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("type"), str) for part in content
    )


def message_of(item: Any, index: int) -> NewMessage:  # noqa: ANN401 - whatever was given
    """Return the message that holds an item."""
    if not isinstance(item, dict):
        raise InvalidInputError(f"items/{index}", f"must be a dict, not {type(item).__name__}")
    return NewMessage(role_of(item), item)


@contextmanager
def items_named(first: int = 0) -> Iterator[None]:
    """Name an item that is refused by its place: the caller gave items, not messages.

    ``first`` is the place of the first item that is being written.
    """
    try:
        yield
    except InvalidInputError as error:
        item = _CONTENT.fullmatch(error.field)
        if item is None:
            raise
        raise InvalidInputError(f"items/{first + int(item[1])}", error.problem) from error


def parts_of(messages: list[NewMessage]) -> Iterator[list[NewMessage]]:
    """Yield the messages in parts that each fit into one append.

    What is not JSON raises ``InvalidInputError``, before a first part of several.
    """
    if len(messages) <= _FEW:
        if messages:
            yield messages
        return
    sized = [
        (len(to_json(message.content, f"items/{n}", depth=_DEPTH, at_most=_PART_BYTES)), message)
        for n, message in enumerate(messages)
    ]
    for part in in_parts(sized, itemgetter(0), most_bytes=_PART_BYTES):
        yield [message for _, message in part]
