"""``DueQueue``: every stored session, ordered by the time at which a sweeper checks it.

Sessions that never expire are at infinity. Each namespace has a fixed number of shards, which are
sorted sets. So their sizes add up to the number of sessions, and walking them needs no SCAN.
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from agent_cores.session.errors import CorruptRecordError, StoreFormatError
from agent_cores.session.models.query import Ended
from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.base import Counts
from agent_cores.session.storage.redis.commands import APPLY, CLAIM, LEASE, REPAIR, Command
from agent_cores.session.storage.redis.indexes import NEVER
from agent_cores.session.storage.redis.keys import member_of, split_member
from agent_cores.session.storage.redis.records import encode_msgpack
from agent_cores.session.storage.redis.writes import Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from datetime import datetime

    from agent_cores.session.models.change import Change
    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.redis.headers import Headers
    from agent_cores.session.storage.redis.keys import Keys
    from agent_cores.session.storage.redis.wire import Wire

PAGE = 500
"""Members that ``pages`` reads of a shard at a time."""
PROBATION = timedelta(minutes=1)
"""An entry without a session may belong to one that is being created, but not for this long."""
_COUNTED_TOGETHER = 512
"""Shards that are counted at a time: a sweep that finds enough counts no more."""


class DueQueue:
    """The due queues of all namespaces."""

    def __init__(self, keys: Keys, wire: Wire, headers: Headers) -> None:
        self._keys = keys
        self._wire = wire
        self._headers = headers

    async def take(self, at: datetime, limit: int, lease: timedelta) -> list[Ended]:
        """Lease up to ``limit`` expired sessions; postpone those that were renewed."""
        taken: list[Ended] = []
        shards = [
            (name, key) for name in await self.namespaces() for key in self._keys.due_shards(name)
        ]
        random.shuffle(shards)  # so that sweepers in other processes start with other shards
        for first in range(0, len(shards), _COUNTED_TOGETHER):
            some = shards[first : first + _COUNTED_TOGETHER]
            waiting = _numbers(await self._wire.call_each(_count_due(key, at) for _, key in some))
            for (namespace, shard), number in zip(some, waiting, strict=True):
                while number and len(taken) < limit:
                    wanted = limit - len(taken)
                    ended, claimed = await self._take_from(namespace, shard, at, wanted, at + lease)
                    taken += ended
                    if claimed < wanted:
                        break
            if len(taken) == limit:
                break
        return taken

    async def _take_from(
        self, namespace: str, shard: bytes, at: datetime, limit: int, until: datetime
    ) -> tuple[list[Ended], int]:
        lease_end = to_millis(until)
        members = await self._claimed(shard, to_millis(at), limit, lease_end)
        names = [split_member(member) for member in members]
        answers = await self._wire.call_each(
            LEASE.on(
                (self._keys.session(namespace, session_id).header,),
                to_millis(at),
                lease_end,
                str(incarnation),
            )
            for session_id, incarnation in names
        )
        ended: list[Ended] = []
        lives: list[SessionMetadata] = []
        for member, answer in zip(members, answers, strict=True):
            session = self._session(namespace, shard, member, answer)
            if session is None:
                continue
            if session.header is None or session.header.is_expired(at):
                ended.append(session)
            else:
                lives.append(session.header)
        await self._postpone(namespace, shard, lives, lease_end)
        return ended, len(members)

    async def _claimed(self, shard: bytes, at: int, limit: int, until: int) -> list[bytes]:
        """Claim members of one shard until the lease expires."""
        try:
            members: list[bytes] = await self._wire.call(CLAIM.on((shard,), at, limit, until))
        except StoreFormatError as error:
            self._headers.log_once(shard, error)
            return []
        return members

    def _session(self, namespace: str, shard: bytes, member: bytes, answer: Any) -> Ended | None:  # noqa: ANN401 - what the server replies
        """Return a session that came due; ``None`` if it cannot be read: the lease postpones it."""
        session_id, incarnation = split_member(member)
        if member != member_of(session_id, incarnation):
            detail = f"{shard!r} holds {member!r}, which is not a session"
            self._headers.log_once((shard, member), StoreFormatError(detail))
            return None
        header = self._headers.decoded(namespace, session_id, answer)
        if isinstance(header, CorruptRecordError):
            return None
        return Ended(
            namespace=namespace, session_id=session_id, incarnation=incarnation, header=header
        )

    async def _postpone(
        self, namespace: str, shard: bytes, lives: list[SessionMetadata], lease_end: int
    ) -> None:
        """Move sessions to their current expiry, even if a concurrent change made it earlier."""
        if not lives:
            return
        later: list[bytes | int | str] = []
        for header in lives:
            member = member_of(header.session_id, header.incarnation)
            later += [member, lease_end, lease_end, _end_score(header)]
        await self._wire.call(REPAIR.on((shard,), *later))
        headers = await self._headers.read(namespace, [header.session_id for header in lives])
        nearer: list[bytes | int | str] = []
        for before, now in zip(lives, headers, strict=True):
            if now is None or isinstance(now, CorruptRecordError) or now.expires_at is None:
                continue
            if before.expires_at is None or now.expires_at < before.expires_at:
                nearer += [_end_score(now), member_of(now.session_id, now.incarnation)]
        if nearer:
            await self._wire.call(Command.write("ZADD", shard, "XX", "LT", *nearer, key=shard))

    async def forget(self, change: Change) -> None:
        """Remove what is left of a session that Redis expired before it was swept."""
        keys = self._keys.session(change.namespace, change.session_id)
        shard = self._keys.due(change.namespace, change.session_id)
        member = member_of(change.session_id, change.incarnation or 0)
        await self._wire.call(APPLY.on(keys.every, encode_msgpack(Write(erased=True))))
        await self._wire.call(Command.write("ZREM", shard, member, key=shard))
        for archived in (False, True):
            names = change.namespace, change.session_id
            key = self._keys.created(*names, archived=archived)
            await self._wire.call(Command.write("ZREM", key, member, key=key))

    def recheck(self, namespace: str, member: bytes, at: datetime) -> Command:
        """Return the command that gives an entry at infinity a due time, for a sweep."""
        session_id, _ = split_member(member)
        shard = self._keys.due(namespace, session_id)
        again_at = to_millis(at + PROBATION)
        return REPAIR.on((shard,), member, NEVER, NEVER, again_at)

    async def count(self, namespace: str | None, at: datetime) -> Counts:
        """Count sessions, and those past their due time."""
        namespaces = await self.namespaces() if namespace is None else [namespace]
        shards = [key for name in namespaces for key in self._keys.due_shards(name)]
        sizes = _numbers(
            await self._wire.call_each(
                [Command.read("ZCARD", key, key=key) for key in shards]
                + [_count_due(key, at) for key in shards]
            )
        )
        return Counts(sum(sizes[: len(shards)]), sum(sizes[len(shards) :]))

    async def count_archived(self) -> int:
        """Count the archived sessions by the lists of their creation, which may hold stale ones."""
        shards = [
            key
            for name in await self.namespaces()
            for key in self._keys.created_shards(name, archived=True, tag=None)
        ]
        sizes = await self._wire.call_each([Command.read("ZCARD", key, key=key) for key in shards])
        return sum(_numbers(sizes))

    async def lists_every_session(self, namespace: str) -> bool:
        """Whether the lists by creation hold as many sessions as the due queue."""
        created = [
            key
            for archived in (False, True)
            for key in self._keys.created_shards(namespace, archived=archived, tag=None)
        ]
        shards = self._keys.due_shards(namespace)
        sizes = _numbers(
            await self._wire.call_each(
                [Command.read("ZCARD", key, key=key) for key in [*shards, *created]]
            )
        )
        return sum(sizes[: len(shards)]) <= sum(sizes[len(shards) :])

    async def members(self, namespace: str | None) -> AsyncIterator[tuple[str, list[bytes]]]:
        """Yield the members of each shard, with its namespace."""
        for name in await self.namespaces() if namespace is None else [namespace]:
            for key in self._keys.due_shards(name):
                yield name, await self._wire.call(Command.read("ZRANGE", key, 0, -1, key=key))

    async def pages(self, namespace: str) -> AsyncIterator[list[bytes]]:
        """Yield all members of a namespace in parts; a few may come twice.

        A member that stays in the queue is never missed, even if others move concurrently.
        """
        for key in self._keys.due_shards(namespace):
            cursor = b"0"
            while True:
                scan = Command.read("ZSCAN", key, cursor, "COUNT", PAGE, key=key)
                cursor, found = await self._wire.call(scan)
                yield found[::2]
                if cursor == b"0":
                    break

    async def namespaces(self) -> list[str]:
        """Return the namespaces that ever held a session."""
        key = self._keys.namespaces
        names = await self._wire.call(Command.read("SMEMBERS", key, key=key))
        return sorted(name.decode() for name in names)


def _numbers(answers: Iterable[Any]) -> list[int]:
    """Return the counts, 0 for a key that holds another type of value."""
    return [0 if isinstance(answer, StoreFormatError) else answer for answer in answers]


def _end_score(header: SessionMetadata) -> int | str:
    return NEVER if header.expires_at is None else to_millis(header.expires_at)


def _count_due(key: bytes, at: datetime) -> Command:
    return Command.read("ZCOUNT", key, "-inf", to_millis(at), key=key)
