"""Lists in long bodies, split into parts that are not decoded; an overlong list ends early."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from agent_cores.session.models.representation import hides
from agent_cores.session.service.problems import ShapeError
from agent_cores.session.wire import openai, shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_cores.session.models.limits import Limits

_PLACE = re.compile(r"^(.*?)(?: - at `(?:key` in `)?\$(.*)`)?$", re.DOTALL)
_counted = threading.local()


class _AnyMessage(msgspec.Struct, gc=False):
    """Any message. Decoding stops at the first one beyond the limit."""

    def __post_init__(self) -> None:
        _counted.left -= 1
        if _counted.left < 0:
            detail = "too many messages"
            raise ValueError(detail)


_RawMessage = hides("content", "metadata")(
    msgspec.defstruct(
        "RawMessage",
        [(name, msgspec.Raw | UnsetType, UNSET) for name in shapes.NewMessage.__struct_fields__],
        bases=(_AnyMessage,),
        forbid_unknown_fields=True,
        gc=False,
    )
)
"""The fields of a message as sent."""
_decode_messages: Callable[[bytes], list[msgspec.Struct]] = msgspec.json.Decoder(
    list[_RawMessage]  # type: ignore[valid-type]  # its fields are those of the shape
).decode


def messages_of(text: bytes, limits: Limits) -> list[msgspec.Struct]:
    """Return the messages of a list, with their fields as sent; refuse too many."""
    _counted.left = limits.append_messages
    try:
        return _decode_messages(text)
    except msgspec.ValidationError as error:
        field = shape_error(error).field
        place = f"messages/{field}" if field else "messages"
        if _counted.left < 0:
            place, problem = "messages", f"at most {limits.append_messages}"
            raise ShapeError(place, problem) from error
        raise ShapeError(place, _problem(error)) from error


class _AnyItem(msgspec.Struct, gc=False):
    """Any object. Decoding stops at the first one beyond the limit."""

    def __post_init__(self) -> None:
        _counted.left -= 1
        if _counted.left < 0:
            detail = "too many items"
            raise ValueError(detail)


_count_items = msgspec.json.Decoder(list[_AnyItem]).decode
_decode_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def items_of(text: bytes) -> list[msgspec.Raw]:
    """Return the items of a list, none of them decoded; refuse too many, or others than objects."""
    _counted.left = openai.MOST_ITEMS
    try:
        _count_items(text)
    except msgspec.ValidationError as error:
        if _counted.left < 0:
            raise ShapeError("items", f"at most {openai.MOST_ITEMS}") from error
        field = shape_error(error).field
        raise ShapeError(f"items/{field}" if field else "items", _problem(error)) from error
    return _decode_raw_list(text)


def _problem(error: msgspec.ValidationError) -> str:
    return str(error).partition(" - at `")[0]


def shape_error(error: msgspec.ValidationError) -> ShapeError:
    """Turn the decoder's message into a field and what is wrong with it."""
    text = str(error)
    match = _PLACE.match(text)
    problem, place = (match[1], match[2] or "") if match else (text, "")
    place = place.partition("[...]")[0]  # below a key that the decoder does not name
    field = re.sub(r"\[(\d+)\]", r".\1", place).lstrip(".").replace(".", "/")
    return ShapeError(field, problem)
