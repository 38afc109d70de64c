"""Repairing the lists of one user: what they lost is found by a walk through every session.

Lists lie in other slots than the sessions, so a failover may take an entry and leave the session.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.storage.redis.keys import split_member

if TYPE_CHECKING:
    from agent_cores.session.storage.redis.due import DueQueue
    from agent_cores.session.storage.redis.headers import Headers
    from agent_cores.session.storage.redis.indexes import Indexes


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
        await asyncio.gather(*map(indexes.restore, theirs))
