"""Entries as messages, and the parts of a batch that each fit into one write."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent_cores.session.adapters.ids import id_of
from agent_cores.session.adapters.layouts.claude_agent_sdk import DEEPEST, LONG, entry_messages
from agent_cores.session.models.values import check_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_agent_sdk import SessionStoreEntry

    from agent_cores.session.adapters.pieces import Draft

MOST = 500
"""Messages of one write, and ids of one read."""
_MOST_BYTES = 4 * 1024 * 1024


class Item(NamedTuple):
    """A message to add, the entry that it shows, if any, and the id of the message that does."""

    message: Draft
    entry: SessionStoreEntry | None
    shown_by: str | None


class Part(NamedTuple):
    """Items of one write, and the place of the first one after them.

    The part may begin inside of an entry, whose first pieces are in the part before, and it may end
    inside of one, whose other pieces are in the next.
    """

    items: Sequence[Item]
    end: int
    begins_inside: bool
    ends_inside: bool


def items_of(entries: list[SessionStoreEntry]) -> list[Item]:
    """Return the messages of entries; a repeated uuid only once."""
    items: list[Item] = []
    known: set[str] = set()
    for place, entry in enumerate(entries):
        field = f"entries/{place}"
        check_json(entry, field, DEEPEST)
        message_id = None
        uuid = entry.get("uuid")
        if isinstance(uuid, str):
            if uuid in known:
                continue
            known.add(uuid)
            message_id = id_of(uuid)
        *pieces, shown = entry_messages(entry, message_id, field)
        shown_by = shown.get("id")
        items += [Item(piece, None, shown_by) for piece in pieces]
        items.append(Item(shown, entry, shown_by))
    return items


def ids_of_long(items: Sequence[Item]) -> list[str]:
    """Return the ids of the messages that show entries in pieces."""
    return [item.message["id"] for item in items if item.message["role"] == LONG]


def without(items: Sequence[Item], stored: set[str]) -> list[Item]:
    """Return the items that are not stored, and belong to no entry that is."""
    return [
        item
        for item in items
        if item.message.get("id") not in stored and item.shown_by not in stored
    ]


def part_from(items: Sequence[Item], first: int) -> Part:
    """Return the part that begins at a place."""
    end = _end_of_part(items, first)
    return Part(items[first:end], end, _is_inside(items, first), _is_inside(items, end))


def start_of_entry(items: Sequence[Item], place: int) -> int:
    """Return the place of the first message of the entry that the message at a place is of."""
    while _is_inside(items, place):
        place -= 1
    return place


def _is_inside(items: Sequence[Item], place: int) -> bool:
    """Return whether the entry of the item before a place goes on there."""
    if not 0 < place < len(items):
        return False
    return items[place].shown_by is not None and items[place].shown_by == items[place - 1].shown_by


def _end_of_part(items: Sequence[Item], first: int) -> int:
    size = 0
    for place in range(first, len(items)):
        size += len(items[place].message["content"])
        if place > first and (place - first == MOST or size > _MOST_BYTES):
            return place
    return len(items)
