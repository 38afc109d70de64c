"""A removal or replacement of a range of messages, by one read and one guarded write.

Both are statements that commit by themselves. The write is applied only if the header is still
exactly the one on which the change was decided; otherwise, or if another transaction holds the
session, nothing is written and the change falls back to the generic batch, which locks first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from agent_cores.session.codec import Field, encode_changes, encode_header
from agent_cores.session.errors import SessionError
from agent_cores.session.models.change import Applied, Change, State, apply_change
from agent_cores.session.models.read_before import state_read_before
from agent_cores.session.models.representation import hides
from agent_cores.session.models.selection import SeqRange
from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.sql.errors import left_nothing
from agent_cores.session.storage.sql.rows import listing_time, message_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.models import SessionMetadata

SET = (
    "last_seq",
    "message_count",
    "revision",
    "last_active_at",
    "updated_at",
    "listed_at",
    "expires_at",
    "due_at",
)
"""The columns that such a change sets."""
GUARDS = ("format", "incarnation", "access_revision", "hold", "turn_token", "turn_expires_at", *SET)
"""The columns that must be as they were read; every other one changes together with one of them."""


@hides("bodies")
class TailWrite(msgspec.Struct, frozen=True):
    """What one statement writes. Times are milliseconds.

    ``messages`` are ``(seq, id, created_at)``. ``first`` and ``last`` are the range to remove.
    ``at`` must be before the stored end and before ``valid_until``, both if given.
    """

    namespace: str
    session_id: str
    guards: tuple[Field, ...]
    values: tuple[Field, ...]
    at: int
    valid_until: int | None
    first: int
    last: int
    messages: tuple[tuple[int, str, int], ...]
    bodies: tuple[bytes, ...]
    listed_at: int

    @classmethod
    def of(cls, change: Change, applied: Applied) -> TailWrite | None:
        """Return what a decided change writes; ``None`` if that is more than one statement does."""
        before, after = applied.before, applied.header
        if before is None or before.hold is not None or not (applied.removed or applied.added):
            return None
        if not encode_changes(before, after).keys() <= set(SET):
            return None
        seqs = [seq for seq, _ in applied.removed]
        rows = [message_row(0, message) for message in applied.added]
        return cls(
            namespace=change.namespace,
            session_id=change.session_id,
            guards=_values(before, GUARDS),
            values=_values(after, SET),
            at=to_millis(change.at),
            valid_until=None if change.valid_until is None else to_millis(change.valid_until),
            first=min(seqs, default=1),
            last=max(seqs, default=0),
            messages=tuple([(seq, name, at) for _, seq, name, at, _ in rows]),
            bodies=tuple([row[4] for row in rows]),
            listed_at=listing_time(after),
        )


class TailDatabase(Protocol):
    """Reads, and writes, what such a change needs in one statement each."""

    async def read(self, change: Change, remove: SeqRange, *, deadline: float) -> State | None:
        """Return what ``apply_change`` needs; ``None`` if there is no such session."""

    async def write(self, write: TailWrite, *, sent_at: int | None, deadline: float) -> bool:
        """Write if the guards hold; return whether they did. It waits for no locked session.

        ``sent_at`` is the server's time now, in milliseconds.
        """


def is_tail_change(change: Change) -> bool:
    """Whether a change removes a range of seqs, and perhaps appends messages, and no more."""
    return isinstance(change.remove, SeqRange) and not (
        change.create is not None
        or change.delete
        or change.update is not None
        or change.metadata
        or change.context_keys
        or change.access is not None
        or change.turn_effect is not None
        or change.hold is not None
        or change.renew is not None
        or change.expected_hold is not None
    )


async def change_tail(
    tails: TailDatabase, change: Change, *, sent_at: int | None, deadline: float
) -> Applied | None:
    """Apply such a change; ``None`` if it must fall back, with nothing written."""
    remove = change.remove
    if not isinstance(remove, SeqRange):
        return None
    try:
        state = state_read_before(change)
        if state is None:
            state = await tails.read(change, remove, deadline=deadline)
        if state is None:
            return None
        change = change.as_of(change.applied_at())
        applied = apply_change(state, change)
    except SessionError:  # only the generic batch refuses
        return None
    if applied.replayed:
        return None
    write = TailWrite.of(change, applied)
    if write is None:
        return None
    try:
        done = await tails.write(write, sent_at=sent_at, deadline=deadline)
    except SessionError as error:
        if left_nothing(error):
            return None
        raise
    return applied if done else None


def _values(header: SessionMetadata, names: Sequence[str]) -> tuple[Field, ...]:
    fields = encode_header(header)
    return tuple([fields[name] for name in names])
