"""``copy_sessions``: every session from one store into another; ``compare_stores``: are they equal.

For a source that is not written to in the meantime. Copying again adds nothing, and ends what an
interrupted copy began. Four hundred parts of sessions, at most, are in memory at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import CorruptRecordError, InvalidInputError
from agent_cores.session.moving.digests import SessionDigest, digest_of
from agent_cores.session.moving.placing import Placed, place
from agent_cores.session.moving.tally import Names, Tally
from agent_cores.session.moving.walking import (
    EVERYTHING,
    ChangedWhileReadError,
    Part,
    Share,
    Walk,
    first_parts,
    is_living,
    later_parts,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from hashlib import _Hash as Sum

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.base import StorageProvider

_TOGETHER, _CHUNKS = 100, 4
"""Sessions that are read with one call, and how many such chunks are in memory at a time."""


class Comparison(msgspec.Struct):
    """What two stores hold of the same sessions: the living ones of the source.

    ``source`` and ``target`` are SHA-256 of the digests of all these sessions. ``differing`` names
    those that are not, or not the same, in the target.
    """

    sessions: int
    messages: int
    source: str
    target: str
    differing: Names

    @property
    def is_equal(self) -> bool:
        """Whether the target holds every session exactly as the source does."""
        return self.source == self.target


def merged_comparison(parts: Iterable[Comparison]) -> Comparison:
    """Return the comparison that was done in parts: its sums are SHA-256 of those of the parts."""
    total, sums = Comparison(0, 0, "", "", Names()), (hashlib.sha256(), hashlib.sha256())
    for part in parts:
        total.sessions += part.sessions
        total.messages += part.messages
        total.differing.add_all(part.differing)
        for each, value in zip(sums, (part.source, part.target), strict=True):
            each.update(value.encode())
    total.source, total.target = (each.hexdigest() for each in sums)
    return total


async def copy_sessions(
    source: StorageProvider,
    target: StorageProvider,
    *,
    namespace: str | None = None,
    share: Share = EVERYTHING,
    replace: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Tally:
    """Write the sessions of a store into another; return what was written and what was not.

    All of them, or those of a namespace, or of a share. A session that the target holds in another
    state stays as it is, unless ``replace`` is set. ``progress`` is called with how many sessions
    are done.
    """
    tally = Tally()
    walk = Walk(source, namespace=namespace, share=share)

    async def copy(headers: list[SessionMetadata]) -> None:
        parts = await first_parts(source, headers)
        await asyncio.gather(
            *(
                _copy(source, target, header, part, tally, replace=replace)
                for header, part in zip(headers, parts, strict=True)
            )
        )
        if progress is not None:
            progress(tally.done)

    await _each(walk, copy)
    for name in walk.unreadable:
        tally.unreadable.add(*name)
    return tally


async def compare_stores(
    source: StorageProvider,
    target: StorageProvider,
    *,
    namespace: str | None = None,
    share: Share = EVERYTHING,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Read every living session of the source from both stores, and compare them."""
    found = Comparison(0, 0, "", "", Names())
    sums = hashlib.sha256(), hashlib.sha256()

    async for page in Walk(source, namespace=namespace, share=share).pages():
        headers = [header for header in page if is_living(header)]
        chunks = [headers[first : first + _TOGETHER] for first in range(0, len(headers), _TOGETHER)]
        read = await asyncio.gather(*(_digests(source, target, chunk) for chunk in chunks))
        for header, both in zip(headers, chain.from_iterable(read), strict=True):
            _compare(header, both, found, sums)
        if progress is not None:
            progress(found.sessions)
    found.source, found.target = (total.hexdigest() for total in sums)
    return found


async def _digests(
    source: StorageProvider, target: StorageProvider, headers: list[SessionMetadata]
) -> list[tuple[SessionDigest, SessionDigest] | None]:
    """Return the digests of each session in both stores; ``None`` for one that cannot be read."""
    held, copied = await asyncio.gather(first_parts(source, headers), first_parts(target, headers))
    found: list[tuple[SessionDigest, SessionDigest] | None] = []
    for one, other in zip(held, copied, strict=True):
        try:
            found.append((await digest_of(source, one), await digest_of(target, other)))
        except (CorruptRecordError, ChangedWhileReadError):
            found.append(None)
    return found


def _compare(
    header: SessionMetadata,
    both: tuple[SessionDigest, SessionDigest] | None,
    found: Comparison,
    sums: Sequence[Sum],
) -> None:
    """Add a session to a comparison."""
    if both is None:
        found.differing.add(header.namespace, header.session_id)
        sums[0].update(b"unreadable")
        return
    for total, digest in zip(sums, both, strict=True):
        total.update(digest.value())
    held, copied = both
    found.sessions += 1
    found.messages += held.messages
    if held.value() != copied.value():
        found.differing.add(header.namespace, header.session_id)


async def _each(walk: Walk, work: Callable[[list[SessionMetadata]], Awaitable[None]]) -> None:
    """Do some work for all sessions, in chunks, some of them concurrently; raise its first error.

    While one chunk is written, another is read.
    """
    free = asyncio.Semaphore(_CHUNKS)

    async def one(headers: list[SessionMetadata]) -> None:
        try:
            await work(headers)
        finally:
            free.release()

    try:
        async with asyncio.TaskGroup() as tasks:
            async for page in walk.pages():
                for first in range(0, len(page), _TOGETHER):
                    await free.acquire()
                    tasks.create_task(one(page[first : first + _TOGETHER]))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _copy(
    source: StorageProvider,
    target: StorageProvider,
    header: SessionMetadata,
    first: Part | CorruptRecordError | None,
    tally: Tally,
    *,
    replace: bool,
) -> None:
    name = header.namespace, header.session_id
    if isinstance(first, CorruptRecordError):
        tally.unreadable.add(*name)
        return
    if first is None:  # deleted since it was listed
        return
    if not is_living(first.header):
        tally.ended += 1
        return
    counted = [len(first.messages)]
    later = _counted(later_parts(source, first), counted)
    try:
        placed = await place(target, first, later, replace=replace)
    except ChangedWhileReadError:
        tally.changing.add(*name)
    except InvalidInputError:
        tally.refused.add(*name)
    else:
        _note(tally, placed, name, sum(counted))


def _note(tally: Tally, placed: Placed, name: tuple[str, str], messages: int) -> None:
    if placed is Placed.WRITTEN:
        tally.sessions += 1
        tally.messages += messages
    elif placed is Placed.PRESENT:
        tally.present += 1
    else:
        tally.different.add(*name)


async def _counted(parts: AsyncIterator[Part], counted: list[int]) -> AsyncIterator[Part]:
    async for part in parts:
        counted.append(len(part.messages))
        yield part
