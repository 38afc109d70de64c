"""A change's state as its caller read it, for providers that need not read it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.models.selection import SeqRange
from agent_cores.session.models.state import State

if TYPE_CHECKING:
    from agent_cores.session.models.change import Change


def state_read_before(change: Change) -> State | None:
    """Return the state that the caller read; ``None`` if it does not prove that it still holds.

    What a session holds up to its last seq follows from its revision, with which the write must be
    guarded.
    """
    basis, remove = change.basis, change.remove
    if change.removable is None or basis is None or change.expected_revision is None:
        return None
    if not isinstance(remove, SeqRange) or remove.last > basis.last_seq:
        return None
    if change.message_ids or change.context_keys:
        return None
    return State(header=basis, removable=change.removable)
