"""``Record``: one session as ``MemoryProvider`` stores it."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.models.change import State
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.representation import hides
from agent_cores.session.models.selection import NamedMessages, OldestMessages
from agent_cores.session.models.session import SessionMetadata
from agent_cores.session.models.snapshot import Snapshot
from agent_cores.session.models.values import copy_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.models.selection import Removal
    from agent_cores.session.models.snapshot import Window


@hides("context")
class Record(msgspec.Struct):
    """A session: its header, its context entries and its messages, ascending by seq.

    ``seqs`` finds a message by its id.
    """

    header: SessionMetadata
    context: dict[str, bytes] = {}
    messages: list[StoredMessage] = []
    seqs: dict[str, int] = {}

    def snapshot(self, *, context: bool, window: Window | None) -> Snapshot:
        """Return what ``read`` returns; it shares nothing mutable with the record."""
        messages, has_more = None, False
        if window is not None:
            messages, has_more = window.fill(self._candidates(window))
        return Snapshot(
            header=copy_header(self.header),
            context=dict(self.context) if context else None,
            messages=messages,
            has_more=has_more,
        )

    def state(self, change: Change) -> State:
        """Return what ``apply_change`` needs to know for this change."""
        seqs, messages = self.seqs, self.messages
        known = {
            message.id: messages[self._index(seqs[message.id])]
            for message in change.append
            if message.id in seqs
        }
        if change.is_plain_append:
            return State(header=self.header, known=known)
        if change.update is not None and change.update.id in seqs:
            known[change.update.id] = messages[self._index(seqs[change.update.id])]
        removable: tuple[tuple[int, str], ...] = ()
        if change.remove is not None:
            removable = self._removable(change.remove, change.limits.rewind_messages)
        context = self.context
        return State(
            header=self.header,
            context={key: context[key] for key in change.context_keys if key in context},
            known=known,
            removable=removable,
        )

    def write(self, applied: Applied) -> None:
        """Write the messages and context entries of an applied change, but not its header."""
        if applied.removed:
            self._remove(applied.removed)
        if applied.updated is not None:
            self.messages[self._index(applied.updated.seq)] = applied.updated
        for message in applied.added:
            self.messages.append(message)
            self.seqs[message.id] = message.seq
        for key in applied.context_drop:
            del self.context[key]
        self.context.update(applied.context_set)

    def _removable(self, remove: Removal, bound: int) -> tuple[tuple[int, str], ...]:
        """Return ``(seq, id)`` of the messages to remove, as ``State`` describes them."""
        messages = self.messages
        if isinstance(remove, NamedMessages):
            return tuple((message.seq, message.id) for message in self._named(remove))
        if isinstance(remove, OldestMessages):
            end = remove.most(self.header.message_count, bound)
            if remove.before_seq is not None:
                end = min(end, self._index(remove.before_seq))
            return tuple((message.seq, message.id) for message in messages[:end])
        end = self._index(remove.last + 1)
        start = max(self._index(remove.first), end - bound)
        return tuple((message.seq, message.id) for message in reversed(messages[start:end]))

    def _remove(self, removed: tuple[tuple[int, str], ...]) -> None:
        """Remove messages. Neighbours go together: each removal moves all that come after it."""
        indexes: list[int] = []
        for seq, message_id in removed:
            del self.seqs[message_id]
            indexes.append(self._index(seq))
        indexes.sort(reverse=True)
        place = 0
        while place < len(indexes):
            end = start = indexes[place]
            while place < len(indexes) and indexes[place] == start:
                place, start = place + 1, start - 1
            del self.messages[start + 1 : end + 1]

    def _named(self, named: NamedMessages) -> list[StoredMessage]:
        """Return the messages with these ids or seqs, ascending."""
        messages, found = self.messages, set()
        for seq in (*named.seqs, *(self.seqs.get(message_id, 0) for message_id in named.ids)):
            index = self._index(seq)
            if index < len(messages) and messages[index].seq == seq:
                found.add(index)
        return [messages[index] for index in sorted(found)]

    def _candidates(self, window: Window) -> Iterator[StoredMessage]:
        """Yield the messages that are named, or past the bound of the window, nearest first."""
        messages = self.messages
        if window.named is not None:
            return iter(self._named(window.named))
        if window.after_seq is not None:
            first = self._index(window.after_seq + 1)
            return (messages[index] for index in range(first, len(messages)))
        before = window.before_seq
        last = len(messages) if before is None else self._index(before)
        return (messages[index] for index in range(last - 1, -1, -1))

    def _index(self, seq: int) -> int:
        """Return the index of the first message with this seq or a higher one."""
        return bisect_left(self.messages, seq, key=attrgetter("seq"))


def copy_header(header: SessionMetadata) -> SessionMetadata:
    """Return a header that shares nothing mutable with the given one."""
    attributes = copy_json(header.attributes) if header.attributes else {}
    return msgspec.structs.replace(header, attributes=attributes, grants=dict(header.grants))
