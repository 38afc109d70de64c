"""Which lists a session stands in, and keeping them true.

Lists live in other slots than the sessions: an entry is written before the session and removed
after it, so a reader may meet an entry too many, never one too few. It judges each by the session's
header.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from agent_cores.session.models.times import to_millis, utc_now
from agent_cores.session.storage.redis_commands import INDEX, SETTLE, Command
from agent_cores.session.storage.redis_keys import member_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.redis_keys import Keys
    from agent_cores.session.storage.redis_wire import Wire

NEVER = "+inf"
_RECENT = timedelta(seconds=5)
"""What is older may be, or soon become, old enough for a reader to remove."""
_KEPT = "kept"  # these lists do not expire

Place = tuple[bytes, bytes]
"""A list's key, and a session's name in it."""


class Indexes:
    """The lists of owners, tags and subjects, and the due queue."""

    def __init__(self, keys: Keys, wire: Wire) -> None:
        self._keys = keys
        self._wire = wire

    def places(self, header: SessionMetadata) -> dict[Place, int]:
        """Return every place of a session in lists that readers walk, and its score there."""
        member = member_of(header.session_id, header.incarnation)
        listed_at = to_millis(header.listed_at or header.last_active_at)
        places = {(key, member): listed_at for key in self._owned(header, header.tags)}
        for subject, grant in header.grants.items():
            key = self._keys.shared_with(header.namespace, subject)
            places[key, member] = to_millis(grant.granted_at)
        return places

    async def enter(self, before: SessionMetadata | None, after: SessionMetadata) -> None:
        """Before the write: put a session where it will stand."""
        held = {} if before is None else self.places(before)
        places = self.places(after)
        is_new = before is None or before.incarnation != after.incarnation
        commands = list(self._additions(before, after, held, places))
        if is_new or _nearer(before, after):
            commands.append(self._due(after, "GT" if is_new else "LT"))
        if is_new:
            namespaces = self._keys.namespaces
            commands.append(Command.write("SADD", namespaces, after.namespace, key=namespaces))
        await self._wire.call_all(commands)

    async def affirm(self, before: SessionMetadata | None, after: SessionMetadata) -> None:
        """After a create: enter a session again whose entries looked old from the beginning.

        A reader who came before the header may have removed them.
        """
        granted = (grant.granted_at for grant in after.grants.values())
        oldest = min((after.listed_at or after.last_active_at, *granted))
        if oldest < utc_now() - _RECENT:
            held = {} if before is None else self.places(before)
            await self._wire.call_all(self._additions(before, after, held, self.places(after)))

    async def restore(self, header: SessionMetadata) -> None:
        """Enter a session where it stands already, for an entry that was removed too much."""
        await self._wire.call_all(self._additions(None, header, {}, self.places(header)))

    async def leave(self, before: SessionMetadata, after: SessionMetadata | None) -> None:
        """After the write: take a session out of where it no longer stands.

        One that is still there is taken out only if nobody entered it anew meanwhile.
        """
        member = member_of(before.session_id, before.incarnation)
        if after is None or after.incarnation != before.incarnation:
            gone = [key for key, _ in self.places(before)]
            gone.append(self._keys.due(before.namespace, before.session_id))
            await self._wire.call_all(Command.write("ZREM", key, member, key=key) for key in gone)
            return
        kept = self.places(after)
        bound = to_millis(after.listed_at or after.last_active_at) - 1
        await self._wire.call_all(
            SETTLE.on((key,), member, 0, bound, "")
            for key, _ in self.places(before)
            if (key, member) not in kept
        )

    async def withdraw(self, wanted: SessionMetadata, stands: SessionMetadata | None) -> None:
        """Take back what was entered for a write that changed nothing. ``stands``: what is there.

        Only where the score is still that of the write; whoever wrote another one knew better.
        """
        held = {} if stands is None else self.places(stands)
        commands = [
            SETTLE.on((key,), member, score, score, held.get((key, member), ""))
            for (key, member), score in self.places(wanted).items()
            if held.get((key, member)) != score
        ]
        due = self._keys.due(wanted.namespace, wanted.session_id)
        member, score = member_of(wanted.session_id, wanted.incarnation), _due_score(wanted)
        if stands is None or stands.incarnation != wanted.incarnation:
            commands.append(Command.write("ZREM", due, member, key=due))
        elif score != _due_score(stands):
            commands.append(SETTLE.on((due,), member, score, score, _due_score(stands)))
        await self._wire.call_all(commands)

    def moved(
        self, header: SessionMetadata, tags: Iterable[str], at: datetime, ends: datetime | None
    ) -> Command:
        """Return what moves a session up in its owner's list and in those of the tags."""
        member = member_of(header.session_id, header.incarnation)
        keys = tuple(self._owned(header, tags))
        return INDEX.on(keys, "move", member, to_millis(at), _end(ends))

    async def move_back(self, header: SessionMetadata, moved_to: datetime) -> None:
        """Undo ``moved`` for an append that was not written: ``header`` is what stands.

        Only where the score is still that of the append; whoever wrote another one knew better.
        """
        member = member_of(header.session_id, header.incarnation)
        right = to_millis(header.listed_at or header.last_active_at)
        wrong = to_millis(moved_to)
        if right < wrong:
            await self._wire.call_all(
                SETTLE.on((key,), member, wrong, wrong, right)
                for key in self._owned(header, header.tags)
            )

    def _additions(
        self,
        before: SessionMetadata | None,
        after: SessionMetadata,
        held: dict[Place, int],
        places: dict[Place, int],
    ) -> Iterable[Command]:
        """Yield what enters a session, or moves it up, and makes its owner's lists last as long."""
        member = member_of(after.session_id, after.incarnation)
        score = to_millis(after.listed_at or after.last_active_at)
        owned = tuple(self._owned(after, after.tags))
        lasts = before is not None and before.expires_at == after.expires_at
        if not lasts or any(held.get((key, member)) != score for key in owned):
            yield INDEX.on(owned, "add", member, score, _end(after.expires_at))
        for (key, _), when in places.items():
            if key not in owned and held.get((key, member)) != when:
                yield INDEX.on((key,), "add", member, when, _KEPT)

    def _due(self, header: SessionMetadata, direction: str) -> Command:
        key = self._keys.due(header.namespace, header.session_id)
        member = member_of(header.session_id, header.incarnation)
        return Command.write("ZADD", key, direction, _due_score(header), member, key=key)

    def _owned(self, header: SessionMetadata, tags: Iterable[str]) -> Iterable[bytes]:
        names = header.namespace, header.owner_id
        yield self._keys.owned(*names, archived=header.archived)
        for tag in tags:
            yield self._keys.owned(*names, archived=header.archived, tag=tag)


def _nearer(before: SessionMetadata | None, after: SessionMetadata) -> bool:
    if before is None or after.expires_at is None:
        return False
    return before.expires_at is None or after.expires_at < before.expires_at


def _due_score(header: SessionMetadata) -> str:
    return NEVER if header.due_at is None else str(to_millis(header.due_at))


def _end(ends: datetime | None) -> str:
    return "" if ends is None else str(to_millis(ends))
