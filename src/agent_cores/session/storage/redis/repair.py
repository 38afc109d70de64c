"""Mending the lists: what a reader finds wrong in them is set right, after the reader was answered.

An entry that leads nowhere is removed once it is a minute old: until then its session may be on the
way. One that is saved with an older time may be so even later; hence a reader looks at the session
once more before the removal and after it, and who creates it enters it once more after its header.
The sweeper looks at what the due queue knows of a removed entry.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.redis.commands import SETTLE, Command
from agent_cores.session.storage.redis.indexes import claimed, random_token, removal
from agent_cores.session.storage.redis.keys import split_member

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.redis.background import Background
    from agent_cores.session.storage.redis.due import DueQueue
    from agent_cores.session.storage.redis.headers import Headers
    from agent_cores.session.storage.redis.indexes import Indexes
    from agent_cores.session.storage.redis.wire import Wire

    Header = SessionMetadata | CorruptRecordError | None

MENDED_AFTER = timedelta(minutes=1)


class Entry(msgspec.Struct, frozen=True):
    """One session in one list. ``key`` is the list, ``subject`` whose it is, if a subject's."""

    score: int
    session_id: str
    incarnation: int
    member: bytes
    key: bytes
    subject: str | None

    @property
    def place(self) -> tuple[int, str]:
        """Where it stands."""
        return self.score, self.session_id


class Mending:
    """Sets right what readers found, in the background."""

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

    def look_over(
        self,
        namespace: str,
        looked_at: Iterable[tuple[Entry, Header]],
        at: datetime,
    ) -> None:
        """Remove entries that are wrong and old enough, move those that stand elsewhere."""
        oldest = to_millis(at - MENDED_AFTER)
        wrong: list[Entry] = []
        commands: list[Command] = []
        for entry, header in looked_at:
            score = self._right_score(entry, header)
            if score is None and entry.score <= oldest:
                wrong.append(entry)
            elif score is not None and (score > entry.score or score < entry.score <= oldest):
                commands.append(_settled(entry, score))
        if wrong:
            self._background.start(self._remove(namespace, wrong, at))
        if commands:
            self._background.start(self._wire.call_all(commands))

    def doubt(self, namespace: str, members: Iterable[bytes], at: datetime) -> None:
        """Have the sweeper look at names in the due queue that no session stands behind."""
        commands = [self._due.doubt(namespace, member, at) for member in members]
        if commands:
            self._background.start(self._wire.call_all(commands))

    def _right_score(self, entry: Entry, header: Header) -> int | None:
        """Return the score that an entry should have, ``None`` if it should not be there.

        What cannot be read is left as it is.
        """
        if header is None:
            return None
        if isinstance(header, CorruptRecordError):
            return entry.score
        if entry.subject is None:
            return self._indexes.entries(header).get((entry.key, entry.member))
        grant = header.grants.get(entry.subject)  # one of a thousand, perhaps: not all the places
        if grant is None or header.incarnation != entry.incarnation:
            return None
        return to_millis(grant.granted_at)

    async def _remove(self, namespace: str, wrong: Sequence[Entry], at: datetime) -> None:
        """Remove what is still wrong and what nobody claims meanwhile.

        A session that is created claims nothing: what was made right meanwhile is added again.
        """
        token = random_token()
        await self._wire.call_all(claimed((entry.key, entry.member), token) for entry in wrong)
        headers = await self._look(namespace, wrong)
        still = [entry for entry in wrong if self._right_score(entry, headers[entry]) is None]
        gone = [entry.member for entry in still if not _is_of(headers[entry], entry)]
        await self._wire.call_all(removal((entry.key, entry.member), token) for entry in still)
        for entry, header in (await self._look(namespace, still)).items():
            right = self._right_score(entry, header) is not None
            if right and header is not None and not isinstance(header, CorruptRecordError):
                await self._indexes.repair(header)
        self.doubt(namespace, gone, at)

    async def _look(self, namespace: str, entries: Sequence[Entry]) -> dict[Entry, Header]:
        headers = await self._headers.read(namespace, [entry.session_id for entry in entries])
        return dict(zip(entries, headers, strict=True))


def _is_of(header: Header, entry: Entry) -> bool:
    """Whether the session that an entry names is there."""
    if isinstance(header, CorruptRecordError):
        return True
    return header is not None and header.incarnation == entry.incarnation


def _settled(entry: Entry, score: int | str) -> Command:
    return SETTLE.on((entry.key,), entry.member, entry.score, entry.score, score)


async def repair_lists(
    due: DueQueue, headers: Headers, indexes: Indexes, namespace: str, user_id: str
) -> None:
    """Add the sessions that a user owns, or is granted, to the lists again where they are missing.

    Two round trips for every 500 sessions of the namespace, and no more than these in memory.
    """
    async for members in due.pages(namespace):
        found = await headers.read(namespace, [split_member(member)[0] for member in members])
        known = [h for h in found if h is not None and not isinstance(h, CorruptRecordError)]
        theirs = (h for h in known if h.owner_id == user_id or user_id in h.grants)
        await asyncio.gather(*map(indexes.repair, theirs))
