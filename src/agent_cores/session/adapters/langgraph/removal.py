"""``Removal``: checkpoints out of a thread, with what only they refer to.

First a message in the log announces it, so that no put goes on from what it knew before. Then the
checkpoints go, the latest first, unless something was put since: then it is decided again. Last go
the values that they named and that no checkpoint names, pending or not, as the log says after the
data was read, and unless the data has changed since. Whoever restores values changes the data. What
a removal that is cut off in between leaves behind goes with the thread.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_cores.session.adapters.langgraph.log import REMOVAL
from agent_cores.session.adapters.layouts.langgraph import (
    EMPTY,
    PAGE,
    Record,
    carried_in,
    is_checkpoint,
    record_of,
    value_id,
)
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import ConflictError, SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from agent_cores.session.adapters.langgraph.thread import Thread
    from agent_cores.session.backoff import Backoff
    from agent_cores.session.models.message import Message


class Entry(NamedTuple):
    """A checkpoint with what decides about it.

    ``deltas`` are the channels whose values are made of writes since an earlier checkpoint,
    ``carried`` those whose values are in its message. ``root_id`` is the checkpoint of the whole
    graph from which the call of a subgraph started.
    """

    record: Record
    versions: dict[str, str]
    deltas: frozenset[str]
    carried: frozenset[str]
    run_id: str | None
    root_id: str | None

    @property
    def names(self) -> Iterable[str]:
        """The ids of the values of its channels."""
        namespace = self.record.namespace
        return (value_id(namespace, *version) for version in self.versions.items())


class Removal:
    """One removal from one thread: ``choose`` says which of its checkpoints are to go."""

    def __init__(
        self,
        thread: Thread,
        describe: Callable[[Record], Awaitable[Entry | None]],
        choose: Callable[[Sequence[Entry]], Iterable[Entry]],
    ) -> None:
        self._log, self._data = thread.log, thread.data
        self._describe, self._choose = describe, choose
        self._entries: dict[str, Entry] = {}
        self._pending: dict[str, Entry] = {}
        self._stale: set[str] = set()
        self._announced: list[str] = []
        self._log_seq = 0
        self._owned: dict[str, set[str]] = {}
        self._filled: set[str] = set()
        self._data_seq = 0
        self._gone: list[Entry] = []

    async def run(self) -> None:
        """Remove them. ``ConflictError`` if others keep changing the thread."""
        pauses = backoff()
        try:
            while await self._remove_checkpoints(pauses):
                pass
            if self._announced:
                await self._log.delete(self._announced)
            while await self._remove_data(pauses):
                pass
        except SessionNotFoundError:
            return

    async def _remove_checkpoints(self, pauses: Backoff) -> bool:
        """Remove the checkpoints; return whether that is to be tried again."""
        await self._read_log()
        if not list(self._choose(list(self._entries.values()))):
            return False
        await self._read_data()
        going = self._going()
        if not going:
            return False
        announcement = {"id": secrets.token_hex(12), "role": REMOVAL, "content": {}}
        try:
            [stored] = await self._log.add([announcement], expected_last_seq=self._log_seq)
            self._log_seq = stored.seq
            self._announced.append(stored.id)
            ids = [*(each.record.id for each in going), *self._stale, *self._announced]
            for first in range(0, len(ids), PAGE):
                part = ids[first : first + PAGE]
                await self._log.delete(part, expected_last_seq=stored.seq)
                self._gone += [self._entries.pop(each) for each in part if each in self._entries]
            self._announced.clear()
        except ConflictError:
            if not await pauses.pause():
                raise
            return True
        return False

    async def _remove_data(self, pauses: Backoff) -> bool:
        """Remove what nothing refers to any more; return whether that is to be tried again."""
        await self._read_data()
        await self._read_log()
        held = [*self._entries.values(), *self._pending.values()]
        kept = {name for each in held for name in (each.record.id, *each.names)}
        dead = {name for each in self._gone for name in (each.record.id, *each.names)} - kept
        try:
            for part in _together(self._owned.get(of, set()) for of in dead):
                await self._data.delete(part, expected_last_seq=self._data_seq)
        except ConflictError:
            if not await pauses.pause():
                raise
            return True
        return False

    def _going(self) -> list[Entry]:
        """Return the checkpoints to remove, the latest first: without those that others need."""
        chosen = {each.record.id for each in self._choose(list(self._entries.values()))}
        held = [each for name, each in self._entries.items() if name not in chosen]
        for each in (*held, *self._pending.values()):
            chosen -= self._needed_by(each)
        going = [self._entries[name] for name in chosen]
        return sorted(going, key=lambda each: each.record.seq, reverse=True)

    def _needed_by(self, entry: Entry) -> set[str]:
        """Return the ancestors of which values of a checkpoint are made: back to a stored value."""
        needed: set[str] = set()
        missing = (entry.deltas & entry.versions.keys()) - self._stored_in(entry)
        while missing and (parent := self._entries.get(entry.record.parent or "")) is not None:
            if parent.record.id in needed:
                break
            needed.add(parent.record.id)
            missing -= self._stored_in(parent)
            entry = parent
        return needed

    def _stored_in(self, entry: Entry) -> set[str]:
        """Return the channels that have a value of their own in a checkpoint."""
        namespace = entry.record.namespace
        return {
            channel
            for channel, version in entry.versions.items()
            if channel in entry.carried or value_id(namespace, channel, version) in self._filled
        }

    async def _read_log(self) -> None:
        """Read what was added to the log since it was read last."""
        async for page, last_seq in self._log.after(self._log_seq):
            self._log_seq = last_seq
            for message in page:
                await self._read_entry(message)

    async def _read_entry(self, message: Message) -> None:
        if message.role == REMOVAL:
            self._stale.add(message.id)
        if not is_checkpoint(message, pending=True):
            return
        entry = await self._describe(record_of(message))
        if entry is None:
            return
        if is_checkpoint(message):
            self._entries[message.id] = entry
        else:
            self._pending[message.id] = entry

    async def _read_data(self) -> None:
        """Read what was added to the data since it was read last: whose it is, and if empty."""
        async for page, last_seq in self._data.after(self._data_seq):
            self._data_seq = last_seq
            for message in page:
                content: Any = message.content
                self._owned.setdefault(content["of"], set()).add(message.id)
                if message.role == "value" and content["type"] != EMPTY:
                    self._filled.add(message.id)


def _together(groups: Iterable[set[str]]) -> Iterator[list[str]]:
    """Yield ids in parts that one call can delete each.

    A group is in one part, unless it is larger than that: whoever reads a checkpoint finds all its
    pending writes, or none.
    """
    part: list[str] = []
    for group in groups:
        if part and len(part) + len(group) > PAGE:
            yield part
            part = []
        part += group
        while len(part) > PAGE:
            yield part[:PAGE]
            part = part[PAGE:]
    if part:
        yield part


def entry_of(record: Record, versions: dict[str, Any], metadata: dict[str, Any]) -> Entry:
    """Return an entry for a checkpoint, from its versions and metadata."""
    carried = carried_in(record.checkpoint).items()
    return Entry(
        record._replace(checkpoint=None, metadata=None),
        {channel: str(version) for channel, version in versions.items()},
        frozenset(metadata.get("counters_since_delta_snapshot") or ()),
        frozenset(channel for (channel, _), (kind, _) in carried if kind != EMPTY),
        metadata.get("run_id"),
        (metadata.get("parents") or {}).get(""),
    )


def earlier(entries: Sequence[Entry]) -> list[Entry]:
    """Return the checkpoints that are not the latest of their namespaces.

    Those of the call of a subgraph go with the checkpoint from which it started: the namespace of a
    call ends with its task, after a colon. As long as that is not stored, the call may be running.
    """
    latest: dict[str, str] = {}
    for each in entries:
        namespace, checkpoint_id = each.record.namespace, each.record.checkpoint_id
        latest[namespace] = max(latest.get(namespace, ""), checkpoint_id)
    roots = {each.record.checkpoint_id for each in entries if not each.record.namespace}
    over = roots - {latest.get("", "")}
    return [
        each
        for each in entries
        if each.record.checkpoint_id < latest[each.record.namespace]
        or (":" in each.record.namespace and each.root_id in over)
    ]
