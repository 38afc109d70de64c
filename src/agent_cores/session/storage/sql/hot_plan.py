"""The hot append as a plan, for a database that cannot apply it in one statement.

It locks the sessions, compares the guards here, numbers, and writes: two round trips if the dialect
sends its writes together with the COMMIT. No header is decoded, and message ids are not looked up:
one that is already stored violates the unique key, and the batch falls back.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.codec import FORMAT
from agent_cores.session.storage.sql.dialect import Row, Statement, Step

if TYPE_CHECKING:
    from agent_cores.session.storage.sql.dialect import Plan
    from agent_cores.session.storage.sql.hot import Guards, HotAppends

_SPARE_MILLIS = 100
"""How much later than expected a lock may be granted without counting as a wait."""
_WRITTEN = ("last_seq", "message_count", "last_active_at", "listed_at", "expires_at", "due_at")


class _Stored(msgspec.Struct):
    """A locked session: its key and the fields that an append reads, then its new values."""

    session_key: int
    namespace: str
    session_id: str
    format: int
    incarnation: int
    access_revision: int | None
    hold: str | None
    turn_token: str | None
    last_seq: int
    message_count: int
    revision: int
    last_active_at: int
    listed_at: int | None
    expires_at: int | None
    due_at: int | None
    before: Row = ()
    moved_to: int | None = None

    @classmethod
    def of(cls, row: Row) -> _Stored:
        """Return the session of a row of ``_READ``."""
        stored = cls(*row)
        stored.before = tuple(row[_CHANGING:])
        return stored

    def holds(self, guards: Guards, waited: int) -> bool:
        """Whether appends may be applied to the stored session, after a wait in milliseconds."""
        at = guards.at + waited
        return (
            self.format == FORMAT
            and self.hold is None
            and self.incarnation == guards.incarnation
            and self.access_revision == guards.access_revision
            and (guards.listed_at is None or self.revision == guards.revision)
            and (guards.turn is None or self.turn_token == guards.turn)
            and (self.expires_at is None or at < self.expires_at)
            and (guards.valid_until is None or at < guards.valid_until)
            and guards.expected_revision in {None, self.revision}
            and guards.expected_last_seq in {None, self.last_seq}
        )

    def add(self, guards: Guards) -> None:
        """Adopt the messages and the new times of appends."""
        self.last_seq += guards.messages
        self.message_count += guards.messages
        self.last_active_at = max(self.last_active_at, guards.at)
        if guards.listed_at is not None:
            self.listed_at = self.moved_to = max(self.listed_at or 0, guards.listed_at)
        if self.expires_at is not None and guards.expires_at is not None:
            self.expires_at = max(self.expires_at, guards.expires_at)
            self.due_at = min(self.due_at or self.expires_at, self.expires_at)
        else:
            self.expires_at, self.due_at = None, self.before[6]


_READ = _Stored.__struct_fields__[1:-2]
_CHANGING = 1 + _READ.index("last_seq")
"""Where the fields begin that a result of ``HotAppends`` repeats."""


def hot_plan(appends: HotAppends, *, skip_locked: bool) -> Plan[list[Row]]:
    """Apply plain appends in one transaction; return rows as ``HotAppends`` describes them."""
    names = [(guards.namespace, guards.session_id) for guards in appends.sessions]
    lock = Statement.LOCK_FREE if skip_locked else Statement.LOCK
    sent_at = time.monotonic()
    locked = [_Stored.of(row) for row in (yield Step(lock, sorted(names), _READ))]
    sessions = {(stored.namespace, stored.session_id): stored for stored in locked}
    waited = max(0, int((time.monotonic() - sent_at) * 1000) - _SPARE_MILLIS)
    chosen: dict[int, _Stored] = {}
    for guards in appends.sessions:
        stored = sessions.get((guards.namespace, guards.session_id))
        if stored is not None and stored.holds(guards, waited):
            stored.add(guards)
            chosen[guards.item] = stored
    messages = [
        (stored.session_key, stored.before[0] + message.nth, message.id, message.created_at, body)
        for message, body in zip(appends.messages, appends.bodies, strict=True)
        if (stored := chosen.get(message.item)) is not None
    ]
    if messages:
        yield from _write(list(chosen.values()), messages)
    return [(item, *stored.before) for item, stored in chosen.items()]


def _write(changed: list[_Stored], messages: list[Row]) -> Plan[None]:
    yield Step(Statement.INSERT_MESSAGES, messages)
    headers = [(each.session_key, *[getattr(each, name) for name in _WRITTEN]) for each in changed]
    yield Step(Statement.UPDATE_HEADERS, headers, _WRITTEN)
    moved = [(each.session_key, each.moved_to) for each in changed if each.moved_to is not None]
    if moved:
        yield Step(Statement.MOVE_OWNED, moved)
