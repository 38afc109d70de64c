"""Items of LangGraph's store as they are stored, and the parts of a put that one write holds."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agent_cores.session.adapters.ids import id_of
from agent_cores.session.adapters.parts import in_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_cores.session.models.message import Message

ROLE = "item"
READ_AT = "read_at"
"""The metadata key with the time of the latest read that restarted the TTL of an item."""
_LONGEST_TTL = 1e100
"""Minutes. The arithmetic with a longer one could overflow."""
_RENEWED = 1 / 20
"""Reading an item restarts its TTL if that moves the end by more than this part of it."""


class StoredItem(NamedTuple):
    """An item as it is stored; ``ttl`` in minutes."""

    key: str
    value: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    ttl: float | None
    read_at: datetime
    seq: int

    def is_expired(self, now: datetime) -> bool:
        """Return whether the TTL has passed since the item was written or read."""
        return self.ttl is not None and (now - self._active_at).total_seconds() >= self.ttl * 60

    def is_renewed_by_reading(self, now: datetime) -> bool:
        """Return whether a read restarts the TTL."""
        if self.ttl is None:
            return False
        return (now - self._active_at).total_seconds() > self.ttl * 60 * _RENEWED

    @property
    def _active_at(self) -> datetime:
        return max(self.updated_at, self.read_at)


class NewItem(NamedTuple):
    """An item to store; ``ttl`` in minutes."""

    key: str
    value: Mapping[str, Any]
    ttl: float | None
    at: datetime

    @property
    def message_id(self) -> str:
        """The id of the message that holds the item."""
        return id_of(self.key)

    def content(self, created_at: datetime) -> dict[str, Any]:
        """Return the content of the message."""
        content: dict[str, Any] = {
            "key": self.key,
            "value": dict(self.value),
            "created_at": created_at.isoformat(),
            "updated_at": self.at.isoformat(),
        }
        if self.ttl is not None:
            content["ttl"] = self.ttl
        return content


def is_ttl(ttl: object) -> bool:
    """Return whether this is a time in minutes with which an item can end, or not end."""
    if ttl is None:
        return True
    if not isinstance(ttl, int | float) or isinstance(ttl, bool):
        return False
    return -_LONGEST_TTL <= ttl <= _LONGEST_TTL


def stored_item(message: Message) -> StoredItem | None:
    """Return the item that a message holds; ``None`` for what no put has written."""
    content: Any = message.content
    if message.role != ROLE or not isinstance(content, dict):
        return None
    key, value, ttl = content.get("key"), content.get("value"), content.get("ttl")
    if not isinstance(key, str) or id_of(key) != message.id or not isinstance(value, dict):
        return None
    created_at, updated_at = _time(content.get("created_at")), _time(content.get("updated_at"))
    if created_at is None or updated_at is None or not is_ttl(ttl):
        return None
    read_at = _time(message.metadata.get(READ_AT)) or updated_at
    return StoredItem(key, value, created_at, updated_at, ttl, read_at, message.seq)


def _time(text: object) -> datetime | None:
    """Return a time that was stored; ``None`` for what is none, or has no zone."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if time.tzinfo is None else time


def parts(items: Sequence[NewItem]) -> Iterator[list[NewItem]]:
    """Split items into parts that one write can hold."""
    return iter([[*items]]) if len(items) == 1 else in_parts(items, _size)


def _size(item: NewItem) -> int:
    """Return about how many bytes an item takes; 0 if it is not JSON, which is refused later."""
    try:
        return 300 + len(item.key) + len(msgspec.json.encode(item.value))
    except (TypeError, ValueError):
        return 0
