"""``SessionEvent``: what a hook receives, and which event a change causes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.models.message import Message
from agent_cores.session.models.session import SessionMetadata

if TYPE_CHECKING:
    from agent_cores.session.models.change import Applied, Change

EVENT_NAMES = (
    "session.created",
    "session.updated",
    "session.access_changed",
    "session.archived",
    "session.unarchived",
    "session.rewound",
    "session.expired",
    "session.deleted",
    "message.appended",
    "message.updated",
    "message.deleted",
)


class SessionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a session, after the store acknowledged it.

    ``user_id`` is who did it, or ``None`` for an expiry. ``session`` is the header afterwards, for
    ``session.*`` events; it is ``None`` if the store had already erased the session. ``message`` is
    set for ``message.appended`` and ``message.updated``, as it is afterwards, and ``seq`` for
    ``message.*`` and for ``session.rewound``, where it is the last seq that was kept.
    """

    name: str
    at: datetime
    namespace: str
    session_id: str
    user_id: str | None = None
    session: SessionMetadata | None = None
    message: Message | None = None
    seq: int | None = None


Handler = Callable[[SessionEvent], Awaitable[None] | None]


def session_event_name(change: Change, applied: Applied) -> str | None:
    """Return the ``session.*`` event of a change, or ``None``."""
    before, after = applied.before, applied.header
    if applied.replayed or change.is_plain_append:
        return None
    if applied.deleted:
        return "session.deleted"
    if before is None or change.hold is not None:
        return None if after.hold is not None else "session.created"
    if before.archived is not after.archived:
        return "session.archived" if after.archived else "session.unarchived"
    if before.revision == after.revision:
        return None
    if applied.removed or applied.updated is not None:
        return None
    return "session.access_changed" if change.access is not None else "session.updated"
