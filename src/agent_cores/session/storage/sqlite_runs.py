"""``Runs``: the plain appends of a batch, written by one statement.

For every statement the writing thread gives the interpreter up, and then waits for it while the
event loop is at work: a batch costs by its statements more than by its rows. So this process
remembers what it wrote last of a session. From that ``apply_change`` tells what an append does, and
one statement writes it all, where every session still is as it is remembered. Where one is not,
since another process wrote, or where a message is known already, the statement leaves nothing
behind and every change goes by itself.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import chain
from typing import TYPE_CHECKING, Any

import apsw
import msgspec

from agent_cores.session.errors import SessionError
from agent_cores.session.models.change import Applied, Change, State, apply_change
from agent_cores.session.models.session import SessionMetadata
from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.sqlite_statements import RUN_COLUMNS, RUN_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent_cores.session.storage.sqlite_statements import Statements

MOST_REMEMBERED = 10_000
RESTS = 10
"""How many batches go without a run after one that failed: another process writes the same."""

Key = tuple[str, str]
"""Namespace and session id."""
Row = tuple[Any, ...]

_NO_MOVE: Row = (None,) * 9
_NO_ROW: Row = (None,) * RUN_COLUMNS


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """A session as it was written last: its key, and its header as far as appends need it."""

    session_key: int
    header: SessionMetadata


class Run(msgspec.Struct):
    """What goes at once: what each change does, by its index, and what sessions were and become."""

    answers: dict[int, Applied] = {}
    before: dict[Key, Remembered] = {}
    after: dict[Key, SessionMetadata] = {}
    messages: int = 0


class Runs:
    """Plans and writes runs on one connection."""

    def __init__(self, connection: apsw.Connection, statements: Statements) -> None:
        self._connection = connection
        self._statements = statements.run
        self._known: dict[Key, Remembered] = {}
        self._rests = 0
        connection.execute(statements.prepare_runs)

    def remember(self, key: Key, session_key: int, header: SessionMetadata) -> None:
        """Note a session as it has just been written."""
        self._known.pop(key, None)
        self._known[key] = Remembered(session_key, header)
        if len(self._known) > MOST_REMEMBERED:
            del self._known[next(iter(self._known))]

    def forget(self, key: Key) -> None:
        """Drop what is known of a session."""
        self._known.pop(key, None)

    def forget_all(self) -> None:
        """Drop all that is known: something that was written has been undone."""
        self._known.clear()

    def plan(self, changes: Sequence[Change]) -> Run:
        """Return the changes that can go at once.

        Of each session those before the first that cannot, so that its changes keep their order.
        """
        run = Run()
        if self._rests:
            self._rests -= 1
            return run
        left: set[Key] = set()
        for index, change in enumerate(changes):
            key = change.namespace, change.session_id
            applied = None if key in left else self._planned(run, key, change)
            if applied is None:
                left.add(key)
            else:
                run.answers[index] = applied
                run.after[key] = applied.header
                run.messages += len(applied.added)
        return run

    def _planned(self, run: Run, key: Key, change: Change) -> Applied | None:
        """Return what a change does if it is a plain append that there is room for."""
        known = self._known.get(key)
        if known is None or not _is_simple(change):
            return None
        if run.messages + len(change.append) > RUN_ROWS[-1]:
            return None
        header = run.after.get(key, known.header)
        try:
            applied = apply_change(State(header=header), change)
        except SessionError:
            return None  # perhaps refused for what is out of date
        if applied.header.due_at is not header.due_at:
            return None
        run.before[key] = known
        return applied

    def write(self, run: Run) -> bool:
        """Write a run; false: nothing was written, a session or a message is not as expected."""
        rows: list[Row] = []
        moved: set[Key] = set()
        for applied in run.answers.values():
            key = applied.header.namespace, applied.header.session_id
            known = run.before[key]
            for message in applied.added:
                move = _NO_MOVE if key in moved else _move(known.header, run.after[key])
                moved.add(key)
                at = to_millis(message.created_at)
                rows.append((known.session_key, *move, message.seq, message.id, at, message.body))
        count = RUN_ROWS[bisect_left(RUN_ROWS, len(rows))]
        rows += [_NO_ROW] * (count - len(rows))
        try:
            self._connection.execute(self._statements[count], tuple(chain.from_iterable(rows)))
        except apsw.ConstraintError:
            self._rests = RESTS
            return False
        for key, header in run.after.items():
            self.remember(key, run.before[key].session_key, header)
        return True


def _is_simple(change: Change) -> bool:
    return change.is_plain_append and change.turn is None and change.expected_revision is None


def _move(before: SessionMetadata, after: SessionMetadata) -> Row:
    """Return what shows that a session is as it was, and what it becomes."""
    return (
        before.access_revision,
        before.revision,
        before.last_seq,
        _millis(before.expires_at),
        after.last_seq,
        after.message_count,
        to_millis(after.last_active_at),
        _millis(after.expires_at),
        None if after.listed_at is before.listed_at else _millis(after.listed_at),
    )


def _millis(at: datetime | None) -> int | None:
    return None if at is None else to_millis(at)
