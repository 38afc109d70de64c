"""Which messages a read or a removal is about: a range, the oldest ones, or those named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent_cores.session.models.message import StoredMessage


Messages = tuple[tuple[int, str], ...]
"""``(seq, id)`` of messages."""


END = 2**53
"""A seq that no message reaches."""


class SeqRange(msgspec.Struct, frozen=True):
    """The messages from ``first`` to ``last`` seq, both included; removed from the last one on."""

    first: int
    last: int

    def chosen(self, removable: Messages, message_count: int, bound: int) -> Messages:  # noqa: ARG002
        """Return those that one write removes, the highest seq first."""
        return removable[:bound]


class OldestMessages(msgspec.Struct, frozen=True, kw_only=True):
    """All messages but the last ``keep``, with a seq below ``before_seq`` if that is given.

    They are removed from the oldest one on, so a removal that needs several writes never leaves a
    hole between the messages that stay.
    """

    before_seq: int | None = None
    keep: int = 0

    def chosen(self, removable: Messages, message_count: int, bound: int) -> Messages:
        """Return those that one write removes, the lowest seq first."""
        return removable[: self.most(message_count, bound)]

    def most(self, message_count: int, bound: int) -> int:
        """Return how many one write removes at most, of a session with that many messages."""
        return max(min(message_count - self.keep, bound), 0)


class NamedMessages(msgspec.Struct, frozen=True, kw_only=True):
    """The messages with these ids, or those with these seqs; names without a message are ignored.

    One of the two is given, and names each message once.
    """

    ids: tuple[str, ...] = ()
    seqs: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many messages are named."""
        return len(self.ids) + len(self.seqs)

    def chosen(self, removable: Messages, message_count: int, bound: int) -> Messages:  # noqa: ARG002
        """Return those that one write removes, the lowest seq first: all, whatever the bound."""
        return tuple(sorted(removable))

    def among(self, messages: Iterable[StoredMessage]) -> Iterator[StoredMessage]:
        """Yield those of the given messages that are named, in their order."""
        ids, seqs = set(self.ids), set(self.seqs)
        return (message for message in messages if message.id in ids or message.seq in seqs)

    def without(self, messages: Iterable[StoredMessage]) -> NamedMessages:
        """Return the names that are left without those of these messages."""
        found = list(messages)
        ids, seqs = {message.id for message in found}, {message.seq for message in found}
        return NamedMessages(
            ids=tuple(name for name in self.ids if name not in ids),
            seqs=tuple(seq for seq in self.seqs if seq not in seqs),
        )


Removal = SeqRange | OldestMessages | NamedMessages


def removable_among(remove: Removal, messages: Sequence[StoredMessage], bound: int) -> Messages:
    """Return ``State.removable``, given all messages of a session by rising seq."""
    if isinstance(remove, NamedMessages):
        return tuple((message.seq, message.id) for message in remove.among(messages))
    if isinstance(remove, OldestMessages):
        before, oldest = remove.before_seq, messages[: remove.most(len(messages), bound)]
        return tuple((m.seq, m.id) for m in oldest if before is None or m.seq < before)
    first, last = remove.first, remove.last
    reached = [(m.seq, m.id) for m in reversed(messages) if first <= m.seq <= last]
    return tuple(reached[:bound])
