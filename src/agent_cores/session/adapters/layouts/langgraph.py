"""How the parts of a LangGraph thread become messages: ids, pieces, sizes.

A thread is two sessions. The log holds a message for each checkpoint, which carries small values of
its channels. The data holds what checkpoints refer to: a value for each other version of a channel,
and the pending writes of tasks. All are found by their ids. What is longer than a message holds
continues in others, which the first one names.
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agent_cores.session.adapters.ids import id_of_parts, ids_of_parts
from agent_cores.session.adapters.parts import in_parts
from agent_cores.session.adapters.pieces import PIECE, PIECE_LENGTH, Draft, Typed, divided

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent_cores.session.models.message import Message

TAG = "langgraph"
EMPTY = "empty"
"""The type of the value of a channel that has a version and no value."""
PAGE = 1_000
"""The most messages that one call reads or deletes."""
WINDOWS = (0, 8, 64, 512)
"""The first slot of each window of slots; further windows have as many slots as the last one."""
_PENDING = "pending"
_CARRIED = 1_024
"""The most characters of a value, with its name, that the message of a checkpoint carries."""
_CARRIED_FIELDS = 4
_MOST_CARRIED = 4_096
"""The most characters of all that it carries."""


class Write(NamedTuple):
    """A pending write of a task."""

    task_id: str
    task_path: str
    place: int
    channel: str
    value: Typed


class Record(NamedTuple):
    """A stored checkpoint, without what it refers to."""

    namespace: str
    checkpoint_id: str
    parent_id: str | None
    checkpoint: Any
    """What the serializer returned, or as it is stored; so is the metadata."""
    metadata: Any
    seq: int

    @property
    def id(self) -> str:
        """The id of its message."""
        return checkpoint_id(self.namespace, self.checkpoint_id)

    @property
    def parent(self) -> str | None:
        """The id of the message of its parent."""
        return None if self.parent_id is None else checkpoint_id(self.namespace, self.parent_id)


Version = tuple[str, str]
"""A channel and its version."""
Value = tuple[str, str, Typed]
"""A channel, its version, and its value."""
Carried = dict[Version, tuple[str, str]]
"""Values in the message of a checkpoint: their types, and their bytes as base64."""

_encode_writes = msgspec.msgpack.Encoder().encode
_decode_writes = msgspec.msgpack.Decoder(list[Write]).decode


def record_of(message: Message) -> Record:
    """Return the checkpoint that a message of the log holds."""
    content: Any = message.content
    return Record(
        content["ns"], content["id"], content["parent"], content, content["metadata"], message.seq
    )


def is_checkpoint(message: Message, *, pending: bool = False) -> bool:
    """Return whether a message of the log is a checkpoint that readers may see.

    With ``pending`` also one that is still being put, whose values may be incomplete, or that a
    message of another id announces. Other messages of the user are no checkpoints.
    """
    if message.role != "checkpoint":
        return False
    content: Any = message.content
    if not _is_checkpoint_content(content):
        return False
    if _PENDING in message.metadata:
        return pending
    return message.id == checkpoint_id(content["ns"], content["id"])


def is_data(message: Message) -> bool:
    """Return whether a message of the data is one that this adapter writes."""
    content: Any = message.content
    if not isinstance(content, dict) or not isinstance(content.get("of"), str):
        return False
    if "metadata" in content:  # only a checkpoint has it
        return False
    if message.role == "value":
        return _is_typed(content)
    if message.role == "writes":
        return _is_typed(content) and isinstance(content.get("replace"), bool)
    if message.role == PIECE:
        return isinstance(content.get("data"), str)
    return message.role in {"door", "touch"}


def _is_checkpoint_content(content: Any) -> bool:  # noqa: ANN401 - any JSON
    return (
        _is_typed(content)
        and _is_typed(content.get("metadata"))
        and isinstance(content.get("ns"), str)
        and isinstance(content.get("id"), str)
        and isinstance(content.get("parent"), str | None)
        and _are_carried(content.get("values", ()))
    )


def _is_typed(content: Any) -> bool:  # noqa: ANN401 - any JSON
    """Return whether a message, or a part of one, holds a value in the shape of ``divided``."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("type"), str)
        and isinstance(content.get("data"), str)
        and ("more" not in content or _are_texts(content["more"]))
    )


def _are_carried(values: Any) -> bool:  # noqa: ANN401 - any JSON
    return isinstance(values, list | tuple) and all(
        _are_texts(each) and len(each) == _CARRIED_FIELDS for each in values
    )


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(each, str) for each in values)


def pending(head: Draft) -> Draft:
    """Return the message of a checkpoint whose values are not complete."""
    return {**head, "metadata": {_PENDING: True}}


NOT_PENDING: Sequence[str] = (_PENDING,)
"""The keys of the metadata of a message that make it pending."""


def carried_in(content: Mapping[str, Any]) -> Carried:
    """Return the values that the message of a checkpoint carries."""
    values = content.get("values", ())
    return {(channel, version): (kind, text) for channel, version, kind, text in values}


def values_in(content: Mapping[str, Any]) -> list[Value]:
    """Return the same values as they are given to ``value_messages``."""
    return [
        (channel, version, (kind, base64.b64decode(text)))
        for (channel, version), (kind, text) in carried_in(content).items()
    ]


def carry(new: Iterable[Value], kept: Carried) -> tuple[Carried, list[Value]]:
    """Return what a checkpoint carries: ``kept`` and small new values; and the other new values."""
    carried, rest = dict(kept), []
    room = _MOST_CARRIED
    for name, held in kept.items():
        room -= _carried_size(*name, *held)
    for value in new:
        channel, version, (kind, data) = value
        if len(data) <= _CARRIED:
            text = base64.b64encode(data).decode()
            size = _carried_size(channel, version, kind, text)
            if size <= min(room, _CARRIED):
                carried[channel, version] = kind, text
                room -= size
                continue
        rest.append(value)
    return carried, rest


def _carried_size(channel: str, version: str, kind: str, text: str) -> int:
    return len(channel) + len(version) + len(kind) + len(text)


def checkpoint_messages(record: Record, carried: Carried) -> list[Draft]:
    """Return the message of a checkpoint, and those with further pieces of it."""
    name = record.id
    shown, more = divided(record.checkpoint, of=name)
    room = PIECE_LENGTH - len(shown["data"])
    metadata, rest = divided(record.metadata, of=name, room=room)
    content: dict[str, Any] = {
        "of": name,
        "ns": record.namespace,
        "id": record.checkpoint_id,
        "parent": record.parent_id,
    }
    if carried:
        content["values"] = [[*version, *value] for version, value in carried.items()]
    content |= shown
    content["metadata"] = {"of": name, **metadata}
    return [{"id": name, "role": "checkpoint", "content": content}, *more, *rest]


def value_messages(namespace: str, values: Sequence[Value]) -> list[Draft]:
    """Return the messages of values: channel, version and value of each.

    They carry a mark of their own, so that adding a value that is stored is a conflict.
    """
    mark = secrets.token_hex(6) if values else ""
    messages: list[Draft] = []
    for channel, version, value in values:
        name = value_id(namespace, channel, version)
        shown, more = divided(value, of=name)
        content = {"of": name, **shown}
        messages += more
        messages.append({"id": name, "role": "value", "content": content, "metadata": {"by": mark}})
    return messages


def writes_messages(of: str, writes: Sequence[Write], *, replace: bool) -> list[Draft]:
    """Return messages of one call's pending writes; the last needs the id of a slot."""
    shown, more = divided(("writes", _encode_writes(writes)), of=of)
    content = {"of": of, "replace": replace, **shown}
    return [*more, {"id": "", "role": "writes", "content": content}]


def writes_of(calls: Iterable[tuple[bool, Typed]]) -> list[Write]:
    """Return the pending writes of calls, in the order of tasks.

    A write that is stored stays, unless a later call replaces it.
    """
    found: dict[tuple[str, int], Write] = {}
    for replace, value in calls:
        for write in _decode_writes(value[1]):
            name = write.task_id, write.place
            if replace or name not in found:
                found[name] = write
    return sorted(found.values(), key=lambda each: (each.task_path, each.task_id, each.place))


def checkpoint_id(namespace: str, name: str) -> str:
    """Return the id of the message of a checkpoint."""
    return id_of_parts("c", namespace, name)


def value_id(namespace: str, channel: str, version: str) -> str:
    """Return the id of the message of a value."""
    return id_of_parts("v", namespace, channel, version)


def slot_id(of: str, slot: int) -> str:
    """Return the id of the message of one call's pending writes of a checkpoint."""
    return id_of_parts("w", of, str(slot))


def slot_ids(of: str, slots: Iterable[int]) -> list[str]:
    """Return the ids of several slots."""
    return ids_of_parts("w", of, last=map(str, slots))


def door_id(of: str, window: int) -> str:
    """Return the id of the message that says that there are slots in a window after the first."""
    return id_of_parts("d", of, str(window))


def door_ids(of: str, windows: Iterable[int]) -> list[str]:
    """Return the ids of several doors."""
    return ids_of_parts("d", of, last=map(str, windows))


def window_of(slot: int) -> int:
    """Return the window in which a slot is."""
    last = len(WINDOWS) - 1
    if slot >= WINDOWS[last]:
        return last + (slot - WINDOWS[last]) // (WINDOWS[last] - WINDOWS[last - 1])
    return max(window for window, first in enumerate(WINDOWS) if first <= slot)


def slots_in(window: int) -> range:
    """Return the slots of a window."""
    return range(_first_slot(window), _first_slot(window + 1))


def _first_slot(window: int) -> int:
    last = len(WINDOWS) - 1
    if window <= last:
        return WINDOWS[window]
    return WINDOWS[last] + (window - last) * (WINDOWS[last] - WINDOWS[last - 1])


def parts(messages: Sequence[Draft]) -> Iterator[list[Draft]]:
    """Divide messages into parts that one call can add each."""
    return in_parts(messages, _size)


def _size(message: Draft) -> int:
    """Return about how many bytes a message takes."""
    content: Any = message["content"]
    size = 200 + len(content.get("data", ""))
    if "metadata" in content:
        size += len(content["metadata"]["data"]) + _MOST_CARRIED
    return size
