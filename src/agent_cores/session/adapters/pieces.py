"""Values of any size as messages: what is longer than a message holds continues in others.

The first message of a value names those with its further pieces. It is written with the last of
them or after it, so what a reader finds is whole.
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Any

from agent_cores.session.adapters.ids import id_of_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Typed = tuple[str, bytes]
"""A type and bytes, such as LangGraph's serializer returns."""
Draft = dict[str, Any]
"""A message to add."""
PIECE = "piece"
"""The role of the messages with further pieces."""
PIECE_LENGTH = 900_000
"""Characters of base64 in one message: content may hold 1 MiB."""


def divided(
    value: Typed, *, of: str, mark: str | None = None, room: int = PIECE_LENGTH
) -> tuple[dict[str, Any], list[Draft]]:
    """Return what the content of a value's message holds of it, and messages with further pieces.

    ``of`` is what those belong to, ``mark`` is what their ids are made from, drawn at random if it
    is left out, and ``room`` is how many characters the first message may hold.
    """
    kind, data = value
    text = base64.b64encode(data).decode()
    if len(text) <= room:
        return {"type": kind, "data": text}, []
    if mark is None:
        mark = secrets.token_hex(12)
    pieces = [text[i : i + PIECE_LENGTH] for i in range(room, len(text), PIECE_LENGTH)]
    more = [id_of_parts("+", mark, str(number)) for number in range(1, len(pieces) + 1)]
    messages = [
        {"id": name, "role": PIECE, "content": {"of": of, "data": piece}}
        for name, piece in zip(more, pieces, strict=True)
    ]
    return {"type": kind, "data": text[:room], "more": more}, messages


def pieces_of(content: Mapping[str, Any]) -> Sequence[str]:
    """Return the ids of the messages with further pieces of a value."""
    names: Sequence[str] = content.get("more", ())
    return names


def typed_of(content: Mapping[str, Any], more: Iterable[Mapping[str, Any]]) -> Typed:
    """Return a value, put together from its pieces."""
    text = "".join([content["data"], *(piece["data"] for piece in more)])
    return content["type"], base64.b64decode(text)
