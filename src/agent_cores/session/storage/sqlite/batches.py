"""``Batches``: the transactions of the writing thread.

A batch of plain appends to remembered sessions is one statement, see ``runs.py``, which waits for
nobody. Any other batch is a transaction that waits in ``BEGIN IMMEDIATE`` for its turn among
processes. So nothing that it reads can change before the commit, and each change is decided by the
time at which it is applied. If the batch fails as a whole, its changes run one by one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import apsw
import msgspec

from agent_cores.session.errors import (
    InvalidInputError,
    SessionError,
    StorageUnavailableError,
)
from agent_cores.session.models import Applied, Change
from agent_cores.session.storage.sql.batch import Batch
from agent_cores.session.storage.sql.dialect import carry_out_now
from agent_cores.session.storage.sqlite.connection import Steps
from agent_cores.session.storage.sqlite.errors import translated
from agent_cores.session.storage.sqlite.runs import Remembered, Run, write_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent_cores.session.storage.sql.rows import Loaded, SessionName
    from agent_cores.session.storage.sqlite.lock import LockWait
    from agent_cores.session.storage.sqlite.queries import Queries

    Answers = list[Applied | Exception]
    Written = tuple[Answers, bool, dict[SessionName, Remembered]]

_TO_ANSWER = 0.05
"""The part of a timeout reserved for telling callers that the file stayed locked."""


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A change, and when its caller gives up, in the time of ``time.monotonic()``."""

    change: Change
    end: float


class Batches:
    """Writes batches on one connection, whose busy handler is ``lock``.

    ``deletes`` is set after a session was deleted whose messages and context are still stored.
    ``remembers``: whether ``write`` returns sessions for later runs.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        queries: Queries,
        lock: LockWait,
        timeout: float,
        *,
        remembers: bool,
    ) -> None:
        self._connection = connection
        self._path = path
        self._steps = Steps(connection, queries)
        self._left: dict[SessionName, Loaded] = {}
        self._remembers = remembers
        self.deletes: bool = False
        connection.execute(queries.prepare_runs)
        self._lock = lock
        self._margin = _TO_ANSWER * min(timeout, 1.0)

    def write(self, batch: Sequence[Waiting], run: Run) -> Written:
        """Write a batch; return the results, whether the run was written, and other sessions."""
        self._left = {}
        if len(run.answers) == len(batch) and not _is_late(batch, run):
            self._lock.end = 0.0
            try:
                if write_run(self._connection, run):  # one statement is a transaction
                    return list(run.answers.values()), True, {}
                run = Run()
            except apsw.BusyError:
                pass  # another process is writing: wait for it, then check the time
            except apsw.IOError as error:
                return self._failed(error, batch, outcome_unknown=True), False, {}
            except (apsw.Error, OverflowError, UnicodeError):
                run = Run()  # nothing was written, perhaps because of one change alone
        return *self._write_transaction(batch, run), self._remembered()

    def begin(self, end: float) -> None:
        """Begin a transaction, which locks the file; wait for the lock until ``end``."""
        self._lock.end = end
        self._connection.execute("BEGIN IMMEDIATE")

    def rollback(self) -> None:
        """Undo everything since ``begin``."""
        self._left = {}
        if self._connection.in_transaction:  # some errors end it by themselves
            self._connection.execute("ROLLBACK")

    def _write_transaction(self, batch: Sequence[Waiting], run: Run) -> tuple[Answers, bool]:
        try:
            self.begin(max([waiting.end for waiting in batch]) - self._margin)
        except apsw.Error as error:
            return self._failed(error, batch), False
        try:
            holds = bool(run.answers) and not _is_late(batch, run)
            written = holds and write_run(self._connection, run)
            done = run.answers if written else {}
            answers = self._carry_out(batch, done)
        except Exception as error:  # noqa: BLE001 - returned to the change that it belongs to
            self.rollback()
            if len(batch) == 1:
                return self._failed(error, batch), False
            return self._singly(batch), False
        try:
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            self.rollback()
            unknown = not isinstance(error, apsw.BusyError | apsw.FullError)
            return self._failed(error, batch, outcome_unknown=unknown), False
        return answers, written

    def _carry_out(self, batch: Sequence[Waiting], done: dict[int, Applied]) -> Answers:
        """Return each change's result or refusal; raise what makes the whole transaction fail."""
        now = time.monotonic()
        answers: dict[int, Applied | Exception] = {**done}
        rest = [index for index, _ in enumerate(batch) if index not in done]
        for index in rest:
            if batch[index].end <= now:
                detail = f"{self._path} was busy for the whole SESSION_TIMEOUT; nothing was written"
                answers[index] = StorageUnavailableError(detail)
        rest = [index for index in rest if index not in answers]
        if rest:
            generic = Batch([batch[index].change for index in rest])
            found = carry_out_now(generic.plan(), self._steps.run)
            answers.update(zip(rest, found, strict=True))
            self._left.update(generic.left())
            self.deletes = self.deletes or generic.deletes
        return [answers[index] for index in range(len(batch))]

    def _remembered(self) -> dict[SessionName, Remembered]:
        """Return the current state of the sessions that the last batch changed by steps."""
        if not self._remembers:
            return {}
        return {
            name: Remembered.of(loaded.session_key, loaded.header)
            for name, loaded in self._left.items()
        }

    def _singly(self, batch: Sequence[Waiting]) -> Answers:
        answers: Answers = []
        for index, waiting in enumerate(batch):
            [answer], _ = self._write_transaction([waiting], Run())
            answers.append(answer)
            if isinstance(answer, Exception) and isinstance(answer.__cause__, apsw.BusyError):
                return answers + self._failed(answer.__cause__, batch[index + 1 :])
        return answers

    def _failed(
        self, error: Exception, batch: Sequence[Waiting], *, outcome_unknown: bool = False
    ) -> Answers:
        """Return a separate error for every change, since callers may add notes to it."""
        return [self._answer_of(error, outcome_unknown=outcome_unknown) for _ in batch]

    def _answer_of(self, error: Exception, *, outcome_unknown: bool) -> Exception:
        answer: SessionError
        if isinstance(error, apsw.Error):
            answer = translated(error, self._path, outcome_unknown=outcome_unknown)
        elif isinstance(error, OverflowError | UnicodeError):
            answer = InvalidInputError("change", "holds a number or text that SQLite cannot keep")
        else:
            return error
        answer.__cause__ = error
        return answer


def _is_late(batch: Sequence[Waiting], run: Run) -> bool:
    """Whether a change of the batch may be too late to apply without checking again."""
    return run.is_late() or min([waiting.end for waiting in batch]) <= time.monotonic()
