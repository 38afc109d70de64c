"""Repairs indexes: entries that a listing finds wrong, and all entries of one user.

Repairs run in the background, after the listing has returned. A stale entry is removed once it is a
minute old: until then, a create of its session may be in flight. A session that is saved with an
older time may be created even later. So a repair reads the session again before the removal and
after it, and the writer that creates the session adds its entries again after the write. The
sweeper then checks the session in the due queue.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.redis.commands import REPAIR, Command
from agent_cores.session.storage.redis.indexes import claimed, random_token, removal
from agent_cores.session.storage.redis.keys import split_member

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from datetime import datetime

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.redis.background import Background
    from agent_cores.session.storage.redis.due import DueQueue
    from agent_cores.session.storage.redis.headers import Headers
    from agent_cores.session.storage.redis.indexes import Indexes
    from agent_cores.session.storage.redis.wire import Wire

    Header = SessionMetadata | CorruptRecordError | None

_REPAIRED_AFTER = timedelta(minutes=1)


class Entry(msgspec.Struct, frozen=True):
    """One session in the list ``key``. ``subject``: set if ``key`` is a subject's list."""

    score: int
    session_id: str
    incarnation: int
    member: bytes
    key: bytes
    subject: str | None

    @property
    def position(self) -> tuple[int, str]:
        """Its position in the order of a listing."""
        return self.score, self.session_id


class Repairs:
    """Corrects, in the background, the entries that listings find wrong."""

    def __init__(
        self,
        wire: Wire,
        indexes: Indexes,
        due: DueQueue,
        headers: Headers,
        background: Background,
    ) -> None:
        self._wire = wire
        self._headers = headers
        self._indexes = indexes
        self._due = due
        self._background = background
        self._complete: set[str] = set()

    def check(
        self,
        namespace: str,
        checked: Iterable[tuple[Entry, Header]],
        at: datetime,
    ) -> None:
        """Remove stale entries that are old enough, and correct the scores of others."""
        oldest = to_millis(at - _REPAIRED_AFTER)
        wrong: list[Entry] = []
        commands: list[Command] = []
        for entry, header in checked:
            score = self._right_score(entry, header)
            if score is None and entry.score <= oldest:
                wrong.append(entry)
            elif score is not None and (score > entry.score or score < entry.score <= oldest):
                commands.append(_corrected(entry, score))
        if wrong:
            self._background.start(self._remove(namespace, wrong, at))
        if commands:
            self._background.start(self._wire.call_all(commands))

    async def add_created(self, namespace: str) -> None:
        """Add the sessions of an earlier program to the lists by creation, in the background.

        It checks once per process and namespace, and again after a failure. Until it has ended,
        listings may miss some.
        """
        if namespace in self._complete:
            return
        self._complete.add(namespace)
        try:
            if await self._due.lists_every_session(namespace):
                return
        except BaseException:
            self._complete.discard(namespace)
            raise
        work = repair_all(self._due, self._headers, self._indexes, namespace)

        def ended(task: asyncio.Task[bool]) -> None:
            if task.cancelled() or task.exception() is not None or not task.result():
                self._complete.discard(namespace)

        self._background.start(work).add_done_callback(ended)

    def recheck(self, namespace: str, members: Iterable[bytes], at: datetime) -> None:
        """Have the sweeper check members of the due queue that have no session."""
        commands = [self._due.recheck(namespace, member, at) for member in members]
        if commands:
            self._background.start(self._wire.call_all(commands))

    def _right_score(self, entry: Entry, header: Header) -> int | None:
        """Return the score that an entry should have; ``None`` if it is stale.

        The entry of a session that cannot be read is left as it is.
        """
        if header is None:
            return None
        if isinstance(header, CorruptRecordError):
            return entry.score
        if entry.subject is None:
            return self._indexes.entries(header).get((entry.key, entry.member))
        grant = header.grants.get(entry.subject)  # a header may hold a thousand grants
        if grant is None or header.incarnation != entry.incarnation:
            return None
        return to_millis(grant.granted_at)

    async def _remove(self, namespace: str, wrong: Sequence[Entry], at: datetime) -> None:
        """Remove entries that are still stale and that nobody has claimed since.

        A create claims nothing, so its entries are added again if it happened concurrently.
        """
        token = random_token()
        await self._wire.call_all(claimed((entry.key, entry.member), token) for entry in wrong)
        headers = await self._read(namespace, wrong)
        still = [entry for entry in wrong if self._right_score(entry, headers[entry]) is None]
        gone = [entry.member for entry in still if not _is_of(headers[entry], entry)]
        await self._wire.call_all(removal((entry.key, entry.member), token) for entry in still)
        for entry, header in (await self._read(namespace, still)).items():
            right = self._right_score(entry, header) is not None
            if right and header is not None and not isinstance(header, CorruptRecordError):
                await self._indexes.repair(header)
        self.recheck(namespace, gone, at)

    async def _read(self, namespace: str, entries: Sequence[Entry]) -> dict[Entry, Header]:
        headers = await self._headers.read(namespace, [entry.session_id for entry in entries])
        return dict(zip(entries, headers, strict=True))


def _is_of(header: Header, entry: Entry) -> bool:
    """Whether the session of an entry exists."""
    if isinstance(header, CorruptRecordError):
        return True
    return header is not None and header.incarnation == entry.incarnation


def _corrected(entry: Entry, score: int | str) -> Command:
    return REPAIR.on((entry.key,), entry.member, entry.score, entry.score, score)


async def repair_lists(
    due: DueQueue, headers: Headers, indexes: Indexes, namespace: str, user_id: str
) -> None:
    """Add missing index entries of the sessions that a user owns or that are shared with the user.

    Lists are in different cluster slots from sessions, so a failover may lose an entry and keep the
    session. This reads every session of the namespace: two round trips for every 500.
    """
    async for known in _every_header(due, headers, namespace):
        theirs = (h for h in known if h.owner_id == user_id or user_id in h.grants)
        await asyncio.gather(*map(indexes.repair, theirs))


async def repair_all(due: DueQueue, headers: Headers, indexes: Indexes, namespace: str) -> None:
    """Add missing index entries of every session of a namespace."""
    async for known in _every_header(due, headers, namespace):
        await asyncio.gather(*map(indexes.repair, known))


async def _every_header(
    due: DueQueue, headers: Headers, namespace: str
) -> AsyncIterator[list[SessionMetadata]]:
    async for members in due.pages(namespace):
        found = await headers.read(namespace, [split_member(member)[0] for member in members])
        yield [h for h in found if h is not None and not isinstance(h, CorruptRecordError)]
