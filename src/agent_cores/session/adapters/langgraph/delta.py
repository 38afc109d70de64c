"""The history of delta channels: writes since the nearest earlier checkpoint with a value.

LangGraph's base class reads one checkpoint after the other; this reads many at a time.
"""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, NamedTuple

from agent_cores.session.adapters.langgraph.data import MissingPieceError, Wanted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from agent_cores.session.adapters.langgraph.log import Log
    from agent_cores.session.adapters.langgraph.thread import Thread
    from agent_cores.session.adapters.layouts.langgraph import Record, Version, Write
    from agent_cores.session.adapters.pieces import Typed

_FEWEST, _MOST = 8, 64


class History(NamedTuple):
    """The writes of one channel, the oldest first, after the value at their beginning, if any."""

    writes: list[Write]
    seed: Typed | None


async def delta_history(
    thread: Thread,
    record: Record,
    channels: Sequence[str],
    versions_of: Callable[[Record], Awaitable[Sequence[Version] | None]],
) -> dict[str, History]:
    """Return the history of each channel before a checkpoint.

    ``CorruptRecordError`` if pieces of it are missing.
    """
    for _ in range(2):  # the log no longer has an earlier checkpoint that is being removed
        with suppress(MissingPieceError):
            return await _read(thread, record, channels, versions_of)
    await thread.check_removed(record)
    return {channel: History([], None) for channel in channels}


async def _read(
    thread: Thread,
    record: Record,
    channels: Sequence[str],
    versions_of: Callable[[Record], Awaitable[Sequence[Version] | None]],
) -> dict[str, History]:
    writes: dict[str, list[Write]] = {channel: [] for channel in channels}
    seeds: dict[str, Typed] = {}
    async with aclosing(_ancestors(thread.log, record)) as groups:
        async for ancestors in groups:
            wanted: list[Wanted] = []
            for ancestor in ancestors:
                versions = [
                    version
                    for version in await versions_of(ancestor) or ()
                    if version[0] in writes and version[0] not in seeds
                ]
                wanted.append(Wanted(ancestor, versions))
            for found in await thread.data.read(wanted):
                for write in reversed(found.writes):
                    if write.channel in writes and write.channel not in seeds:
                        writes[write.channel].append(write)
                seeds = {**found.values, **seeds}
            if len(seeds) == len(writes):
                break
    return {channel: History(found[::-1], seeds.get(channel)) for channel, found in writes.items()}


async def _ancestors(log: Log, record: Record) -> AsyncGenerator[list[Record]]:
    """Yield the ancestors of a checkpoint, the nearest first, more at a time the further back."""
    group: list[Record] = []
    most, parent_id, passed = _FEWEST, record.parent_id, {record.checkpoint_id}
    earlier = log.records(record.namespace, few=True, before_seq=record.seq)
    async with aclosing(earlier) as records:
        async for each in records:
            if parent_id is None or each.checkpoint_id < parent_id:  # it is not where it belongs
                break
            if each.checkpoint_id == parent_id:
                group.append(each)
                passed.add(each.checkpoint_id)
                parent_id = each.parent_id
            if len(group) >= most:
                yield group
                group, most = [], min(most * 2, _MOST)
    while parent_id is not None and parent_id not in passed:  # a put may make them a circle
        passed.add(parent_id)
        found = await log.record(record.namespace, parent_id)
        if found is not None:
            group.append(found)
        parent_id = None if found is None else found.parent_id
    if group:
        yield group
