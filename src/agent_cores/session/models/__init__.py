"""What a session is, and what one write to it means. Pure data and pure functions; no I/O."""

from __future__ import annotations

from agent_cores.session.models.change import Applied, Change, State, apply_change
from agent_cores.session.models.effects import (
    AccessEffect,
    HoldEffect,
    MessageUpdate,
    RenewEffect,
    TurnEffect,
)
from agent_cores.session.models.limits import Limits
from agent_cores.session.models.message import ImportedMessage, Message, NewMessage, StoredMessage
from agent_cores.session.models.new_session import NewSession
from agent_cores.session.models.query import (
    Cursor,
    Ended,
    Found,
    Query,
    SessionCount,
    matches,
    order_key,
)
from agent_cores.session.models.selection import (
    NamedMessages,
    OldestMessages,
    SeqRange,
    removable_among,
)
from agent_cores.session.models.session import (
    DEFAULT_NAMESPACE,
    AccessRole,
    Grant,
    Hold,
    Page,
    RenewOn,
    Session,
    SessionMetadata,
    SessionStatus,
    Turn,
    Visibility,
)
from agent_cores.session.models.snapshot import Snapshot, Window

__all__ = [
    "DEFAULT_NAMESPACE",
    "AccessEffect",
    "AccessRole",
    "Applied",
    "Change",
    "Cursor",
    "Ended",
    "Found",
    "Grant",
    "Hold",
    "HoldEffect",
    "ImportedMessage",
    "Limits",
    "Message",
    "MessageUpdate",
    "NamedMessages",
    "NewMessage",
    "NewSession",
    "OldestMessages",
    "Page",
    "Query",
    "RenewEffect",
    "RenewOn",
    "SeqRange",
    "Session",
    "SessionCount",
    "SessionMetadata",
    "SessionStatus",
    "Snapshot",
    "State",
    "StoredMessage",
    "Turn",
    "TurnEffect",
    "Visibility",
    "Window",
    "apply_change",
    "matches",
    "order_key",
    "removable_among",
]
