"""``Record``: one session as ``MemoryProvider`` stores it."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.models.change import State
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.representation import hides
from agent_cores.session.models.session import SessionMetadata
from agent_cores.session.models.snapshot import Snapshot
from agent_cores.session.models.values import copy_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_cores.session.models.change import Applied, Change
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
            end = self._index(change.remove.last + 1)
            start = max(self._index(change.remove.first), end - change.limits.rewind_messages)
            removable = tuple((m.seq, m.id) for m in reversed(messages[start:end]))
        context = self.context
        return State(
            header=self.header,
            context={key: context[key] for key in change.context_keys if key in context},
            known=known,
            removable=removable,
        )

    def write(self, applied: Applied) -> None:
        """Write the messages and context entries of an applied change, but not its header."""
        for seq, message_id in applied.removed:
            del self.messages[self._index(seq)], self.seqs[message_id]
        if applied.updated is not None:
            self.messages[self._index(applied.updated.seq)] = applied.updated
        for message in applied.added:
            self.messages.append(message)
            self.seqs[message.id] = message.seq
        for key in applied.context_drop:
            del self.context[key]
        self.context.update(applied.context_set)

    def _candidates(self, window: Window) -> Iterator[StoredMessage]:
        """Yield the messages past the bound of the window, nearest to it first."""
        messages = self.messages
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
