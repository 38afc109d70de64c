"""The hot append: plain appends on a cached header, applied by one guarded statement.

Only this module decides which changes may go hot and what their guards are. A hot append may only
do what ``apply_change`` would have done: it numbers and writes if the guards hold and no message id
is stored. If a database returns no row for a session, none of the appends to it was written, and
they fall back to the generic batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from agent_cores.session.models.change import Applied, Change, HotAppend, hot_times, may_append_hot
from agent_cores.session.models.expiry import earlier, later
from agent_cores.session.models.message import numbered
from agent_cores.session.models.representation import hides
from agent_cores.session.models.times import from_millis, to_millis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from agent_cores.session.models import SessionMetadata
    from agent_cores.session.storage.sql.dialect import Row
    from agent_cores.session.storage.sql.rows import SessionName

_instant = lru_cache(maxsize=10_000)(from_millis)  # many appends share an instant
_to_millis = lru_cache(maxsize=1_000)(to_millis)


def may_go_hot(change: Change) -> bool:
    """Whether a change is a plain append whose guards are those of the header it was decided on.

    The database numbers its messages, and the cached header is enough to decide it.
    """
    basis = change.basis
    return (
        basis is not None
        and change.incarnation in (None, basis.incarnation)
        and change.access_revision in (None, basis.access_revision)
        and may_append_hot(change)
        and not any([message.seq for message in change.append])  # noqa: C419 - a list is faster
    )


@hides("turn")
class Guards(msgspec.Struct, omit_defaults=True, gc=False):
    """What a stored session must still have, and its new times. Times are milliseconds.

    ``turn``, ``expected_revision`` and ``expected_last_seq`` hold only if given. ``at`` must be
    before the stored end and before ``valid_until``; ``hold`` must be null, the format this
    program's. ``listed_at`` is the time to which the session moves in its listings, ``None`` if it
    stays; if set, ``revision`` must be the stored one. ``messages`` says how many are appended;
    ``item`` is the session's place in the batch.
    """

    item: int
    messages: int
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

    def admits(self, other: Guards) -> bool:
        """Whether another append, which comes later in the batch, may share these guards."""
        return (
            other.expected_last_seq is None
            and other.incarnation == self.incarnation
            and other.access_revision == self.access_revision
            and other.revision == self.revision
            and other.turn == self.turn
            and other.expected_revision == self.expected_revision
        )

    def joined(self, other: Guards) -> Guards:
        """Return the guards of both: the strictest conditions, and the latest times."""
        return msgspec.structs.replace(
            self,
            at=max(self.at, other.at),
            expires_at=later(self.expires_at, other.expires_at),
            listed_at=max(self.listed_at or 0, other.listed_at or 0) or None,
            valid_until=earlier(self.valid_until, other.valid_until),
            messages=self.messages + other.messages,
        )


class Sent(msgspec.Struct, gc=False):
    """A message without its body: the ``nth`` of the session that is the batch's ``item``."""

    item: int
    nth: int
    id: str
    created_at: int


class HotAppends(msgspec.Struct):
    """The input of a database: the guards of each session, and all messages with their bodies.

    The appends to a session are all applied or all left out. A result is a row ``(item, last_seq,
    message_count, revision, last_active_at, listed_at, expires_at, due_at)``: fields of the header
    as they were before these appends. The header then has the later one of the stored and the
    given ``last_active_at``, ``listed_at`` and ``expires_at`` (null, for no end, is the latest);
    ``due_at`` is at most ``expires_at``, and ``expires_at`` itself where it was null.
    """

    sessions: list[Guards] = []
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
        """Return its guards as of now, for that place in a batch; ``None`` if it must fall back."""
        change, basis = self.change, self.basis
        at, until = change.applied_at(), change.valid_until
        if until is not None and at >= until:
            return None
        self._at, self._hot = at, hot_times(basis, at)
        self._sent = Guards(
            item,
            len(change.append),
            change.namespace,
            change.session_id,
            basis.incarnation,
            basis.access_revision,
            basis.revision,
            _to_millis(at),
            _millis(self._hot.expires_at),
            _millis(self._hot.listed_at),
            change.turn,
            change.expected_revision,
            change.expected_last_seq,
            _millis(until),
        )
        return self._sent

    @property
    def size(self) -> int:
        """The bytes of the bodies."""
        messages = self.change.append
        if len(messages) == 1:
            return len(messages[0].body)
        return sum(len(message.body) for message in messages)

    def applied(self, row: Sequence[Any], before: int) -> Applied:
        """Return the outcome; ``row`` is the result of its session, see ``HotAppends``.

        ``before`` says how many messages of the batch come before its own in the session.
        """
        _, last_seq, count, revision, active_at, listed_at, ends, due_at = row
        change, sent = self.change, self._sent
        messages = numbered(change.append, last_seq + before)
        added = before + len(messages)
        if ends is not None and sent.expires_at is not None:
            ends = max(ends, sent.expires_at)
            due_at = ends if due_at is None else min(due_at, ends)
        else:
            ends = None
        listed_at = max(listed_at or 0, sent.listed_at or 0)
        header = msgspec.structs.replace(
            self.basis,
            last_seq=last_seq + added,
            message_count=count + added,
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
        """Apply plain appends in one commit; return a row for each session that was appended to."""


class HotBatch:
    """Plain appends that one statement can apply together, by session."""

    def __init__(self) -> None:
        self.sent: HotAppends = HotAppends()
        self._appends: list[list[Append]] = []
        self._items: dict[SessionName, int] = {}

    def add(self, append: Append) -> None:
        """Add an append, unless it must fall back.

        An ``expected_last_seq`` behind another append to the same session can only be decided after
        that one, and appends with other guards by themselves.
        """
        name = append.change.namespace, append.change.session_id
        sessions, before = self.sent.sessions, 0
        item = self._items.get(name, len(sessions))
        guards = append.guards(item)
        if guards is None:
            return
        if item == len(sessions):
            self._items[name] = item
            sessions.append(guards)
            self._appends.append([append])
        else:
            known = sessions[item]
            if not known.admits(guards):
                return
            before = known.messages
            sessions[item] = known.joined(guards)
            self._appends[item].append(append)
        for nth, message in enumerate(append.change.append, before + 1):
            created_at = _to_millis(message.created_at)
            self.sent.messages.append(Sent(item, nth, message.id, created_at))
            self.sent.bodies.append(message.body)

    def applied(self, rows: Sequence[Row]) -> Iterator[tuple[Append, Applied]]:
        """Return the outcome of each append that was applied."""
        for row in rows:
            before = 0
            for append in self._appends[row[0]]:
                yield append, append.applied(row, before)
                before += len(append.change.append)


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
    batch = HotBatch()
    for append in _without_repeated_ids(appends):
        batch.add(append)
    if not batch.sent.sessions:
        return [None] * len(appends)
    rows = await database.append_hot(
        batch.sent, lock_wait=lock_wait, skip_locked=skip_locked, sent_at=sent_at, deadline=deadline
    )
    done = dict(batch.applied(rows))
    return [done.get(append) for append in appends]


def _without_repeated_ids(appends: Sequence[Append]) -> Sequence[Append]:
    """Return the appends without those that repeat a message id: they fall back.

    Whether that is a replay can only be decided after the append before it.
    """
    ids = [message.id for append in appends for message in append.change.append]
    if len(set(ids)) == len(ids):  # nearly always
        return appends
    known: set[tuple[str, str, str]] = set()
    chosen = []
    for append in appends:
        change = append.change
        new = {(change.namespace, change.session_id, message.id) for message in change.append}
        if len(new) == len(change.append) and known.isdisjoint(new):
            known |= new
            chosen.append(append)
    return chosen


def _millis(at: datetime | None) -> int | None:
    return None if at is None else _to_millis(at)


def _end(millis: int | None) -> datetime | None:
    return None if millis is None else _instant(millis)
