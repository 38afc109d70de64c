"""What became of the sessions of a move: counts, and the names of those that did not move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

_KINDS = ("different", "unreadable", "refused", "changing")
"""Why a living session did not move."""
_NAMED = 100
"""How many sessions of a kind are named; the others are only counted."""


class Names(msgspec.Struct):
    """Sessions of one kind: how many, and the first hundred, as ``namespace/session id``."""

    count: int = 0
    names: list[str] = []

    def add(self, namespace: str, session_id: str) -> None:
        """Add a session."""
        self.count += 1
        if len(self.names) < _NAMED:
            self.names.append(f"{namespace}/{session_id}")

    def add_all(self, other: Names) -> None:
        """Add the sessions of another part of the move."""
        self.count += other.count
        self.names += other.names[: _NAMED - len(self.names)]


class Tally(msgspec.Struct):
    """The result of a move.

    ``sessions`` and ``messages`` were moved; ``present`` were there already. ``different`` are
    stored in the target in another state and were left as they are. ``unreadable`` could not be
    read, ``refused`` hold what the target cannot keep, such as a longer id than it takes,
    ``changing`` were changed again and again while they were read. ``ended`` have expired or are
    still being built; they do not move.
    """

    sessions: int = 0
    messages: int = 0
    present: int = 0
    ended: int = 0
    different: Names = msgspec.field(default_factory=Names)
    unreadable: Names = msgspec.field(default_factory=Names)
    refused: Names = msgspec.field(default_factory=Names)
    changing: Names = msgspec.field(default_factory=Names)

    @property
    def is_complete(self) -> bool:
        """Whether every living session is now where it should be."""
        return not self._left

    @property
    def done(self) -> int:
        """How many sessions have been dealt with."""
        return self.sessions + self.present + self.ended + self._left

    @property
    def _left(self) -> int:
        return sum(getattr(self, kind).count for kind in _KINDS)


def merged(tallies: Iterable[Tally]) -> Tally:
    """Return the result of a move that was done in parts."""
    total = Tally()
    for tally in tallies:
        for name in ("sessions", "messages", "present", "ended"):
            setattr(total, name, getattr(total, name) + getattr(tally, name))
        for kind in _KINDS:
            getattr(total, kind).add_all(getattr(tally, kind))
    return total
