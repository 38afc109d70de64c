"""``State``: what ``apply_change`` reads of a stored session. ``Applied``: what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.representation import hides
from agent_cores.session.models.session import SessionMetadata

_NOTHING: Mapping[str, Any] = {}


@hides("context")
class State(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part of a stored session that decides what a change does.

    ``context``: the entries of the keys that the change names. ``known``: the stored messages
    whose ids the change appends or updates. ``removable``: ``(seq, id)`` of the messages in
    ``change.remove``. Those of a ``SeqRange`` come highest seq first, at most
    ``limits.rewind_messages`` of them; ``OldestMessages`` come lowest seq first, at most as many as
    its ``most()`` says; ``NamedMessages`` come in any order, each once.
    """

    header: SessionMetadata | None = None
    context: Mapping[str, bytes] = _NOTHING
    known: Mapping[str, StoredMessage] = _NOTHING
    removable: tuple[tuple[int, str], ...] = ()


@hides("context_set")
class Applied(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a change did, and therefore what a provider writes.

    ``header`` is the new header, or the last one of a deleted session. ``messages`` are those of
    the append, in its order and as stored; ``added`` are the new ones among them, to write. Of an
    update, ``messages`` has the message as stored, and so has ``updated``, if it is to be written.
    ``removed`` are ``(seq, id)`` pairs. ``replaced`` is the expired session whose records a create
    removes first. A replay writes nothing.
    """

    before: SessionMetadata | None
    header: SessionMetadata
    messages: tuple[StoredMessage, ...] = ()
    added: tuple[StoredMessage, ...] = ()
    updated: StoredMessage | None = None
    removed: tuple[tuple[int, str], ...] = ()
    context_set: Mapping[str, bytes] = _NOTHING
    context_drop: tuple[str, ...] = ()
    replaced: SessionMetadata | None = None
    deleted: bool = False
    replayed: bool = False

    @property
    def writes(self) -> bool:
        """Whether there is anything to write."""
        return self.deleted or self.header != self.before or bool(self.replaced)
