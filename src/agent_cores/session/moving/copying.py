"""``copy_sessions``: every session from one store into another; ``compare_stores``: are they equal.

For a source that is not written to in the meantime. Copying again adds nothing, and ends what an
interrupted copy began. At most ``_TOGETHER`` parts of sessions are in memory at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import CorruptRecordError, SessionError
from agent_cores.session.moving.digests import SessionDigest, digest_of
from agent_cores.session.moving.placing import Placed, place
from agent_cores.session.moving.tally import Names, Tally
from agent_cores.session.moving.walking import (
    ChangedWhileReadError,
    Part,
    Walk,
    first_part,
    is_living,
    later_parts,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.base import StorageProvider

_TOGETHER = 100


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


async def copy_sessions(
    source: StorageProvider,
    target: StorageProvider,
    *,
    namespace: str | None = None,
    replace: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Tally:
    """Write the sessions of a store into another; return what was written and what was not.

    All of them, or those of a namespace. A session that the target holds in another state stays as
    it is, unless ``replace`` is set. ``progress`` is called with how many sessions are done.
    """
    tally = Tally()

    async def copy(header: SessionMetadata) -> None:
        try:
            await _copy(source, target, header, tally, replace=replace)
        except CorruptRecordError:
            tally.unreadable.add(header.namespace, header.session_id)
        except ChangedWhileReadError:
            tally.changing.add(header.namespace, header.session_id)
        if progress is not None:
            progress(tally.done)

    walk = Walk(source, namespace=namespace)
    await _each(walk, copy)
    for name in walk.unreadable:
        tally.unreadable.add(*name)
    return tally


async def compare_stores(
    source: StorageProvider,
    target: StorageProvider,
    *,
    namespace: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Read every living session of the source from both stores, and compare them."""
    found = Comparison(0, 0, "", "", Names())
    sums = hashlib.sha256(), hashlib.sha256()

    async def digests(header: SessionMetadata) -> tuple[SessionDigest, SessionDigest]:
        name = header.namespace, header.session_id
        return await asyncio.gather(digest_of(source, *name), digest_of(target, *name))

    async for page in Walk(source, namespace=namespace).pages():
        headers = [header for header in page if is_living(header)]
        read = await asyncio.gather(*map(digests, headers), return_exceptions=True)
        for header, both in zip(headers, read, strict=True):
            if isinstance(both, BaseException) and not isinstance(both, SessionError):
                raise both
            if isinstance(both, CorruptRecordError | ChangedWhileReadError):
                found.differing.add(header.namespace, header.session_id)
                sums[0].update(b"unreadable")
                continue
            if isinstance(both, BaseException):
                raise both
            held, copied = both
            for total, digest in zip(sums, both, strict=True):
                total.update(digest.value())
            found.sessions += 1
            found.messages += held.messages
            if held.value() != copied.value():
                found.differing.add(header.namespace, header.session_id)
        if progress is not None:
            progress(found.sessions)
    found.source, found.target = (total.hexdigest() for total in sums)
    return found


async def _each(walk: Walk, work: Callable[[SessionMetadata], Awaitable[None]]) -> None:
    """Do some work for every session, ``_TOGETHER`` at a time; raise the first error."""
    free = asyncio.Semaphore(_TOGETHER)

    async def one(header: SessionMetadata) -> None:
        try:
            await work(header)
        finally:
            free.release()

    try:
        async with asyncio.TaskGroup() as tasks:
            async for page in walk.pages():
                for header in page:
                    await free.acquire()
                    tasks.create_task(one(header))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _copy(
    source: StorageProvider,
    target: StorageProvider,
    header: SessionMetadata,
    tally: Tally,
    *,
    replace: bool,
) -> None:
    first = await first_part(source, header.namespace, header.session_id)
    if first is None:  # deleted since it was listed
        return
    if not is_living(first.header):
        tally.ended += 1
        return
    counted = [len(first.messages)]
    later = _counted(later_parts(source, first), counted)
    placed = await place(target, first, later, replace=replace)
    if placed is Placed.WRITTEN:
        tally.sessions += 1
        tally.messages += sum(counted)
    elif placed is Placed.PRESENT:
        tally.present += 1
    else:
        tally.different.add(header.namespace, header.session_id)


async def _counted(parts: AsyncIterator[Part], counted: list[int]) -> AsyncIterator[Part]:
    async for part in parts:
        counted.append(len(part.messages))
        yield part
