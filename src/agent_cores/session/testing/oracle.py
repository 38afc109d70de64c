"""``Oracle``: the simplest possible store, built on ``apply_change``."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.models import (
    Change,
    Ended,
    NamedMessages,
    OldestMessages,
    Query,
    SessionMetadata,
    Snapshot,
    State,
    StoredMessage,
    Window,
    apply_change,
    matches,
    order_key,
)

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.models import Applied

EVERYTHING = Window(limit=sys.maxsize, after_seq=0, max_bytes=sys.maxsize)
"""The window that holds all messages of a session."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One whole session. ``messages`` are in order of seq."""

    header: SessionMetadata
    context: dict[str, bytes]
    messages: list[StoredMessage]


class Oracle:
    """Keeps every session whole and does everything the slow way."""

    def __init__(self) -> None:
        self.sessions: dict[tuple[str, str], Kept] = {}

    def header(self, namespace: str, session_id: str) -> SessionMetadata | None:
        """Return the stored header, or ``None``."""
        kept = self.sessions.get((namespace, session_id))
        return None if kept is None else kept.header

    def apply(self, change: Change) -> Applied:
        """Apply a change; raise what ``apply_change`` raises."""
        key = change.namespace, change.session_id
        kept = self.sessions.get(key)
        applied = apply_change(_state(kept, change), change)
        if applied.deleted:
            del self.sessions[key]
        elif not applied.replayed:
            self.sessions[key] = _after(None if applied.before is None else kept, applied)
        return applied

    def read(
        self, namespace: str, session_id: str, *, context: bool, window: Window | None
    ) -> Snapshot | None:
        """Read one session."""
        kept = self.sessions.get((namespace, session_id))
        if kept is None:
            return None
        page, has_more = (None, False) if window is None else window.select(kept.messages)
        return Snapshot(
            header=kept.header,
            context=dict(kept.context) if context else None,
            messages=page,
            has_more=has_more,
        )

    def listed(self, query: Query) -> list[SessionMetadata]:
        """Return the whole listing; limit, offset and cursor of the query are ignored."""
        headers = [kept.header for kept in self.sessions.values() if matches(kept.header, query)]
        return sorted(headers, key=lambda header: order_key(header, query), reverse=True)

    def due(self, at: datetime, lease_seconds: float) -> list[Ended]:
        """Lease every expired session; postpone the live ones."""
        taken = []
        for kept in list(self.sessions.values()):
            header = kept.header
            if header.due_at is None or header.due_at > at:
                continue
            due_at = header.expires_at
            if header.is_expired(at):
                taken.append(Ended.of(header))
                due_at = at + timedelta(seconds=lease_seconds)
            self.set_header(msgspec.structs.replace(header, due_at=due_at))
        return taken

    def set_header(self, header: SessionMetadata) -> None:
        """Replace the stored header."""
        key = header.namespace, header.session_id
        self.sessions[key] = msgspec.structs.replace(self.sessions[key], header=header)


def _state(kept: Kept | None, change: Change) -> State:
    if kept is None:
        return State()
    ids = set(change.message_ids)
    return State(
        header=kept.header,
        context={key: kept.context[key] for key in change.context_keys if key in kept.context},
        known={message.id: message for message in kept.messages if message.id in ids},
        removable=_removable(kept, change),
    )


def _removable(kept: Kept, change: Change) -> tuple[tuple[int, str], ...]:
    remove, most = change.remove, change.limits.rewind_messages
    pairs = [(message.seq, message.id) for message in kept.messages]
    if remove is None:
        return ()
    if isinstance(remove, NamedMessages):
        return tuple(pair for pair in pairs if pair[0] in remove.seqs or pair[1] in remove.ids)
    if isinstance(remove, OldestMessages):
        oldest = pairs[: max(len(pairs) - remove.keep, 0)]
        if remove.before_seq is not None:
            oldest = [pair for pair in oldest if pair[0] < remove.before_seq]
        return tuple(oldest[:most])
    reached = [pair for pair in reversed(pairs) if remove.first <= pair[0] <= remove.last]
    return tuple(reached[:most])


def _after(kept: Kept | None, applied: Applied) -> Kept:
    gone = {seq for seq, _ in applied.removed}
    context = {} if kept is None else dict(kept.context)
    for key in applied.context_drop:
        del context[key]
    messages = [] if kept is None else [m for m in kept.messages if m.seq not in gone]
    if applied.updated is not None:
        updated = applied.updated
        messages = [updated if m.seq == updated.seq else m for m in messages]
    return Kept(
        header=applied.header,
        context={**context, **applied.context_set},
        messages=[*messages, *applied.added],
    )
