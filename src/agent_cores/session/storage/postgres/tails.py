"""``Tails``: changes of a session's end in one statement each, as ``sql/tail.py`` needs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agent_cores.session.models.state import State
from agent_cores.session.storage.postgres.tail_queries import READ_TAIL, WRITE_TAIL
from agent_cores.session.storage.sql.rows import columns, decode_header, message_of

if TYPE_CHECKING:
    from agent_cores.session.models.change import Change
    from agent_cores.session.models.selection import SeqRange
    from agent_cores.session.storage.sql.dialect import Row
    from agent_cores.session.storage.sql.tail import TailWrite

Fetch = Callable[..., Awaitable[list[Any]]]
"""Runs one statement by itself, within ``deadline``; ``writes`` says that it does."""


class Tails:
    """Reads and writes by ``fetch``."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    async def read(self, change: Change, remove: SeqRange, *, deadline: float) -> State | None:
        """Return what ``apply_change`` needs; ``None`` if there is no such session."""
        rows = await self._fetch(
            READ_TAIL,
            change.namespace,
            change.session_id,
            remove.first,
            remove.last,
            change.limits.rewind_messages,
            list(change.message_ids),
            deadline=deadline,
        )
        return _state(rows[0]) if rows else None

    async def write(self, write: TailWrite, *, sent_at: int | None, deadline: float) -> bool:
        """Write if the guards hold; return whether they did."""
        rows = await self._fetch(
            WRITE_TAIL,
            write.namespace,
            write.session_id,
            write.first,
            write.last,
            *(columns(write.messages) or ([], [], [])),
            list(write.bodies),
            write.at,
            sent_at,
            write.valid_until,
            write.listed_at,
            *write.guards,
            *write.values,
            writes=True,
            deadline=deadline,
        )
        return bool(rows)


def _state(row: Row) -> State:
    """Return what ``apply_change`` needs; ``CorruptRecordError`` if it cannot be read."""
    removable = zip(row["seqs"] or (), row["ids"] or (), strict=True)
    known = zip(
        row["known_seqs"] or (),
        row["known_ids"] or (),
        row["known_times"] or (),
        row["known_bodies"] or (),
        strict=True,
    )
    return State(
        header=decode_header(row),
        known={message.id: message for message in map(message_of, known)},
        removable=tuple(removable),
    )
