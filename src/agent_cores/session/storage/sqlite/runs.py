"""``Runs``: the plain appends of a batch, written by one statement.

Each statement releases and re-acquires the GIL, so the number of statements dominates the cost of a
batch. This process remembers the state in which its last write left each session. From that
``apply_change`` decides on the event loop what an append does. One statement on the writing thread
then writes the whole run, if each session is still in the remembered state. If one is not, because
another process wrote, or if a message id is already stored, the statement writes nothing and every
change goes into an ordinary batch.

This file earns its keep in the benchmark ``append`` on SQLite with 100 callers: without it (and
with ``fast_path=False``) throughput falls by a quarter, and an append takes half as much processor
time again. docs/decisions/0018-one-sql-core.md has the figures.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import apsw
import msgspec

from agent_cores.session.errors import SessionError
from agent_cores.session.models.change import Applied, Change, State, apply_change
from agent_cores.session.models.session import SessionMetadata
from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.sql.hot import may_go_hot
from agent_cores.session.storage.sql.rows import SessionName
from agent_cores.session.storage.sqlite.queries import RUN_COLUMNS, RUN_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_cores.session.storage.sqlite.queries import Queries

MOST_REMEMBERED = 10_000
"""How many sessions are remembered; the least recently written one is forgotten first."""
RESTS = 10
"""How many batches skip runs after one failed: most often, another process is writing."""

_A_WHILE = timedelta(seconds=0.1)
"""A change younger than this keeps the time of its decision, which saves deciding it again."""

_NEVER = datetime.max.replace(tzinfo=UTC)
_NO_MOVE = (None,) * (RUN_COLUMNS - 5)


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """A session as last written: its key, and its header without the caller's own fields.

    ``state`` has what a run compares, as stored: ``access_revision``, ``revision``, ``last_seq``,
    ``last_active_at``, ``listed_at`` and ``expires_at``.
    """

    session_key: int
    header: SessionMetadata
    state: tuple[int | None, ...]

    @classmethod
    def of(cls, session_key: int, header: SessionMetadata) -> Remembered:
        """Return a session as its header shows it."""
        state = (
            header.access_revision,
            header.revision,
            header.last_seq,
            to_millis(header.last_active_at),
            _millis(header.listed_at),
            _millis(header.expires_at),
        )
        return cls(session_key, header, state)


class Run(msgspec.Struct):
    """The part of a batch that one statement writes.

    ``answers`` has the result of each of its changes, by index. ``before`` and ``after`` are the
    sessions that they change, ``others`` those that the rest of the batch may change.
    ``generation`` says for which file that is known. ``ends_at`` is when the first of these
    sessions, or of the rights to append to them, expires; ``clocks`` give the current time.
    """

    generation: int = 0
    ends_at: datetime | None = None
    clocks: list[Callable[[], datetime]] = []

    answers: dict[int, Applied] = {}
    before: dict[SessionName, Remembered] = {}
    after: dict[SessionName, SessionMetadata] = {}
    others: set[SessionName] = set()
    messages: int = 0
    statement: str = ""
    bindings: list[Any] = []

    def is_late(self) -> bool:
        """Whether something has expired since planning: then each change must be decided again."""
        end = self.ends_at
        return end is not None and any(clock() >= end for clock in self.clocks)

    def end_by(self, end: datetime | None) -> None:
        """Take another expiry into account."""
        if end is not None and (self.ends_at is None or end < self.ends_at):
            self.ends_at = end


class Runs:
    """Plans runs and remembers their results. It works only on the event loop.

    The result of a run is remembered when it is planned, so that the next one can be planned while
    it is being written.
    """

    def __init__(self, queries: Queries) -> None:
        self._statements = queries.run
        self._known: dict[SessionName, Remembered] = {}
        self._at_work: Counter[SessionName] = Counter()
        self._rests = 0
        self._generation = 0

    def plan(self, changes: Sequence[Change], generation: int = 0) -> Run:
        """Return the run of a batch.

        Of each session, it takes the changes before the first unsuitable one, so that they keep
        their order. State remembered for a file of another generation is forgotten.
        """
        if generation != self._generation:
            self._generation = generation
            self._known.clear()
        run = Run(generation)
        clock, now, long_ago = None, _NEVER, _NEVER
        for index, change in enumerate(changes):
            key = change.namespace, change.session_id
            if change.clock is not None and change.clock is not clock:
                clock = change.clock
                now = clock()
                long_ago = now - _A_WHILE
                run.clocks.append(clock)
            if change.clock is not None and change.at < long_ago:
                change = change.as_of(now)  # noqa: PLW2901 - the same change, later
            applied = None if key in run.others else self._planned(run, key, change)
            if applied is None:
                run.others.add(key)
            else:
                run.answers[index] = _as_the_caller_knows_it(applied, change)
                run.after[key] = applied.header
                run.messages += len(applied.added)
        if self._rests:
            self._rests -= 1
        if run.answers:
            after = {
                key: Remembered.of(run.before[key].session_key, header)
                for key, header in run.after.items()
            }
            self._write_down(run, after)
            for key, known in after.items():
                self._remember(key, known)
        for key in run.others:
            self._known.pop(key, None)
        self._at_work.update(run.others)
        return run

    def settle(self, run: Run, *, written: bool, others: Mapping[SessionName, Remembered]) -> None:
        """Record the outcome: whether the run was written, and the new state of other sessions."""
        if run.answers and not written:
            self._rests = RESTS
            for key in run.after:
                self._known.pop(key, None)
        self._at_work.subtract(run.others)
        for key in run.others:
            if self._at_work[key]:
                continue  # another batch is changing it
            del self._at_work[key]
            if key in others:
                self._remember(key, others[key])

    def _planned(self, run: Run, key: SessionName, change: Change) -> Applied | None:
        """Return what a change does, if it is a plain append that fits into the run."""
        known = self._known.get(key)
        if known is None or self._rests or not _is_simple(change):
            return None
        if run.messages + len(change.append) > RUN_ROWS[-1]:
            return None
        header = run.after.get(key, known.header)
        try:
            applied = apply_change(State(header=header), change)
        except (SessionError, OverflowError):
            return None  # the remembered state may be stale
        if applied.header.due_at is not header.due_at:
            return None
        run.before[key] = known
        run.end_by(known.header.expires_at)
        run.end_by(change.valid_until)
        return applied

    def _write_down(self, run: Run, after: Mapping[SessionName, Remembered]) -> None:
        """Build the statement of a run, which leaves sessions so, and its bindings."""
        bindings = run.bindings
        moved: set[SessionName] = set()
        for applied in run.answers.values():
            key = applied.header.namespace, applied.header.session_id
            known = run.before[key]
            for message in applied.added:
                bindings.append(known.session_key)
                bindings += _NO_MOVE if key in moved else _move(known, after[key])
                bindings += (message.seq, message.id, to_millis(message.created_at), message.body)
                moved.add(key)
        count = RUN_ROWS[bisect_left(RUN_ROWS, run.messages)]
        bindings += [None] * (RUN_COLUMNS * (count - run.messages))
        run.statement = self._statements[count]

    def _remember(self, key: SessionName, known: Remembered) -> None:
        """Remember a session without the caller's own fields, whose size is unbounded."""
        header = known.header
        if header.attributes or header.tags or header.title is not None:
            header = msgspec.structs.replace(header, attributes={}, tags=(), title=None)
            known = msgspec.structs.replace(known, header=header)
        self._known.pop(key, None)
        self._known[key] = known
        if len(self._known) > MOST_REMEMBERED:
            del self._known[next(iter(self._known))]


def write_run(connection: apsw.Connection, run: Run) -> bool:
    """Write a run; ``False``: nothing was written, a session or message is not as expected."""
    try:
        connection.execute(run.statement, run.bindings)
    except apsw.ConstraintError:
        return False
    return True


def _as_the_caller_knows_it(applied: Applied, change: Change) -> Applied:
    """Return the result with the caller's own fields in its header, as the change has them."""
    basis, header = change.basis, applied.header
    if basis is None or not (basis.attributes or basis.tags or basis.title is not None):
        return applied
    header = msgspec.structs.replace(
        header, attributes=basis.attributes, tags=basis.tags, title=basis.title
    )
    return msgspec.structs.replace(applied, header=header)


def _is_simple(change: Change) -> bool:
    """Whether a run may apply it. The result is the basis, with what the run changes."""
    return change.turn is None and may_go_hot(change)


def _move(before: Remembered, after: Remembered) -> tuple[int | None, ...]:
    """Return the expected state of a session, then its new one."""
    _, _, last_seq, active_at, listed_at, expires_at = after.state
    moved_to = None if after.header.listed_at is before.header.listed_at else listed_at
    return (
        *before.state,
        last_seq,
        after.header.message_count,
        active_at,
        expires_at,
        moved_to,
    )


def _millis(at: datetime | None) -> int | None:
    return None if at is None else to_millis(at)
