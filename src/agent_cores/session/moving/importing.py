"""``import_sessions``: the sessions of an export into a store; ``check_export``: is a file whole.

Running an import again adds nothing: what is stored already stays, and what an interrupted import
left behind is done anew.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from agent_cores.session.errors import CorruptRecordError, InvalidInputError
from agent_cores.session.models.limits import MIB
from agent_cores.session.models.values import UNREADABLE
from agent_cores.session.moving.checking import check_count, check_header, check_part
from agent_cores.session.moving.placing import Placed, place
from agent_cores.session.moving.records import (
    FORMAT,
    FORMAT_VERSION,
    Closing,
    MessagesRecord,
    Opening,
    SessionRecord,
    VoidRecord,
    checksum,
    decode_line,
    decode_record,
    header_of,
    part_of,
)
from agent_cores.session.moving.tally import Tally
from agent_cores.session.moving.walking import ChangedWhileReadError, is_living

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import BinaryIO

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.moving.records import Record
    from agent_cores.session.moving.walking import Part
    from agent_cores.session.storage.base import StorageProvider

_TOGETHER = 50
_TOGETHER_BYTES = 8 * MIB
"""Sessions of one part that are written at a time, and their bytes."""
_LONGEST_LINE = 256 * MIB


class DamagedExportError(InvalidInputError):
    """An export is cut off, altered, or not an export. The message says up to where it is good."""

    def __init__(self, problem: str) -> None:
        super().__init__("file", problem)


class ExportReader:
    """Reads the records of an export and checks each line; raises ``DamagedExportError``.

    ``sessions`` and ``messages`` count those of the whole sessions that were read so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sums = hashlib.sha256()
        self._line = 0
        self._begun = 0  # messages of the session that is not whole yet
        self._is_open = False
        self.sessions: int = 0
        self.messages: int = 0

    def records(self) -> Iterator[SessionRecord | MessagesRecord | VoidRecord]:
        """Yield the records between the first and the last."""
        self._check_opening()
        while True:
            record = self._next()
            if isinstance(record, Closing):
                self._check_closing(record)
                return
            if isinstance(record, Opening) or isinstance(record, SessionRecord) is self._is_open:
                raise self._damaged("is not in its place")
            yield record
            self._count(record)

    def _count(self, record: SessionRecord | MessagesRecord | VoidRecord) -> None:
        if isinstance(record, VoidRecord):
            self._is_open, self._begun = False, 0
            return
        self._is_open = record.more
        self._begun += len(record.messages)
        if not record.more:
            self.sessions += 1
            self.messages += self._begun
            self._begun = 0

    def _next(self) -> Record:
        line = self._file.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            good = self._good()
            raise DamagedExportError(f"is cut off after line {self._line}; {good}")
        self._line += 1
        try:
            line.decode()  # msgspec does not look into what it need not read
            read = decode_line(line)
            record: Record = decode_record(read.record)
        except UNREADABLE as error:
            raise self._damaged("is damaged") from error
        if checksum(bytes(read.record)) != read.sha256:
            raise self._damaged("is altered: its checksum differs")
        if not isinstance(record, Closing):
            self._sums.update(read.sha256.encode())
        return record

    def _check_opening(self) -> None:
        not_ours = "is not an export of agent-sessions"
        try:
            opening = self._next()
        except DamagedExportError as error:
            raise DamagedExportError(not_ours) from error
        if not isinstance(opening, Opening) or opening.format != FORMAT:
            raise DamagedExportError(not_ours)
        if opening.version != FORMAT_VERSION:
            problem = f"has version {opening.version}; this release reads {FORMAT_VERSION}"
            raise DamagedExportError(problem)

    def _check_closing(self, closing: Closing) -> None:
        counted = closing.sessions, closing.messages
        if self._is_open or closing.sha256 != self._sums.hexdigest():
            raise self._damaged("does not fit the lines before it: some were removed or moved")
        if counted != (self.sessions, self.messages):
            raise self._damaged("counts other sessions or messages than the lines before it")
        if self._file.read(1):
            raise DamagedExportError(f"goes on after its last line, {self._line}")

    def _damaged(self, problem: str) -> DamagedExportError:
        return DamagedExportError(f"line {self._line} {problem}; {self._good(self._line - 1)}")

    def _good(self, line: int | None = None) -> str:
        last = self._line if line is None else line
        return f"it is good up to line {last}; whole sessions: {self.sessions}"


def check_export(file: BinaryIO) -> ExportReader:
    """Read a whole export and return its counts; raise ``DamagedExportError``."""
    reader = ExportReader(file)
    for _ in reader.records():
        pass
    return reader


async def import_sessions(
    store: StorageProvider,
    file: BinaryIO,
    *,
    namespace: str | None = None,
    replace: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Tally:
    """Write the sessions of an export into a store; return what was written and what was not.

    All of them, or those of a namespace. A session that is stored in another state stays as it is,
    unless ``replace`` is set. Raises ``DamagedExportError`` at the first line that is not good; the
    whole sessions before it are written.
    """
    loading = _Import(store, namespace=namespace, replace=replace)
    records = ExportReader(file).records()
    try:
        for record in records:
            if isinstance(record, SessionRecord):  # others belong to one that was not wanted
                await loading.session(record, records)
            if progress is not None:
                progress(loading.tally.done)
    finally:
        await loading.flush()
    return loading.tally


class _Import:
    """Sessions on their way into a store: those of one part together, long ones alone."""

    def __init__(self, store: StorageProvider, *, namespace: str | None, replace: bool) -> None:
        self.tally = Tally()
        self._store = store
        self._namespace = namespace
        self._replace = replace
        self._waiting: list[Part] = []
        self._size = 0

    async def session(
        self, record: SessionRecord, records: Iterator[SessionRecord | MessagesRecord | VoidRecord]
    ) -> None:
        """Write a session; take the records of its other messages from ``records``."""
        try:
            first = _first_of(record)
        except CorruptRecordError as error:
            self.tally.unreadable.add(error.namespace, error.session_id)
            return
        header = first.header
        if self._namespace not in {None, header.namespace}:
            return
        if not is_living(header):
            self.tally.ended += 1
            return
        if not first.is_last:
            await self._long(first, records)
            return
        self._waiting.append(first)
        self._size += first.size
        if len(self._waiting) >= _TOGETHER or self._size >= _TOGETHER_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write the sessions that wait."""
        parts, self._waiting, self._size = self._waiting, [], 0
        placing = (place(self._store, part, _none(), replace=self._replace) for part in parts)
        # All end, whatever becomes of one.
        ended = await asyncio.gather(*placing, return_exceptions=True)
        for part, placed in zip(parts, ended, strict=True):
            if isinstance(placed, InvalidInputError):
                self.tally.refused.add(part.header.namespace, part.header.session_id)
            elif isinstance(placed, BaseException):
                raise placed
            else:
                self._note(part.header, placed, len(part.messages))

    async def _long(
        self, first: Part, records: Iterator[SessionRecord | MessagesRecord | VoidRecord]
    ) -> None:
        name = first.header.namespace, first.header.session_id
        counted = [len(first.messages)]
        later = _later(first.header, records, counted)
        try:
            placed = await place(self._store, first, later, replace=self._replace)
            async for _ in later:  # of a session that was not written
                pass
        except ChangedWhileReadError:
            return  # it comes again in the export, or was left out
        except CorruptRecordError:
            self.tally.unreadable.add(*name)
            return
        except DamagedExportError:
            raise
        except InvalidInputError:
            self.tally.refused.add(*name)
            return
        self._note(first.header, placed, sum(counted))

    def _note(self, header: SessionMetadata, placed: Placed, messages: int) -> None:
        if placed is Placed.WRITTEN:
            self.tally.sessions += 1
            self.tally.messages += messages
        elif placed is Placed.PRESENT:
            self.tally.present += 1
        else:
            self.tally.different.add(header.namespace, header.session_id)


def _first_of(record: SessionRecord) -> Part:
    """Return the first part of a session; ``CorruptRecordError`` if no store can hold it."""
    header = header_of(record)
    check_header(header)
    part = part_of(record, header)
    check_part(part)
    if part.is_last:
        check_count(header, len(part.messages))
    return part


async def _none() -> AsyncIterator[Part]:
    return
    yield


async def _later(
    header: SessionMetadata,
    records: Iterator[SessionRecord | MessagesRecord | VoidRecord],
    counted: list[int],
) -> AsyncIterator[Part]:
    """Yield the other parts of a session; ``ChangedWhileReadError`` if the export takes it back."""
    for record in records:
        if not isinstance(record, MessagesRecord):
            raise ChangedWhileReadError("the export takes this session back")
        part = part_of(record, header)
        check_part(part)
        counted.append(len(part.messages))
        if part.is_last:
            check_count(header, sum(counted))
        yield part
        if part.is_last:
            return
