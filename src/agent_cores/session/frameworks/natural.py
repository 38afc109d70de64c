"""Messages of frameworks without an adapter, as any reader of a session understands them.

Content is text, or a list of parts: ``text``, ``tool_use`` (``id``, ``name``, ``input``),
``tool_result`` (``tool_use_id``, ``content``), and others unchanged. If the original holds more, it
is kept in the message's metadata, under ``original``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agent_cores.session.frameworks.values import DamagedError, json_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLES = {
    "human": "user",
    "ai": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "function": "tool",
    "HumanMessageChunk": "user",
    "AIMessageChunk": "assistant",
}
"""The roles here of those that frameworks call otherwise."""
Part = dict[str, Any]


def role_of(name: object) -> str:
    """Return the role of a message; ``message`` if it has none."""
    return ROLES.get(name, name[:64]) if isinstance(name, str) and name else "message"


def text_part(text: str) -> Part:
    """Return a part of plain text."""
    return {"type": "text", "text": text}


def tool_use(call_id: object, name: object, given: object) -> Part:
    """Return the call of a tool; what it was given may be JSON in text."""
    if isinstance(given, str):
        with suppress(DamagedError):
            given = json_of(given)
    return {"type": "tool_use", "id": call_id, "name": name, "input": given}


def tool_result(call_id: object, content: object) -> Part:
    """Return what a tool returned."""
    return {"type": "tool_result", "tool_use_id": call_id, "content": content}


def openai_tool_calls(extra: object, parts: list[Part]) -> Iterator[Part]:
    """Yield the calls that additional arguments hold in OpenAI's form and the parts do not."""
    calls = extra.get("tool_calls") if isinstance(extra, dict) else None
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            used = tool_use(call.get("id"), function.get("name"), function.get("arguments"))
            if used not in parts:
                yield used


def content_of(parts: list[Part]) -> str | list[Part]:
    """Return parts as content: text alone, if there is nothing else; without empty text."""
    said = [part for part in parts if part != text_part("")]
    if len(said) == 1 and said[0].keys() == {"type", "text"} and said[0]["type"] == "text":
        return str(said[0]["text"])
    return said or ""
