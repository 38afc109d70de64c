"""``Writer``: the one thread of a process that writes to the file, and its transactions.

A batch of changes crosses to the thread once and comes back once. It is one transaction: where all
of it are plain appends a single statement, see ``sqlite_runs``, else one that waits for its turn
among processes in ``BEGIN IMMEDIATE``, so that nothing that was looked at under it can change
before the commit. Where that fails as a whole, its changes run singly.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from agent_cores.session.errors import CorruptRecordError, InvalidInputError, SessionError
from agent_cores.session.models.query import Ended
from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.sqlite_changes import ChangeWriter, decode_row
from agent_cores.session.storage.sqlite_connection import (
    apply_schema,
    fetch,
    newest_version,
    open_writer,
    translated,
    translating,
)
from agent_cores.session.storage.sqlite_runs import Run, Runs
from agent_cores.session.threads import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from agent_cores.session.models import Applied, Change, SessionMetadata
    from agent_cores.session.storage.sqlite_runs import Key, Remembered
    from agent_cores.session.storage.sqlite_statements import Statements

    Written = tuple[list[Applied | Exception], bool, dict[Key, Remembered]]

T = TypeVar("T")

PURGE_ROWS = 500
"""How many rows of removed sessions go in one transaction: what other writers wait for at most."""

logger = logging.getLogger("agent_cores.session")


class Writer:
    """Writes to one file, on one thread. Its methods are called on the event loop."""

    def __init__(
        self, path: Path, statements: Statements, *, timeout: float, fast_path: bool
    ) -> None:
        self._path = path
        self._sql = statements
        self._timeout = timeout
        self._fast_path = fast_path
        self._thread = Workers(1, "sqlite-writer", before_fork=self._close_before_fork)
        self._opening: Callable[[], None] | None = None
        self._connection: apsw.Connection
        self._changes: ChangeWriter
        self._reopen: Callable[[], None] | None = None  # set where a fork made this close the file
        self._runs = Runs(statements)
        self._purging: asyncio.Task[None] | None = None

    async def open(self, *, version: int, prefix: str, synchronous: str) -> None:
        """Open the file; bring the tables up to date if ``version`` shows that they are not."""

        def opening(version: int) -> None:
            connection = open_writer(self._path, self._timeout, synchronous)
            try:
                if version < newest_version():
                    apply_schema(connection, self._path, prefix)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._changes = ChangeWriter(connection, self._sql, fast_path=self._fast_path)

        try:
            await self._run(partial(opening, version))
        except BaseException:
            self._thread.end()
            raise
        self._opening = partial(opening, newest_version())
        self._purge()

    async def close(self) -> None:
        """Remove what deleted sessions left, for as long as a timeout at most, and close."""
        if self._purging is not None:
            await asyncio.wait([self._purging], timeout=self._timeout)
            self._purging.cancel()
        await self._run(self._close_for_good)
        await self._thread.close()

    async def write(self, changes: Sequence[Change]) -> list[Applied | Exception]:
        """Carry out a batch; answer each change with what it did or its own error."""
        run = self._runs.plan(changes)
        written = False
        seen: dict[Key, Remembered] = {}
        try:
            answers, written, seen = await self._run(partial(self._write, changes, run))
        finally:
            self._runs.settle(run, written=written, seen=seen)
        if self._changes.left_behind:
            self._purge()
        return answers

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Take up to ``limit`` ended sessions; put off those that live on."""
        taken: list[Ended] = []
        came = 1
        while came and len(taken) < limit:
            job = partial(self._take_due, at, limit - len(taken), lease_seconds)
            came, ended = await self._run(job)
            taken += ended
        return taken

    async def _run(self, job: Callable[[], T]) -> T:
        return await self._thread.run(partial(self._translated, job))

    def _translated(self, job: Callable[[], T]) -> T:
        with translating(self._path):
            if self._reopen is not None:
                self._reopen()
                self._reopen = None
            return job()

    def _close_for_good(self) -> None:
        self._opening = None
        self._connection.close()

    def _close_before_fork(self) -> None:
        """Close the file, for the next job to open again: no child may inherit SQLite's locks."""
        if self._opening is not None:
            self._connection.close()
            self._reopen = self._opening

    def _write(self, changes: Sequence[Change], run: Run) -> Written:
        """Answer each change; tell whether the run was written, and what was seen of the others."""
        self._changes.seen = {}
        if len(run.answers) == len(changes):
            try:
                if self._changes.write_run(run):  # one statement is a transaction
                    return list(run.answers.values()), True, {}
            except (apsw.BusyError, apsw.IOError) as error:
                unknown = not isinstance(error, apsw.BusyError)
                return self._failed(error, changes, outcome_unknown=unknown), False, {}
            except (apsw.Error, OverflowError, UnicodeError):
                pass  # nothing was written, and it may be the fault of one change alone
            run = Run()
        return *self._write_transaction(changes, run), self._changes.seen

    def _write_transaction(
        self, changes: Sequence[Change], run: Run
    ) -> tuple[list[Applied | Exception], bool]:
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            return self._failed(error, changes), False
        try:
            written = bool(run.answers) and self._changes.write_run(run)
            done = run.answers if written else {}
            answers = [
                done[index] if index in done else self._carry_out(change)
                for index, change in enumerate(changes)
            ]
        except Exception as error:  # noqa: BLE001 - answered to the change that it belongs to
            self._rollback()
            if len(changes) == 1:
                return self._failed(error, changes), False
            return self._singly(changes), False
        try:
            execute("COMMIT")
        except apsw.Error as error:
            self._rollback()
            unknown = not isinstance(error, apsw.BusyError | apsw.FullError)
            return self._failed(error, changes, outcome_unknown=unknown), False
        return answers, written

    def _carry_out(self, change: Change) -> Applied | Exception:
        """Return what the change did, or why it is refused; raise what spoils the transaction."""
        try:
            return self._changes.carry_out(change)
        except SessionError as refusal:
            return refusal

    def _singly(self, changes: Sequence[Change]) -> list[Applied | Exception]:
        answers: list[Applied | Exception] = []
        for index, change in enumerate(changes):
            [answer], _ = self._write_transaction([change], Run())
            answers.append(answer)
            if isinstance(answer, Exception) and isinstance(answer.__cause__, apsw.BusyError):
                return answers + self._failed(answer.__cause__, changes[index + 1 :])
        return answers

    def _failed(
        self, error: Exception, changes: Sequence[Change], *, outcome_unknown: bool = False
    ) -> list[Applied | Exception]:
        """Answer every change with an error of its own, since callers may add to it."""
        return [self._answer_of(error, outcome_unknown=outcome_unknown) for _ in changes]

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

    def _rollback(self) -> None:
        self._changes.seen = {}
        if self._connection.in_transaction:  # some errors end it by themselves
            self._connection.execute("ROLLBACK")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise

    def _take_due(self, at: datetime, limit: int, lease_seconds: float) -> tuple[int, list[Ended]]:
        """Return how many sessions had come due, and those of them that have ended."""
        taken: list[Ended] = []
        leased = to_millis(at + timedelta(seconds=lease_seconds))
        with self._transaction():
            rows = fetch(self._connection, self._sql.due, (to_millis(at), limit))
            for row in rows:
                header = _readable(row)
                alive = header is not None and not header.is_expired(at)
                if header is not None and not alive:
                    taken.append(Ended.of(header))
                statement = self._sql.put_off if alive else self._sql.lease
                self._connection.execute(statement, (row[0],) if alive else (leased, row[0]))
        return len(rows), taken

    def _purge(self) -> None:
        """See to it that what deleted sessions left behind goes, a bit at a time."""
        if self._purging is None or self._purging.done():
            self._purging = asyncio.get_running_loop().create_task(self._purge_all())

    async def _purge_all(self) -> None:
        try:
            while await self._run(self._purge_some):
                pass
        except SessionError as error:
            logger.warning("what deleted sessions left stays for now: %s", error)

    def _purge_some(self) -> bool:
        with self._transaction():
            return self._changes.purge(PURGE_ROWS)


def _readable(row: tuple[Any, ...]) -> SessionMetadata | None:
    """Return the header of a row; one that cannot be read must not end all sweeping."""
    try:
        return decode_row(row)
    except CorruptRecordError as error:
        logger.warning("not swept: %s", error)
        return None
