"""``export_sessions``: the sessions of a store as lines of JSON.

At most a few hundred parts of sessions are in memory at a time, however long a session or large
the store is.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from agent_cores.session.codec import raw_messages
from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models.times import utc_now
from agent_cores.session.moving.records import (
    FORMAT,
    FORMAT_VERSION,
    Closing,
    Opening,
    VoidRecord,
    encode_line,
    record_of,
)
from agent_cores.session.moving.tally import Tally
from agent_cores.session.moving.walking import (
    ChangedWhileReadError,
    Part,
    Walk,
    first_parts,
    is_living,
    parts_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from typing import BinaryIO

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.moving.records import Record
    from agent_cores.session.storage.base import StorageProvider

_TOGETHER = 50
"""Sessions whose first parts are read at a time."""
_ATTEMPTS = 3


class ExportWriter:
    """Writes the lines of an export, and counts and sums them up."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sums = hashlib.sha256()
        written_at = utc_now().isoformat(timespec="milliseconds")
        self._write(Opening(FORMAT, FORMAT_VERSION, written_at))

    def part(self, part: Part) -> None:
        """Write a part of a session; ``CorruptRecordError``, with nothing written, if it is bad."""
        raw_messages(part.messages, part.header.namespace, part.header.session_id)
        self._write(record_of(part))

    def void(self) -> None:
        """Take back the parts of the session that was begun last."""
        self._write(VoidRecord())

    def close(self, sessions: int, messages: int) -> None:
        """Write the last line."""
        self._write(Closing(sessions, messages, self._sums.hexdigest()))
        self._file.flush()

    def _write(self, record: Record) -> None:
        line, checksum = encode_line(record)
        self._sums.update(checksum.encode())
        self._file.write(line)


async def export_sessions(
    store: StorageProvider,
    file: BinaryIO,
    *,
    namespace: str | None = None,
    owner_id: str | None = None,
    session_ids: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
    found: Callable[[str], None] | None = None,
) -> Tally:
    """Write the sessions of a store to a file; return what was written and what was left out.

    All of them, or those of a namespace, of an owner, or with these ids, for which ``namespace``
    is needed. ``progress`` is called with how many sessions are done, ``found`` with the id of each
    that exists. The store may be in use: each session is written as of one instant.
    """
    writer, tally = ExportWriter(file), Tally()
    walk = Walk(store, namespace=namespace)
    pages = _named(store, str(namespace), session_ids) if session_ids else walk.pages()
    async for page in pages:
        wanted = [header for header in page if owner_id in {None, header.owner_id}]
        for first in range(0, len(wanted), _TOGETHER):
            await _export(store, writer, wanted[first : first + _TOGETHER], tally, found)
            if progress is not None:
                progress(tally.done)
    for name in walk.unreadable:
        tally.unreadable.add(*name)
    writer.close(tally.sessions, tally.messages)
    return tally


async def _named(
    store: StorageProvider, namespace: str, session_ids: Sequence[str]
) -> AsyncIterator[Iterator[SessionMetadata]]:
    for session_id in dict.fromkeys(session_ids):
        snapshot = await store.read(namespace, session_id)
        if snapshot is not None:
            yield iter([snapshot.header])


async def _export(
    store: StorageProvider,
    writer: ExportWriter,
    headers: list[SessionMetadata],
    tally: Tally,
    found: Callable[[str], None] | None,
) -> None:
    for header, first in zip(headers, await first_parts(store, headers), strict=True):
        before = tally.done
        if isinstance(first, CorruptRecordError):
            tally.unreadable.add(header.namespace, header.session_id)
        elif first is not None and not is_living(first.header):
            tally.ended += 1
        elif first is not None:
            await _export_one(store, writer, first, tally)
        if found is not None and tally.done > before:
            found(header.session_id)


async def _export_one(
    store: StorageProvider, writer: ExportWriter, first: Part, tally: Tally
) -> None:
    name = first.header.namespace, first.header.session_id
    again: Part | CorruptRecordError | None = first
    for _ in range(_ATTEMPTS):
        messages, begun = 0, False
        if again is None:
            return
        try:
            if isinstance(again, CorruptRecordError):
                raise again
            async for part in parts_of(store, again):
                writer.part(part)
                begun = True
                messages += len(part.messages)
        except ChangedWhileReadError:
            writer.void()
            [again] = await first_parts(store, [first.header])
        except CorruptRecordError:
            if begun:
                writer.void()
            tally.unreadable.add(*name)
            return
        else:
            tally.sessions += 1
            tally.messages += messages
            return
    tally.changing.add(*name)
