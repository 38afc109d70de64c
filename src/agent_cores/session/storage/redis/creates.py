"""``Creates``: new sessions, those of many callers in one batch.

The fast path of a create assumes that its session does not exist. A batch takes two flights: the
index entries of all its sessions, then the sessions themselves. The second begins once the first
has its replies, so an index may hold stale entries but never misses a live session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.errors import CorruptRecordError, SessionError, StoreFormatError
from agent_cores.session.models.change import Applied, Change, State, apply_change
from agent_cores.session.storage.batching import Coalescer
from agent_cores.session.storage.redis.commands import APPLY, Command
from agent_cores.session.storage.redis.connection import ALONE_BYTES
from agent_cores.session.storage.redis.indexes import IndexUpdate, NewEntries, additions
from agent_cores.session.storage.redis.records import encode_msgpack
from agent_cores.session.storage.redis.writes import create_write

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Sequence

    from agent_cores.session.storage.abandoned import Abandoned
    from agent_cores.session.storage.redis.background import Background
    from agent_cores.session.storage.redis.indexes import Indexes
    from agent_cores.session.storage.redis.keys import Keys
    from agent_cores.session.storage.redis.wire import Wire

    Outcome = Applied | IndexUpdate | Exception

_FINISH_SECONDS = 0.5
_LANES = 4
"""While a batch waits for its first or second flight, the client works on another."""
_ABSENT = State()


class New(msgspec.Struct, frozen=True, gc=False):
    """A session to be created: its index update, the entries to add, and the write."""

    applied: Applied
    update: IndexUpdate
    entries: list[NewEntries]
    write: Command


class Creates:
    """Creates sessions that most likely do not exist yet."""

    def __init__(
        self,
        keys: Keys,
        wire: Wire,
        indexes: Indexes,
        background: Background,
        abandoned: Abandoned[bytes],
        *,
        max_queued: int,
    ) -> None:
        self._keys = keys
        self._wire = wire
        self._indexes = indexes
        self._background = background
        self._abandoned = abandoned
        self._queue: Coalescer[New, Applied | IndexUpdate] = Coalescer(
            self._create, lanes=_LANES, max_queued=max_queued, on_abandoned=self._abandon
        )

    def open(self) -> None:
        """Accept creates, after ``drain`` too."""
        self._queue.reopen()

    async def drain(self) -> None:
        """Accept no more, and return once all accepted creates are done."""
        await self._queue.drain()

    async def create(self, change: Change) -> Applied | IndexUpdate | None:
        """Create a session with the next batch.

        Return ``None``, with nothing written, for a change that is not a plain create or is large.
        If the session exists, return the index update, which the slow path undoes.
        """
        new = self._prepared(change)
        return None if new is None else await self._queue.submit(new, len(new.write.packed))

    def _abandon(self, new: New, outcome: asyncio.Future[Applied | IndexUpdate]) -> None:
        header = new.applied.header
        keys = self._keys.session(header.namespace, header.session_id)
        self._abandoned.add(keys.header, outcome)

    def _prepared(self, change: Change) -> New | None:
        if change.create is None or change.overwrite:
            return None
        try:
            applied = apply_change(_ABSENT, change.as_of(change.applied_at()))
        except SessionError:  # only the slow path, which reads what is stored, may refuse
            return None
        keys = self._keys.session(change.namespace, change.session_id)
        write = APPLY.on(keys.every, encode_msgpack(create_write(applied)))
        if len(write.packed) >= ALONE_BYTES:
            return None
        update = IndexUpdate(None, applied.header, is_new=True)
        return New(applied, update, self._indexes.new_entries(applied.header), write)

    async def _create(self, batch: Sequence[New]) -> list[Outcome]:
        failures = await self._add_entries(batch)
        listed = [new for new, failure in zip(batch, failures, strict=True) if failure is None]
        written = iter(await self._write(listed))
        outcomes = [failure or next(written) for failure in failures]
        unsafe = [
            new
            for new, outcome in zip(batch, outcomes, strict=True)
            if outcome is new.applied and not new.update.is_safe
        ]
        if unsafe:  # a reader that came before the write may have removed their entries as stale
            _, _, commands = self._entries(unsafe, "NX")
            finishing = self._background.start(self._wire.call_all(commands))
            await self._background.succeeds(finishing, _FINISH_SECONDS)
        return outcomes

    async def _add_entries(self, batch: Sequence[New]) -> list[SessionError | None]:
        """Add the index entries of a batch; return each session's error, or ``None``."""
        listed_in, placed, commands = self._entries(batch, "GT")
        names = {new.applied.header.namespace for new in batch}
        commands.append(self._indexes.new_namespaces(names))
        replies = iter(await self._wire.try_all(commands))
        listed = {key: next(replies) for key in listed_in}
        queued = {shard: next(replies) for shard in dict.fromkeys(placed)}
        named = next(replies)
        failures: list[SessionError | None] = []
        for new, shard in zip(batch, placed, strict=True):
            answers = [listed[entry.lists] for entry in new.entries]
            new.update.note(answers)
            failures.append(_first_error([*answers, queued[shard], named]))
        return failures

    def _entries(
        self, batch: Sequence[New], direction: str
    ) -> tuple[Iterable[tuple[bytes, ...]], list[bytes], list[Command]]:
        """Return the lists of a batch, each session's shard of the due queue, and the commands.

        There is a command for each of the lists, then one for each shard.
        """
        lists: dict[tuple[bytes, ...], list[NewEntries]] = {}
        shards: dict[bytes, list[bytes | str]] = {}
        placed: list[bytes] = []
        for new in batch:
            for entry in new.entries:
                lists.setdefault(entry.lists, []).append(entry)
            shard, score, member = self._indexes.new_due(new.applied.header)
            shards.setdefault(shard, []).extend((score, member))
            placed.append(shard)
        commands = [additions(entries) for entries in lists.values()]
        for shard, members in shards.items():
            commands.append(Command.write("ZADD", shard, direction, *members, key=shard))
        return lists, placed, commands

    async def _write(self, batch: Sequence[New]) -> list[Outcome]:
        """Write the sessions. For one that already exists, return its index update instead."""
        answers = await self._wire.try_all(new.write for new in batch)
        return [_outcome(new, answer) for new, answer in zip(batch, answers, strict=True)]


def _outcome(new: New, answer: Any) -> Outcome:  # noqa: ANN401 - whatever the server replies
    if isinstance(answer, StoreFormatError):
        header = new.applied.header
        error = CorruptRecordError(header.namespace, header.session_id, str(answer))
        error.__cause__ = answer
        return error
    if isinstance(answer, Exception):
        return answer
    return new.update if answer is None else new.applied


def _first_error(answers: Sequence[object]) -> SessionError | None:
    return next((answer for answer in answers if isinstance(answer, SessionError)), None)
