"""Which lists a session stands in, and keeping them true.

Lists live in other slots than the sessions: an entry is added before the session is written and
removed after it, so an index may hold stale entries but never misses a live session. A reader
judges each entry by the session's header.

Whoever is about to add or remove an entry of a session that exists claims it before the write, with
a token of its own, and removes it only while that claim stands. A write that succeeds was decided
on what the one before it left, so it claimed after that one: a removal that is late finds the claim
of whoever added the entry anew, and no clock is compared.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.redis.commands import INDEX, REMOVE, SETTLE, Command
from agent_cores.session.storage.redis.keys import claim_of, member_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable
    from datetime import datetime

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.redis.background import Background
    from agent_cores.session.storage.redis.keys import Keys
    from agent_cores.session.storage.redis.wire import Wire

NEVER = "+inf"
_RECENT = 5.0
"""Seconds. What is older may be, or soon become, old enough for a reader to remove."""
_CLAIM_SECONDS = 0.5
_KEPT = "kept"  # these lists do not expire

Place = tuple[bytes, bytes]
"""A list's key, and a session's name in it."""


class Entering:
    """What one attempt at a write has added to the lists, and claimed in them.

    ``before`` is the session that it relies on, ``after`` what is to stand. ``is_new``: nobody
    else can know the session yet, so nothing is claimed. ``may_leave``: the entries that go after
    the write were claimed before it; else they are left to readers.
    """

    def __init__(
        self, before: SessionMetadata | None, after: SessionMetadata, *, is_new: bool
    ) -> None:
        self.before = before
        self.after = after
        self.token = None if is_new else random_token()
        self.may_leave = False
        self._began = time.monotonic()
        self._looks_old = False

    def answered(self, answers: Iterable[object]) -> None:
        """Note what ``index.lua`` told of the entries that were added."""
        self._looks_old = any(answer == 1 for answer in answers)

    @property
    def is_safe(self) -> bool:
        """Whether no reader can have taken an entry for a stale one before the write was done."""
        in_time = time.monotonic() - self._began < _RECENT
        return self.token is None and in_time and not self._looks_old


def random_token() -> str:
    """Return the token of a claim: it never comes twice."""
    return secrets.token_hex(8)


class Indexes:
    """The lists of owners, tags and subjects, and the due queue."""

    def __init__(self, keys: Keys, wire: Wire, background: Background) -> None:
        self._keys = keys
        self._wire = wire
        self._background = background

    def places(self, header: SessionMetadata) -> dict[Place, int]:
        """Return every place of a session in lists that readers walk, and its score there."""
        member = member_of(header.session_id, header.incarnation)
        listed_at = to_millis(header.listed_at or header.last_active_at)
        places = {(key, member): listed_at for key in self._owned(header, header.tags)}
        for subject, grant in header.grants.items():
            key = self._keys.shared_with(header.namespace, subject)
            places[key, member] = to_millis(grant.granted_at)
        return places

    async def enter(self, entering: Entering) -> None:
        """Before the write: add a session where it will stand, claim where it will not stand.

        Only what would be missing for good is waited for to its end: not a new time, which readers
        correct, nor a claim, without which an entry is left to them.
        """
        before, after = entering.before, entering.after
        is_new = before is None or before.incarnation != after.incarnation
        needed: list[Command] = []
        wanted: list[Command] = []
        for command, is_missing in self._additions(entering, entering.token):
            (needed if is_missing else wanted).append(command)
        added = len(needed)
        if is_new or _nearer(before, after):
            needed.append(self._due(after, "GT" if is_new else "LT"))
        else:
            wanted.append(self._due(after, "NX"))
        if is_new:
            namespaces = self._keys.namespaces
            needed.append(Command.write("SADD", namespaces, after.namespace, key=namespaces))
        moving = None
        if wanted:
            moving = self._background.start_unless_slow(self._wire.call_all(wanted))
        claiming = self._claim(entering)
        answers = await self._wire.call_all(needed)
        entering.answered(answers[:added])
        await self._background.shortly(moving)
        if claiming is not None:
            entering.may_leave = await self._background.succeeds(claiming, _CLAIM_SECONDS)

    def _claim(self, entering: Entering) -> asyncio.Task[bool] | None:
        """Begin to claim the entries that are to go."""
        left = self._left(entering.before, entering.after)
        if entering.token is None or not left:
            return None
        token = entering.token
        return self._background.start(
            self._wire.call_all([claimed(place, token) for place in left])
        )

    async def affirm(self, entering: Entering) -> None:
        """After the write: add the entries again that somebody may have removed, lift the claims.

        A reader who came before the header may have taken them for stale ones; another write that
        came to nothing may have claimed them later than this one.
        """
        if entering.is_safe:
            return
        commands = [command for command, _ in self._additions(entering, "")]
        if commands or _nearer(entering.before, entering.after):
            nearer = _nearer(entering.before, entering.after)
            commands.append(self._due(entering.after, "LT" if nearer else "NX"))
        await self._wire.call_all(commands)

    async def restore(self, header: SessionMetadata) -> None:
        """Add every entry of a session that stands, for those that were removed or lost."""
        additions = self._additions(Entering(None, header, is_new=True), None)
        commands = [command for command, _ in additions]
        await self._wire.call_all([*commands, self._due(header, "NX")])

    async def leave(self, entering: Entering) -> None:
        """After the write: remove the session from where it no longer stands."""
        left = self._left(entering.before, entering.after)
        before = entering.before
        if before is not None and before.incarnation != entering.after.incarnation:
            await self.leave_all(before)
        elif entering.token is not None and entering.may_leave:
            await self._wire.call_all(removal(place, entering.token) for place in left)

    async def leave_all(self, before: SessionMetadata) -> None:
        """Remove every entry of one incarnation that is gone."""
        member = member_of(before.session_id, before.incarnation)
        gone = [key for key, _ in self.places(before)]
        gone.append(self._keys.due(before.namespace, before.session_id))
        await self._wire.call_all(Command.write("ZREM", key, member, key=key) for key in gone)

    async def stands(self, gone: SessionMetadata) -> bool:
        """Return whether one incarnation of a session is there."""
        key = self._keys.session(gone.namespace, gone.session_id).header
        stored = await self._wire.call(Command.read("HGET", key, "incarnation", key=key))
        return bool(stored == str(gone.incarnation).encode())

    async def withdraw(self, entering: Entering, stands: SessionMetadata | None) -> None:
        """Take back what was added for a write that changed nothing. ``stands``: what is there.

        An entry is removed only if nobody has claimed it since, and one that stands gets its score
        back only where it is still that of the write: whoever wrote another one knew better.
        """
        wanted = entering.after
        held = {} if stands is None else self.places(stands)
        commands: list[Command] = []
        for place, score in self.places(wanted).items():
            key, member = place
            if place in held or entering.token is None:
                if held.get(place) != score:
                    commands.append(SETTLE.on((key,), member, score, score, held.get(place, "")))
            else:
                commands.append(removal(place, entering.token))
        due = self._keys.due(wanted.namespace, wanted.session_id)
        member, due_at = member_of(wanted.session_id, wanted.incarnation), _due_score(wanted)
        if stands is None or stands.incarnation != wanted.incarnation:
            commands.append(Command.write("ZREM", due, member, key=due))
        elif due_at != _due_score(stands):
            commands.append(SETTLE.on((due,), member, due_at, due_at, _due_score(stands)))
        await self._wire.call_all(commands)

    def _left(self, before: SessionMetadata | None, after: SessionMetadata) -> list[Place]:
        """Return the places of a session where it will not stand any more."""
        if before is None or before.incarnation != after.incarnation:
            return []
        kept = self.places(after)
        return [place for place in self.places(before) if place not in kept]

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

    def _additions(self, entering: Entering, token: str | None) -> Iterable[tuple[Command, bool]]:
        """Yield what adds a session, or moves it up, and makes its owner's lists last as long.

        And whether an entry is new. With a token, also what sets the claims of new entries;
        ``""`` lifts them, and yields nothing for others.
        """
        before, after = entering.before, entering.after
        held = {} if before is None else self.places(before)
        places = self.places(after)
        member = member_of(after.session_id, after.incarnation)
        score = to_millis(after.listed_at or after.last_active_at)
        owned = tuple(self._owned(after, after.tags))
        lasts = before is not None and before.expires_at == after.expires_at
        is_new = any((key, member) not in held for key in owned)
        if (is_new or token != "") and (
            not lasts or any(held.get((key, member)) != score for key in owned)
        ):
            end = _end(after.expires_at)
            yield _added(owned, member, score, end, token if is_new else None), is_new
        for (key, _), when in places.items():
            is_new = (key, member) not in held
            if key not in owned and (is_new or (token != "" and held[key, member] != when)):
                yield _added((key,), member, when, _KEPT, token if is_new else None), is_new

    def _due(self, header: SessionMetadata, direction: str) -> Command:
        key = self._keys.due(header.namespace, header.session_id)
        member = member_of(header.session_id, header.incarnation)
        return Command.write("ZADD", key, direction, _due_score(header), member, key=key)

    def _owned(self, header: SessionMetadata, tags: Iterable[str]) -> Iterable[bytes]:
        names = header.namespace, header.owner_id
        yield self._keys.owned(*names, archived=header.archived)
        for tag in tags:
            yield self._keys.owned(*names, archived=header.archived, tag=tag)


def claimed(place: Place, token: str) -> Command:
    """Return what claims an entry: it then goes only by ``removal`` with that very token."""
    key, member = place
    return INDEX.on((key, claim_of(key, member)), "claim", member, 0, _KEPT, token)


def removal(place: Place, token: str) -> Command:
    """Return what removes an entry that nobody has claimed since."""
    key, member = place
    return REMOVE.on((key, claim_of(key, member)), member, token)


def _added(
    keys: tuple[bytes, ...], member: bytes, score: int, end: str, token: str | None
) -> Command:
    if token is None:
        return INDEX.on(keys, "add", member, score, end)
    claims = tuple(claim_of(key, member) for key in keys)
    return INDEX.on(keys + claims, "add", member, score, end, token)


def _nearer(before: SessionMetadata | None, after: SessionMetadata) -> bool:
    if before is None or after.expires_at is None:
        return False
    return before.expires_at is None or after.expires_at < before.expires_at


def _due_score(header: SessionMetadata) -> str:
    return NEVER if header.due_at is None else str(to_millis(header.due_at))


def _end(ends: datetime | None) -> str:
    return "" if ends is None else str(to_millis(ends))
