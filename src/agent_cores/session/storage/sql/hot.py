"""The hot append: plain appends on a cached header, applied by one guarded statement.

Only this module decides which changes may go hot and what their guards are. A hot append may only
do what ``apply_change`` would have done: it numbers and writes if the guards hold and no message id
is stored. If a database returns no row for an append, nothing of that append was written, and the
change falls back to the generic batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from agent_cores.session.models.change import Applied, Change, HotAppend, hot_append
from agent_cores.session.models.message import numbered
from agent_cores.session.models.representation import hides
from agent_cores.session.models.times import from_millis, to_millis

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent_cores.session.models import SessionMetadata
    from agent_cores.session.storage.sql.dialect import Row
    from agent_cores.session.storage.sql.rows import SessionName

_instant = lru_cache(maxsize=10_000)(from_millis)  # many appends share an instant


def may_go_hot(change: Change) -> bool:
    """Whether a change is a plain append whose guards are those of the header it was decided on.

    The database numbers its messages, and the cached header is enough to decide it.
    """
    basis = change.basis
    return (
        basis is not None
        and change.is_plain_append
        and not basis.archived
        and change.expects_revision_of(basis)
        and change.incarnation in (None, basis.incarnation)
        and change.access_revision in (None, basis.access_revision)
        and not any([message.seq for message in change.append])  # noqa: C419 - a list is faster
    )


@hides("turn")
class Guards(msgspec.Struct, omit_defaults=True, gc=False):
    """What a stored session must still have, and its new times. Times are milliseconds.

    ``turn``, ``expected_revision`` and ``expected_last_seq`` hold only if given. ``at`` must be
    before the stored end and before ``valid_until``; ``hold`` must be null, the format this
    program's. ``listed_at`` is the time to which the session moves in its listings, ``None`` if it
    stays; if set, ``revision`` must be the stored one. ``item`` numbers the appends.
    """

    item: int
    namespace: str
    session_id: str
    incarnation: int
    access_revision: int | None
    revision: int
    at: int
    expires_at: int | None = None
    listed_at: int | None = None
    turn: str | None = None
    expected_revision: int | None = None
    expected_last_seq: int | None = None
    valid_until: int | None = None


class Sent(msgspec.Struct, gc=False):
    """A message without its body. ``leads``: it is the first of its append."""

    item: int
    leads: bool
    id: str
    created_at: int


class HotAppends(msgspec.Struct):
    """The input of a database: the guards of each append, and all messages with their bodies.

    In each session messages are numbered in this order. A result is a row ``(item, first seq,
    last_seq, message_count, revision, last_active_at, listed_at, expires_at, due_at)``: the number
    of the first message, and fields of the header as they were before these appends. The
    header then has the later one of the stored and the given ``last_active_at``, ``listed_at`` and
    ``expires_at`` (null, for no end, is the latest); ``due_at`` is at most ``expires_at``, and
    ``expires_at`` itself where it was null.
    """

    guards: list[Guards] = []
    messages: list[Sent] = []
    bodies: list[bytes] = []


class Append:
    """A plain append that is applied on a cached header."""

    __slots__ = ("_at", "_hot", "_sent", "basis", "change")

    _at: datetime
    _hot: HotAppend
    _sent: Guards

    def __init__(self, change: Change, basis: SessionMetadata) -> None:
        self.change: Change = change
        self.basis: SessionMetadata = basis

    @classmethod
    def of(cls, change: Change) -> Append | None:
        """Return the append in a change; ``None`` if the change must fall back."""
        basis = change.basis
        return cls(change, basis) if basis is not None and may_go_hot(change) else None

    def guards(self, item: int) -> Guards | None:
        """Return its guards as of now; ``None`` if it must fall back."""
        change, basis = self.change, self.basis
        at = change.applied_at()
        hot = hot_append(change, at)
        if hot is None:
            return None
        self._at, self._hot = at, hot
        self._sent = Guards(
            item,
            change.namespace,
            change.session_id,
            basis.incarnation,
            basis.access_revision,
            basis.revision,
            to_millis(at),
            _millis(hot.expires_at),
            _millis(hot.listed_at),
            change.turn,
            change.expected_revision,
            change.expected_last_seq,
            _millis(change.valid_until),
        )
        return self._sent

    @property
    def size(self) -> int:
        """The bytes of the bodies."""
        return sum(len(message.body) for message in self.change.append)

    def applied(self, row: Sequence[Any]) -> Applied:
        """Return the outcome; ``row`` is the result of this append, see ``HotAppends``."""
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


class HotDatabase(Protocol):
    """What ``append_all`` requires of a database."""

    async def append_hot(
        self,
        appends: HotAppends,
        *,
        lock_wait: float,
        skip_locked: bool,
        sent_at: int | None,
        deadline: float,
    ) -> Sequence[Row]:
        """Apply plain appends in one statement; return a row for each that was applied."""


async def append_all(
    database: HotDatabase,
    appends: Sequence[Append],
    *,
    sent_at: int | None,
    deadline: float,
    lock_wait: float,
    skip_locked: bool = False,
) -> list[Applied | None]:
    """Apply a batch in one commit; return ``None`` for each append that must fall back.

    It waits ``lock_wait`` seconds for a session that another transaction has locked, then raises
    ``LockedError``; with ``skip_locked`` it leaves such sessions out. ``sent_at`` is the server's
    time now, in milliseconds, from which the server computes how long it waited for a lock.
    """
    chosen: list[Append] = []
    sent = HotAppends()
    for append in _choose(appends):
        item = len(chosen)
        guards = append.guards(item)
        if guards is None:
            continue
        chosen.append(append)
        sent.guards.append(guards)
        for number, message in enumerate(append.change.append):
            created_at = to_millis(message.created_at)
            sent.messages.append(Sent(item, number == 0, message.id, created_at))
            sent.bodies.append(message.body)
    if not chosen:
        return [None] * len(appends)
    rows = await database.append_hot(
        sent, lock_wait=lock_wait, skip_locked=skip_locked, sent_at=sent_at, deadline=deadline
    )
    done = {chosen[row[0]]: chosen[row[0]].applied(row) for row in rows}
    return [done.get(append) for append in appends]


def _choose(appends: Sequence[Append]) -> Sequence[Append]:
    """Return the appends that one statement can apply together.

    A repeated message id, and an ``expected_last_seq`` behind another append to the same session,
    can only be decided after the append before it: they fall back.
    """
    ids = [message.id for append in appends for message in append.change.append]
    expects = any([append.change.expected_last_seq is not None for append in appends])  # noqa: C419
    if not expects and len(set(ids)) == len(ids):  # nearly always
        return appends
    known: set[tuple[str, str, str]] = set()
    touched: set[SessionName] = set()
    chosen = []
    for append in appends:
        change = append.change
        name = change.namespace, change.session_id
        new = {(*name, message.id) for message in change.append}
        if change.expected_last_seq is not None and name in touched:
            continue
        if len(new) < len(change.append) or not known.isdisjoint(new):
            continue
        known |= new
        touched.add(name)
        chosen.append(append)
    return chosen


def _millis(at: datetime | None) -> int | None:
    return None if at is None else to_millis(at)


def _end(millis: int | None) -> datetime | None:
    return None if millis is None else _instant(millis)
