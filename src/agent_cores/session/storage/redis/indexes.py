"""``Indexes``: the lists in which a session is found, and how a write keeps them correct.

Lists are in different cluster slots from sessions. So index entries are added before the session is
written and removed after it: an index may hold stale entries but never misses a live session. A
reader checks each entry against the session's header.

A writer that is about to add or remove an entry of an existing session first claims the entry, with
a random token, and removes it only while that claim still holds. A write that succeeds was decided
on the result of the one before it, so its claim is the later one: a removal that is late finds the
claim of whoever added the entry again. No clocks are compared.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.redis.commands import INDEX, REMOVE, REPAIR, Command
from agent_cores.session.storage.redis.keys import claim_of, member_of
from agent_cores.session.storage.redis.records import end_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.redis.background import Background
    from agent_cores.session.storage.redis.keys import Keys
    from agent_cores.session.storage.redis.wire import Wire

NEVER = "+inf"
_RECENT = 5.0
"""Seconds. An older entry is, or soon will be, old enough for a reader to remove."""
_CLAIM_SECONDS = 0.5
_KEPT = "kept"  # these lists do not expire
_NO_CLAIM = "-"

EntryKey = tuple[bytes, bytes]
"""A list's key, and the session's member in it."""


class IndexUpdate:
    """The index entries that one attempt at a write adds and removes.

    ``before`` is the session that the write was decided on, ``after`` what it makes of it.
    ``is_new``: nobody else can know the session yet, so nothing is claimed. ``may_remove``: the
    entries to remove were claimed before the write; otherwise readers remove them.
    """

    def __init__(
        self, before: SessionMetadata | None, after: SessionMetadata, *, is_new: bool
    ) -> None:
        self.before = before
        self.after = after
        self.token: str | None = None if is_new else random_token()
        self.may_remove = False
        self.moving: asyncio.Task[bool] | None = None
        self._began = time.monotonic()
        self._looks_old = False

    def note(self, replies: Iterable[object]) -> None:
        """Note what ``index.lua`` replied about the entries that were added."""
        self._looks_old = any([reply == 1 for reply in replies])  # noqa: C419 - a list is faster

    @property
    def is_safe(self) -> bool:
        """Whether no reader can have removed an entry as stale before the write."""
        in_time = time.monotonic() - self._began < _RECENT
        return self.token is None and in_time and not self._looks_old


def random_token() -> str:
    """Return the token of a claim: 64 random bits."""
    return secrets.token_hex(8)


class NewEntries(msgspec.Struct, frozen=True, gc=False):
    """A new session's entries in lists that share a hash tag; ``end`` is that of the session."""

    lists: tuple[bytes, ...]
    member: bytes
    score: int
    end: str


def additions(entries: Sequence[NewEntries]) -> Command:
    """Return the command that adds new sessions to the same lists."""
    ends = [entry.end for entry in entries]
    end = _KEPT if _KEPT in ends else "" if "" in ends else max(ends, key=int)
    pairs = [value for entry in entries for value in (entry.score, entry.member)]
    return INDEX.on(entries[0].lists, "add", end, _NO_CLAIM, *pairs)


class Indexes:
    """The lists of owners, tags and subjects, and the due queue."""

    def __init__(self, keys: Keys, wire: Wire, background: Background) -> None:
        self._keys = keys
        self._wire = wire
        self._background = background

    def entries(self, header: SessionMetadata) -> dict[EntryKey, int]:
        """Return every entry of a session in the lists that readers walk, with its score."""
        member = member_of(header.session_id, header.incarnation)
        listed_at = to_millis(header.listed_at or header.last_active_at)
        entries = {(key, member): listed_at for key in self._owned(header, header.tags)}
        created_at = to_millis(header.created_at)
        entries |= {(key, member): created_at for key in self._created(header)}
        for subject, grant in header.grants.items():
            key = self._keys.shared_with(header.namespace, subject)
            entries[key, member] = to_millis(grant.granted_at)
        return entries

    def new_entries(self, header: SessionMetadata) -> list[NewEntries]:
        """Return the entries of a new session in lists, without the due queue."""
        member = member_of(header.session_id, header.incarnation)
        active_at = to_millis(header.listed_at or header.last_active_at)
        owned, created = tuple(self._owned(header, header.tags)), tuple(self._created(header))
        entries = [
            NewEntries(owned, member, active_at, end_text(header.expires_at)),
            NewEntries(created, member, to_millis(header.created_at), _KEPT),
        ]
        for subject, grant in header.grants.items():
            key = self._keys.shared_with(header.namespace, subject)
            entries.append(NewEntries((key,), member, to_millis(grant.granted_at), _KEPT))
        return entries

    def new_due(self, header: SessionMetadata) -> tuple[bytes, str, bytes]:
        """Return key, score and member of a new session in the due queue."""
        key = self._keys.due(header.namespace, header.session_id)
        return key, _due_score(header), member_of(header.session_id, header.incarnation)

    def new_namespaces(self, names: Iterable[str]) -> Command:
        """Return the command that adds namespaces to the set of those that have due queues."""
        return Command.write("SADD", self._keys.namespaces, *names, key=self._keys.namespaces)

    async def add(self, update: IndexUpdate) -> None:
        """Before the write: add the entries it needs, and claim those it will remove.

        It waits only for entries that would otherwise be missing. Readers correct an old score, and
        remove an entry that could not be claimed. If nothing has to come before the write, what
        moves entries up is sent together with it, as for an append.
        """
        before, after = update.before, update.after
        is_new = before is None or before.incarnation != after.incarnation
        needed: list[Command] = []
        wanted: list[Command] = []
        for command, is_missing in self._additions(update, update.token):
            (needed if is_missing else wanted).append(command)
        added = len(needed)
        if is_new or _ends_earlier(before, after):
            needed.append(self._due(after, "GT" if is_new else "LT"))
        else:
            wanted.append(self._due(after, "NX"))
        if is_new:
            needed.append(self.new_namespaces([after.namespace]))
        if wanted:
            update.moving = self._background.start_unless_slow(self._wire.call_all(wanted))
        claiming = self._claim(update)
        if not needed and claiming is None:
            return
        replies = await self._wire.call_all(needed)
        update.note(replies[:added])
        await self._background.shortly(update.moving)
        if claiming is not None:
            update.may_remove = await self._background.succeeds(claiming, _CLAIM_SECONDS)

    def _claim(self, update: IndexUpdate) -> asyncio.Task[bool] | None:
        """Start claiming the entries that the write will remove."""
        stale = self._stale(update.before, update.after)
        if update.token is None or not stale:
            return None
        token = update.token
        return self._background.start(
            self._wire.call_all([claimed(entry, token) for entry in stale])
        )

    async def finish(self, update: IndexUpdate) -> None:
        """After the write: remove the stale entries, and repair the entries it needs."""
        await self._background.shortly(update.moving)
        await asyncio.gather(self._remove_stale(update), self._repair_added(update))

    async def _remove_stale(self, update: IndexUpdate) -> None:
        before = update.before
        if before is not None and before.incarnation != update.after.incarnation:
            await self.remove(before)
        elif update.token is not None and update.may_remove:
            stale = self._stale(before, update.after)
            await self._wire.call_all(removal(entry, update.token) for entry in stale)

    async def _repair_added(self, update: IndexUpdate) -> None:
        """Restore the entries that others may have removed, and release the claims.

        A reader that came before the write may have taken them for stale; a write that was refused
        may have claimed them after this one.
        """
        if update.is_safe:
            return
        commands = [command for command, _ in self._additions(update, "")]
        ends_earlier = _ends_earlier(update.before, update.after)
        if commands or ends_earlier:
            commands.append(self._due(update.after, "LT" if ends_earlier else "NX"))
        await self._wire.call_all(commands)

    async def repair(self, header: SessionMetadata) -> None:
        """Restore every entry of a stored session, in case it was removed or lost."""
        added = [additions([entry]) for entry in self.new_entries(header)]
        await self._wire.call_all([*added, self._due(header, "NX")])

    async def remove(self, header: SessionMetadata) -> None:
        """Remove every entry of one incarnation that no longer exists."""
        member = member_of(header.session_id, header.incarnation)
        keys = [key for key, _ in self.entries(header)]
        keys.append(self._keys.due(header.namespace, header.session_id))
        await self._wire.call_all(Command.write("ZREM", key, member, key=key) for key in keys)

    async def is_stored(self, gone: SessionMetadata) -> bool:
        """Return whether that incarnation of a session is stored."""
        key = self._keys.session(gone.namespace, gone.session_id).header
        stored = await self._wire.call(Command.read("HGET", key, "incarnation", key=key))
        return bool(stored == str(gone.incarnation).encode())

    async def undo(self, update: IndexUpdate, stored: SessionMetadata | None) -> None:
        """Undo what was added for a write that was refused; ``stored`` is the stored session.

        An entry is removed only if nobody has claimed it since. An entry that belongs gets its old
        score back only if it still has that of the refused write: a later score is the right one.
        """
        if update.moving is not None:
            await asyncio.wait([update.moving])
        refused = update.after
        correct = {} if stored is None else self.entries(stored)
        commands: list[Command] = []
        for entry, score in self.entries(refused).items():
            key, member = entry
            if entry in correct or update.token is None:
                if correct.get(entry) != score:
                    right = correct.get(entry, "")
                    commands.append(REPAIR.on((key,), member, score, score, right))
            else:
                commands.append(removal(entry, update.token))
        due = self._keys.due(refused.namespace, refused.session_id)
        member, due_at = member_of(refused.session_id, refused.incarnation), _due_score(refused)
        if stored is None or stored.incarnation != refused.incarnation:
            commands.append(Command.write("ZREM", due, member, key=due))
        elif due_at != _due_score(stored):
            commands.append(REPAIR.on((due,), member, due_at, due_at, _due_score(stored)))
        await self._wire.call_all(commands)

    def _stale(self, before: SessionMetadata | None, after: SessionMetadata) -> list[EntryKey]:
        """Return the entries of a session that a write makes stale."""
        if before is None or before.incarnation != after.incarnation:
            return []
        kept = self.entries(after)
        return [entry for entry in self.entries(before) if entry not in kept]

    def move(
        self, header: SessionMetadata, tags: Iterable[str], at: datetime, ends: datetime | None
    ) -> Command:
        """Return the commands that move a session up in the lists of its owner and its tags."""
        member = member_of(header.session_id, header.incarnation)
        keys = tuple(self._owned(header, tags))
        return INDEX.on(keys, "move", end_text(ends), _NO_CLAIM, to_millis(at), member)

    async def undo_move(self, header: SessionMetadata, moved_to: datetime) -> None:
        """Undo ``move`` for an append that was not written: ``header`` is what is stored.

        Only if the score is still that of the append: a later score is the right one.
        """
        member = member_of(header.session_id, header.incarnation)
        right = to_millis(header.listed_at or header.last_active_at)
        wrong = to_millis(moved_to)
        if right < wrong:
            await self._wire.call_all(
                REPAIR.on((key,), member, wrong, wrong, right)
                for key in self._owned(header, header.tags)
            )

    def _additions(self, update: IndexUpdate, token: str | None) -> Iterable[tuple[Command, bool]]:
        """Yield commands that add or move up each entry, and extend the expiry of owner lists.

        Each comes with whether the entry is new. With a token, the command also sets the claim of a
        new entry; ``""`` releases it, and yields nothing for other entries.
        """
        before, after = update.before, update.after
        held = {} if before is None else self.entries(before)
        member = member_of(after.session_id, after.incarnation)
        score = to_millis(after.listed_at or after.last_active_at)
        owned = tuple(self._owned(after, after.tags))
        lasts = before is not None and before.expires_at == after.expires_at
        is_new = any((key, member) not in held for key in owned)
        if (is_new or token != "") and (
            not lasts or any(held.get((key, member)) != score for key in owned)
        ):
            end = end_text(after.expires_at)
            yield _added(owned, member, score, end, token if is_new else None), is_new
        created = tuple(key for key in self._created(after) if (key, member) not in held)
        if created:
            yield _added(created, member, to_millis(after.created_at), _KEPT, token), True
        for subject, grant in after.grants.items():
            key = self._keys.shared_with(after.namespace, subject)
            granted_at = to_millis(grant.granted_at)
            is_new = (key, member) not in held
            if is_new or (token != "" and held[key, member] != granted_at):
                yield _added((key,), member, granted_at, _KEPT, token if is_new else None), is_new

    def _due(self, header: SessionMetadata, direction: str) -> Command:
        key = self._keys.due(header.namespace, header.session_id)
        member = member_of(header.session_id, header.incarnation)
        return Command.write("ZADD", key, direction, _due_score(header), member, key=key)

    def _owned(self, header: SessionMetadata, tags: Iterable[str]) -> Iterable[bytes]:
        names = header.namespace, header.owner_id
        yield self._keys.owned(*names, archived=header.archived)
        for tag in tags:
            yield self._keys.owned(*names, archived=header.archived, tag=tag)

    def _created(self, header: SessionMetadata) -> Iterable[bytes]:
        names, archived = (header.namespace, header.session_id), header.archived
        yield self._keys.created(*names, archived=archived)
        for tag in header.tags:
            yield self._keys.created(*names, archived=archived, tag=tag)


def claimed(entry: EntryKey, token: str) -> Command:
    """Return the claim of an entry: from then on only ``removal`` with that token removes it."""
    key, member = entry
    return INDEX.on((key, claim_of(key, member)), "claim", _KEPT, token, 0, member)


def removal(entry: EntryKey, token: str) -> Command:
    """Return the command that removes an entry if nobody has claimed it since."""
    key, member = entry
    return REMOVE.on((key, claim_of(key, member)), member, token)


def _added(
    keys: tuple[bytes, ...], member: bytes, score: int, end: str, token: str | None
) -> Command:
    if token is None:
        return INDEX.on(keys, "add", end, _NO_CLAIM, score, member)
    claims = tuple(claim_of(key, member) for key in keys)
    return INDEX.on(keys + claims, "add", end, token, score, member)


def _ends_earlier(before: SessionMetadata | None, after: SessionMetadata) -> bool:
    if before is None or after.expires_at is None:
        return False
    return before.expires_at is None or after.expires_at < before.expires_at


def _due_score(header: SessionMetadata) -> str:
    return NEVER if header.due_at is None else str(to_millis(header.due_at))
