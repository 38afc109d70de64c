"""The due queue: which sessions a sweeper looks at next, how many there are, and all of them.

It holds every stored session under the time it is due, never-ending ones at infinity, in a fixed
number of sorted sets a namespace. So its size is the count, and a walk of the store needs no SCAN.
"""

from __future__ import annotations

import logging
import random
from datetime import timedelta
from typing import TYPE_CHECKING

from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models.query import Ended
from agent_cores.session.models.times import to_millis
from agent_cores.session.storage.base import Counts
from agent_cores.session.storage.redis_commands import APPLY, CLAIM, LEASE, SETTLE, Command
from agent_cores.session.storage.redis_indexes import NEVER
from agent_cores.session.storage.redis_keys import member_of, split_member
from agent_cores.session.storage.redis_records import Write, encode_msgpack, header_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from agent_cores.session.models.change import Change
    from agent_cores.session.storage.redis_keys import Keys
    from agent_cores.session.storage.redis_wire import Wire

_log = logging.getLogger(__name__)

PROBATION = timedelta(minutes=1)
"""What has no header may still be being created; after this long it is not."""
_COUNTED_TOGETHER = 512
"""So many shards are asked at a time how much is due: a sweep that finds enough asks no more."""


class DueQueue:
    """Sessions by the time they are due."""

    def __init__(self, keys: Keys, wire: Wire) -> None:
        self._keys = keys
        self._wire = wire

    async def take(self, at: datetime, limit: int, lease: timedelta) -> list[Ended]:
        """Take up to ``limit`` ended sessions for one lease; put off those that live on."""
        taken: list[Ended] = []
        shards = [
            (name, key) for name in await self.namespaces() for key in self._keys.due_shards(name)
        ]
        random.shuffle(shards)  # sweepers in other processes begin elsewhere
        for first in range(0, len(shards), _COUNTED_TOGETHER):
            some = shards[first : first + _COUNTED_TOGETHER]
            waiting = await self._wire.call_all(_count_due(key, at) for _, key in some)
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
        members = await self._wire.call(CLAIM.on((shard,), to_millis(at), limit, lease_end))
        names = [split_member(member) for member in members]
        answers = await self._wire.call_all(
            LEASE.on(
                (self._keys.session(namespace, session_id).header,),
                to_millis(at),
                lease_end,
                str(incarnation),
            )
            for session_id, incarnation in names
        )
        found = [
            session
            for names_and_values in zip(names, answers, strict=True)
            if (session := _session(namespace, *names_and_values)) is not None
        ]
        put_off: list[bytes | int | str] = []
        for header in (session.header for session in found):
            if header is not None and not header.is_expired(at):
                member = member_of(header.session_id, header.incarnation)
                later = NEVER if header.expires_at is None else to_millis(header.expires_at)
                put_off += [member, lease_end, lease_end, later]
        if put_off:
            await self._wire.call(SETTLE.on((shard,), *put_off))
        ended = [s for s in found if s.header is None or s.header.is_expired(at)]
        return ended, len(members)

    async def forget(self, change: Change) -> None:
        """Remove what is left of a session that Redis erased by itself before it was swept."""
        keys = self._keys.session(change.namespace, change.session_id)
        shard = self._keys.due(change.namespace, change.session_id)
        member = member_of(change.session_id, change.incarnation or 0)
        await self._wire.call(APPLY.on(keys, encode_msgpack(Write(erased=True))))
        await self._wire.call(Command.write("ZREM", shard, member, key=shard))

    def doubt(self, namespace: str, member: bytes, at: datetime) -> Command:
        """Return what has the sweeper look at an entry that would never be due otherwise."""
        session_id, _ = split_member(member)
        shard = self._keys.due(namespace, session_id)
        again_at = to_millis(at + PROBATION)
        return SETTLE.on((shard,), member, NEVER, NEVER, again_at)

    async def count(self, namespace: str | None, at: datetime) -> Counts:
        """Count sessions, and those past their due time."""
        namespaces = await self.namespaces() if namespace is None else [namespace]
        shards = [key for name in namespaces for key in self._keys.due_shards(name)]
        sizes = await self._wire.call_all(
            [Command.read("ZCARD", key, key=key) for key in shards]
            + [_count_due(key, at) for key in shards]
        )
        return Counts(sum(sizes[: len(shards)]), sum(sizes[len(shards) :]))

    async def members(self, namespace: str | None) -> AsyncIterator[tuple[str, list[bytes]]]:
        """Yield every session's name, shard by shard, with its namespace."""
        for name in await self.namespaces() if namespace is None else [namespace]:
            for key in self._keys.due_shards(name):
                yield name, await self._wire.call(Command.read("ZRANGE", key, 0, -1, key=key))

    async def namespaces(self) -> list[str]:
        """Return the namespaces that ever held a session."""
        key = self._keys.namespaces
        names = await self._wire.call(Command.read("SMEMBERS", key, key=key))
        return sorted(name.decode() for name in names)


def _session(
    namespace: str, name: tuple[str, int], values: list[bytes | None] | None
) -> Ended | None:
    """Return what came due; ``None`` for what cannot be read: it is due again after the lease."""
    session_id, incarnation = name
    try:
        header = header_of(namespace, session_id, values)
    except CorruptRecordError as error:
        _log.warning("not swept: %s", error)
        return None
    return Ended(namespace=namespace, session_id=session_id, incarnation=incarnation, header=header)


def _count_due(key: bytes, at: datetime) -> Command:
    return Command.read("ZCOUNT", key, "-inf", to_millis(at), key=key)
