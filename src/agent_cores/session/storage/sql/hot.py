"""The hot append: many plain appends in one statement, which may only say yes.

It numbers and writes where the guards hold and no id is known, as ``apply_change`` would; where it
says nothing of an append, nothing of that one was written, and the generic batch looks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.models.change import Applied, Change, HotAppend, hot_append
from agent_cores.session.models.message import numbered
from agent_cores.session.models.representation import hides
from agent_cores.session.models.times import from_millis, to_millis
from agent_cores.session.storage.postgres import queries as sql
from agent_cores.session.storage.postgres.connection import milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent_cores.session.models import SessionMetadata
    from agent_cores.session.storage.postgres.connection import Database
    from agent_cores.session.storage.sql.rows import SessionName

_encode = msgspec.json.Encoder().encode
_instant = lru_cache(maxsize=10_000)(from_millis)  # sessions keep an instant for many appends


@hides("turn")
class Guards(msgspec.Struct):
    """What must stand of a session, and its new times in milliseconds, as sent."""

    namespace: str
    session_id: str
    incarnation: int
    access_revision: int | None
    revision: int
    turn: str | None
    expected_last_seq: int | None
    at: int
    valid_until: int | None
    expires_at: int | None
    listed_at: int | None
    item: int


class Sent(msgspec.Struct):
    """A message as the statement takes it, but for its body. ``leads``: the first of its append."""

    item: int
    leads: bool
    id: str
    created_at: int


class Append:
    """A plain append that goes out on a header seen before."""

    __slots__ = ("_at", "_hot", "_sent", "basis", "change")

    _at: datetime
    _hot: HotAppend
    _sent: Guards

    def __init__(self, change: Change, basis: SessionMetadata) -> None:
        self.change = change
        self.basis = basis

    @classmethod
    def of(cls, change: Change) -> Append | None:
        """Return the append behind a change; ``None`` where it must be looked at first."""
        basis = change.basis
        if basis is None or any(message.seq for message in change.append):
            return None
        if change.incarnation not in {None, basis.incarnation}:
            return None
        if change.access_revision not in {None, basis.access_revision}:
            return None
        if change.expected_revision is not None or not change.is_plain_append:
            return None
        return None if basis.archived else cls(change, basis)

    def guards(self, item: int) -> Guards | None:
        """Return what is sent of it now; ``None`` where it must be looked at first."""
        change, basis = self.change, self.basis
        at = change.applied_at()
        hot = hot_append(change, at)
        if hot is None:
            return None
        self._at, self._hot = at, hot
        self._sent = Guards(
            change.namespace,
            change.session_id,
            basis.incarnation,
            basis.access_revision,
            basis.revision,
            change.turn,
            change.expected_last_seq,
            to_millis(at),
            _millis(change.valid_until),
            _millis(hot.expires_at),
            _millis(hot.listed_at),
            item,
        )
        return self._sent

    @property
    def size(self) -> int:
        """The bytes of the bodies."""
        return sum(len(message.body) for message in self.change.append)

    def applied(self, row: Sequence[Any]) -> Applied:
        """Return what was done; ``row`` is the statement's answer to this append."""
        _, first, last_seq, count, revision, active_at, listed_at, ends, due_at = row
        change, sent = self.change, self._sent
        messages = numbered(change.append, first - 1)
        last = messages[-1].seq
        if ends is not None and sent.expires_at is not None:
            ends = max(ends, sent.expires_at)
            due_at = ends if due_at is None else min(due_at, ends)
        else:
            ends = None
        listed_at = max(listed_at or 0, sent.listed_at or 0)
        header = msgspec.structs.replace(
            self.basis,
            last_seq=last,
            message_count=count + last - last_seq,
            revision=revision,
            last_active_at=self._at if sent.at >= active_at else from_millis(active_at),
            listed_at=_end(listed_at or None),
            expires_at=self._hot.expires_at if ends == sent.expires_at else _end(ends),
            due_at=_end(due_at),
        )
        return Applied(before=self.basis, header=header, messages=messages, added=messages)


async def append_all(
    database: Database,
    appends: Sequence[Append],
    *,
    sent_at: int | None,
    deadline: float,
    lock_wait: float,
    skip_locked: bool = False,
) -> list[Applied | None]:
    """Carry out a batch in one statement and one commit; ``None`` for each to be looked at.

    It waits ``lock_wait`` seconds for a session that another transaction holds, then raises
    ``LockedError``; with ``skip_locked`` it leaves such sessions out. ``sent_at`` is what the
    server's clock shows now, in milliseconds: so it knows how long the statement waited.
    """
    chosen: list[Append] = []
    items: list[Guards] = []
    sent: list[Sent] = []
    for append in _choose(appends):
        place, leads = len(chosen), True
        guards = append.guards(place)
        if guards is None:
            continue
        chosen.append(append)
        items.append(guards)
        for message in append.change.append:
            sent.append(Sent(place, leads, message.id, to_millis(message.created_at)))
            leads = False
    bodies = [message.body for append in chosen for message in append.change.append]
    done: dict[Append, Applied] = {}
    statement = sql.HOT_APPEND_FREE if skip_locked else sql.HOT_APPEND
    if not chosen:
        return [None] * len(appends)
    texts = _encode(items).decode(), _encode(sent).decode()
    arguments = *texts, bodies, str(milliseconds(lock_wait)), sent_at
    for row in await database.fetch(statement, *arguments, writes=True, deadline=deadline):
        append = chosen[row[0]]
        done[append] = append.applied(row)
    return [done.get(append) for append in appends]


def _choose(appends: Sequence[Append]) -> list[Append]:
    """Return the appends that one statement can carry out together.

    A message id that comes twice, and an ``expected_last_seq`` behind another append to the same
    session, can only be judged after the one before: they are looked at afterwards.
    """
    ids: set[tuple[str, str, str]] = set()
    touched: set[SessionName] = set()
    chosen = []
    for append in appends:
        change = append.change
        name = change.namespace, change.session_id
        new = {(*name, message.id) for message in change.append}
        if change.expected_last_seq is not None and name in touched:
            continue
        if len(new) < len(change.append) or not ids.isdisjoint(new):
            continue
        ids |= new
        touched.add(name)
        chosen.append(append)
    return chosen


def _millis(at: datetime | None) -> int | None:
    return None if at is None else to_millis(at)


def _end(millis: int | None) -> datetime | None:
    return None if millis is None else _instant(millis)
