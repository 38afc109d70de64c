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

from agent_cores.session.errors import (
    CorruptRecordError,
    InvalidInputError,
    SessionError,
    StorageUnavailableError,
)
from agent_cores.session.models.query import Ended
from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.sqlite_changes import ChangeWriter, decode_row
from agent_cores.session.storage.sqlite_connection import (
    fetch,
    free_bytes,
    newest_version,
    translated,
    translating,
)
from agent_cores.session.storage.sqlite_runs import Run, Runs
from agent_cores.session.threads import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from agent_cores.session.models import Applied, Change, SessionMetadata
    from agent_cores.session.storage.sqlite_file import StoreFile
    from agent_cores.session.storage.sqlite_runs import Key, Remembered
    from agent_cores.session.storage.sqlite_statements import Statements

    Written = tuple[list[Applied | Exception], bool, dict[Key, Remembered]]

T = TypeVar("T")

PURGE_ROWS = 500
"""How many rows of removed sessions go in one transaction: what other writers wait for at most."""

LEAST_FREE = 1_048_576
"""Bytes free on the disk below which a check fails: a write may still fit into the log, or not."""

logger = logging.getLogger("agent_cores.session")


class Writer:
    """Writes to one file, on one thread. Its methods are called on the event loop."""

    def __init__(
        self, file: StoreFile, statements: Statements, *, timeout: float, fast_path: bool
    ) -> None:
        self._file = file
        self._path = file.path
        self._sql = statements
        self._timeout = timeout
        self._fast_path = fast_path
        self._thread = Workers(1, "sqlite-writer", before_fork=self._close_before_fork)
        self._connection: apsw.Connection
        self._changes: ChangeWriter
        self._in_doubt = False
        self._is_open = False
        self._closed_by_fork = False
        self._runs = Runs(statements)
        self._purging: asyncio.Task[None] | None = None

    async def open(self, version: int) -> None:
        """Open the file; bring the tables up to date if ``version`` shows that they are not."""

        def opening() -> None:
            self._file.open(version)
            self._take_connection()

        try:
            await self._run(opening)
        except BaseException:
            self._thread.end()
            raise
        self._purge()

    def _take_connection(self) -> None:
        self._is_open = True
        self._connection = self._file.connection
        self._changes = ChangeWriter(self._connection, self._sql, fast_path=self._fast_path)

    async def close(self) -> None:
        """Remove what deleted sessions left, for as long as a timeout at most, and close."""
        if self._purging is not None:
            await asyncio.wait([self._purging], timeout=self._timeout)
            self._purging.cancel()
        await self._run(self._close_for_good)
        await self._thread.close()

    async def write(self, changes: Sequence[Change]) -> list[Applied | Exception]:
        """Carry out a batch; answer each change with what it did or its own error."""
        run = self._runs.plan(changes, self._file.generation)
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

    async def follow(self) -> None:
        """Go on with the file at the path, after a read has found another one there."""
        await self._run(self._follow)

    async def check(self) -> None:
        """Write a page that stays as it is, and see that there is room for more."""
        await self._run(self._check)

    def _check(self) -> None:
        with self._transaction():
            for statement in self._sql.touch:
                self._connection.execute(statement)
        if not self._file.holds(self._connection):
            self._follow()
        free = free_bytes(self._path)
        if free < LEAST_FREE:
            raise StorageUnavailableError(f"{self._path}: its disk has {free:.0f} bytes left")

    async def _run(self, job: Callable[[], T]) -> T:
        return await self._thread.run(partial(self._translated, job))

    def _translated(self, job: Callable[[], T]) -> T:
        with translating(self._path):
            if self._closed_by_fork:
                self._file.open(newest_version())
                self._take_connection()
                self._closed_by_fork = False
            return job()

    def _close_for_good(self) -> None:
        self._is_open = False
        self._file.close()

    def _close_before_fork(self) -> None:
        """Close the file, for the next job to open again: no child may inherit SQLite's locks."""
        if self._is_open:
            self._is_open = False
            self._closed_by_fork = True
            self._file.close()

    def _write(self, changes: Sequence[Change], run: Run) -> Written:
        """Answer each change; tell whether the run was written, and what was seen of the others.

        Nothing is answered until the files are seen to be still those at the path.
        """
        try:
            if self._in_doubt:
                self._follow()
        except SessionError as error:
            return [type(error)(str(error)) for _ in changes], False, {}
        if run.generation != self._file.generation:
            run = Run()
        written = self._attempt(changes, run)
        if self._file.holds(self._connection):
            return written
        self._in_doubt = True
        try:
            if not self._follow():  # it is another file
                written = self._attempt(changes, Run())
            if self._file.holds(self._connection):
                return written
            detail = f"{self._path} was moved or replaced again and again"
        except SessionError as error:
            detail = str(error)
        self._in_doubt = True
        lost = [StorageUnavailableError(detail, outcome_unknown=True) for _ in changes]
        return [*lost], False, {}

    def _follow(self) -> bool:
        """Go on with the file at the path; tell whether it has all that was committed."""
        generation = self._file.generation
        with translating(self._path):
            whole = self._file.follow()
        if self._file.generation != generation:
            self._take_connection()
        self._in_doubt = False
        return whole

    def _attempt(self, changes: Sequence[Change], run: Run) -> Written:
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
        if self._in_doubt:
            self._follow()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise
        if not self._file.holds(self._connection):
            self._in_doubt = True
            detail = f"{self._path} was moved, removed or replaced meanwhile"
            raise StorageUnavailableError(detail, outcome_unknown=True)

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
