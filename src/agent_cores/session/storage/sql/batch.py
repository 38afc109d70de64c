"""``Batch``: many changes in one transaction: lock, read, decide by ``apply_change``, write.

It handles every kind of change. A refusal fails only its own change. An error of the transaction
is raised; then nothing was written.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from agent_cores.session.errors import SessionError
from agent_cores.session.models.change import Applied, apply_change
from agent_cores.session.storage.sql.dialect import Statement, Step
from agent_cores.session.storage.sql.errors import ClashError, LockedError
from agent_cores.session.storage.sql.rows import (
    Contents,
    Loaded,
    SessionName,
    Written,
    decode_header,
    header_row,
    message_of,
    name_of,
    rounds,
    write_rows,
)
from agent_cores.session.storage.sql.selecting import removable_step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent_cores.session.models import Change
    from agent_cores.session.storage.sql.dialect import Plan

Answer = Applied | Exception


class Batch:
    """One batch of changes, for one transaction. ``deletes``: whether it left rows to purge.

    With ``skip_locked`` the batch does not wait for a session that another transaction has locked:
    its changes get ``LockedError``.
    """

    def __init__(self, changes: Sequence[Change], *, skip_locked: bool = False) -> None:
        self._changes = changes
        self._skip_locked = skip_locked
        self._loaded: dict[SessionName, Loaded | SessionError] = {}
        self._answers: dict[int, Answer] = {}
        self._counts: Counter[str] = Counter()
        self.deletes: bool = False

    def plan(self) -> Plan[list[Answer]]:
        """Apply the changes, several to one session in their order; return each one's outcome."""
        yield from self._lock({_name(change) for change in self._changes})
        yield from self._check_missing()
        for indexes in rounds(self._changes):
            yield from self._run_round(indexes)
        counts = sorted(entry for entry in self._counts.items() if entry[1])
        if counts:
            yield Step(Statement.COUNT_SESSIONS, counts)
        return [self._answers[index] for index in range(len(self._changes))]

    def left(self) -> dict[SessionName, Loaded]:
        """Return the batch's stored and readable sessions, as they are after it."""
        return {name: held for name, held in self._loaded.items() if isinstance(held, Loaded)}

    def _lock(self, names: Iterable[SessionName]) -> Plan[None]:
        """Lock and load headers. After a wait for its lock, a row is as it is after the wait."""
        statement = Statement.LOCK_FREE if self._skip_locked else Statement.LOCK
        for row in (yield Step(statement, sorted(names))):
            name = name_of(row)
            try:
                self._loaded[name] = Loaded(row[0], decode_header(row))
            except SessionError as error:
                self._loaded[name] = error

    def _check_missing(self) -> Plan[None]:
        """Check missing sessions again: one may have been replaced during the wait for locks.

        Its new row may precede rows that are already locked. Locking it would break the lock order,
        so the changes of the batch must run one by one.
        """
        missing = {_name(change) for change in self._changes if change.create is None}
        missing -= self._loaded.keys()
        if not missing:
            return
        if not self._skip_locked and not self._loaded:
            yield from self._lock(missing)
            return
        for namespace, session_id in (yield Step(Statement.PRESENT, sorted(missing))):
            if not self._skip_locked:
                raise ClashError("a session was replaced while the batch waited for locks")
            held = LockedError("another transaction holds this session")
            self._loaded[namespace, session_id] = held

    def _run_round(self, indexes: Sequence[int]) -> Plan[None]:
        contents = yield from self._read_contents([self._changes[index] for index in indexes])
        written = Written()
        creates: dict[SessionName, int] = {}
        for index in indexes:
            change = self._changes[index]
            loaded = self._loaded.get(_name(change))
            if isinstance(loaded, SessionError):
                self._answers[index] = loaded
                continue
            change = change.as_of(change.applied_at())  # by now its session is locked
            try:
                applied = apply_change(contents.state(loaded, change), change)
            except SessionError as refusal:
                self._answers[index] = refusal
                continue
            self._answers[index] = applied
            if applied.writes and self._collect(written, loaded, change, applied):
                creates[_name(change)] = index
            if loaded is not None and applied.added:  # the next append may repeat one of them
                contents.add(loaded, applied.added)
        if written.deleted:  # before creates, which may use the same names
            yield Step(Statement.DELETE_HEADERS, written.deleted)
            self.deletes = True
        if creates:
            yield from self._create(written, creates)
        yield from write_rows(written)
        self._counts.update(written.counts)

    def _collect(
        self, written: Written, loaded: Loaded | None, change: Change, applied: Applied
    ) -> bool:
        """Collect what a change writes; return whether it creates a session.

        Its header is kept for the next change to that session.
        """
        name = _name(change)
        if loaded is not None and (applied.deleted or applied.replaced is not None):
            written.delete(loaded)
            del self._loaded[name]
        if applied.deleted:
            return False
        if applied.before is None:
            return True
        if loaded is not None:
            written.update(loaded.session_key, loaded.header, applied)
            self._loaded[name] = Loaded(loaded.session_key, applied.header)
        return False

    def _create(self, written: Written, creates: dict[SessionName, int]) -> Plan[None]:
        """Insert new headers in the order of their names, so that no two batches deadlock."""
        applied: dict[SessionName, Applied] = {}
        for name in sorted(creates):
            answer = self._answers[creates[name]]
            if isinstance(answer, Applied):
                applied[name] = answer
        headers = [header_row(each.header) for each in applied.values()]
        for namespace, session_id, key in (yield Step(Statement.INSERT_HEADERS, headers)):
            created = applied.pop((namespace, session_id))
            written.create(key, created)
            self._loaded[namespace, session_id] = Loaded(key, created.header)
        for name in applied:
            clash = ClashError("a concurrent create took this id first")
            self._answers[creates[name]] = self._loaded[name] = clash

    def _read_contents(self, changes: Sequence[Change]) -> Plan[Contents]:
        """Read what is outside the locked rows, in statements that run after the locking one."""
        found = [(change, self._loaded.get(_name(change))) for change in changes]
        stored = [(change, held) for change, held in found if isinstance(held, Loaded)]
        pairs = [(change, held.session_key) for change, held in stored]
        contents = Contents()
        ids = [
            (key, id_) for change, key in pairs if not change.create for id_ in change.message_ids
        ]
        if ids:
            for key, *message in (yield Step(Statement.KNOWN, ids)):
                known = contents.known.setdefault(key, {})
                known[message[1]] = message_of(message)
        names = [(key, name) for change, key in pairs for name in change.context_keys]
        if names:
            for key, name, value in (yield Step(Statement.CONTEXT, names)):
                contents.context.setdefault(key, {})[name] = value
        for change, held in stored:
            step = None if change.remove is None else removable_step(held, change)
            if step is not None:
                removable = tuple([(row[0], row[1]) for row in (yield step)])
                contents.removable[held.session_key] = removable
        return contents


def _name(change: Change) -> SessionName:
    return change.namespace, change.session_id
