"""Mending the lists: what a reader finds wrong in them is set right, after the reader was answered.

An entry that leads nowhere is removed once it is a minute old: until then its session may be on the
way. One that is saved with an older time may be so even later; hence a reader looks at the session
once more after the removal, and who creates it enters it once more after its header. The sweeper
looks at what the due queue knows of a removed entry.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import SessionError
from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.redis_commands import SETTLE, Command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from datetime import datetime

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.redis_due import DueQueue
    from agent_cores.session.storage.redis_indexes import Indexes
    from agent_cores.session.storage.redis_wire import Wire

    LookUp = Callable[[str, Iterable[str]], Awaitable[Sequence[SessionMetadata | None]]]

MENDED_AFTER = timedelta(minutes=1)

_log = logging.getLogger(__name__)


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
    """Sets right what readers found, in tasks of its own."""

    def __init__(self, wire: Wire, indexes: Indexes, due: DueQueue, headers: LookUp) -> None:
        self._wire = wire
        self._headers = headers
        self._indexes = indexes
        self._due = due
        self._tasks: set[asyncio.Task[None]] = set()

    def look_over(
        self,
        namespace: str,
        looked_at: Iterable[tuple[Entry, SessionMetadata | None]],
        at: datetime,
    ) -> None:
        """Remove entries that are wrong and old enough, move up those that lag behind."""
        oldest = to_millis(at - MENDED_AFTER)
        repairs: defaultdict[bytes, list[bytes | int | str]] = defaultdict(list)
        removed: list[Entry] = []
        gone: list[bytes] = []
        for entry, header in looked_at:
            score = self._right_score(entry, header)
            if score is None and entry.score <= oldest:
                repairs[entry.key] += [entry.member, entry.score, entry.score, ""]
                removed.append(entry)
                if header is None or header.incarnation != entry.incarnation:
                    gone.append(entry.member)
            elif score is not None and score > entry.score:
                repairs[entry.key] += [entry.member, entry.score, entry.score, score]
        commands = [SETTLE.on((key,), *each) for key, each in repairs.items()]
        self._start(commands, namespace, removed)
        self.doubt(namespace, gone, at)

    def doubt(self, namespace: str, members: Iterable[bytes], at: datetime) -> None:
        """Have the sweeper look at names in the due queue that no session stands behind."""
        self._start([self._due.doubt(namespace, member, at) for member in members], namespace)

    async def finish(self) -> None:
        """Return once all that was begun is done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _right_score(self, entry: Entry, header: SessionMetadata | None) -> int | None:
        if header is None:
            return None
        return self._indexes.places(header).get((entry.key, entry.member))

    def _start(
        self, commands: list[Command], namespace: str, removed: Sequence[Entry] = ()
    ) -> None:
        if commands:
            task = asyncio.create_task(self._carry_out(commands, namespace, removed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry_out(
        self, commands: list[Command], namespace: str, removed: Sequence[Entry]
    ) -> None:
        try:
            await self._wire.call_all(commands)
            headers = await self._headers(namespace, [entry.session_id for entry in removed])
            for entry, header in zip(removed, headers, strict=True):
                if header is not None and self._right_score(entry, header) is not None:
                    await self._indexes.restore(header)
        except SessionError as error:  # the next reader finds it again
            _log.warning("a list of sessions was not mended: %s", error)
