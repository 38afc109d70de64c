"""Division of what one write cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from agent_cores.session.models.limits import DEFAULT_LIMITS, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

MOST_ITEMS = DEFAULT_LIMITS.append_messages
MOST_BYTES = 6 * MIB
"""Bytes of a part whose sizes are estimates: a write may have ``append_bytes``, which is more."""


def in_parts(
    items: Iterable[T], size_of: Callable[[T], int], *, most_bytes: int = MOST_BYTES
) -> Iterator[list[T]]:
    """Yield items in parts that one write can hold each; ``size_of`` returns an item's bytes.

    An item that is larger is a part by itself. No items are no part.
    """
    part: list[T] = []
    room = most_bytes
    for item in items:
        size = size_of(item)
        if part and (len(part) == MOST_ITEMS or size > room):
            yield part
            part, room = [], most_bytes
        part.append(item)
        room -= size
    if part:
        yield part
