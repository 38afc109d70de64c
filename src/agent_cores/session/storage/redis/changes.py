"""``Changes``: applies one change, in one round trip where possible; else read, decide, write.

``apply.lua`` guards every write with what the decision relied on. It writes, or replies "read
again"; only ``apply_change`` refuses a change.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from agent_cores.session.backoff import Backoff
from agent_cores.session.deadline import time_left
from agent_cores.session.errors import (
    CorruptRecordError,
    SessionError,
    StaleHeaderError,
    StorageUnavailableError,
    StoreFormatError,
)
from agent_cores.session.models.change import Applied, Change, State, apply_change, hot_append
from agent_cores.session.models.read_before import state_read_before
from agent_cores.session.storage.redis.commands import APPLY, READ
from agent_cores.session.storage.redis.indexes import IndexUpdate
from agent_cores.session.storage.redis.records import ReadRequest, StoredSession, encode_msgpack
from agent_cores.session.storage.redis.writes import (
    Write,
    Written,
    applied_as_written,
    change_write,
    create_write,
    delete_write,
    hot_applied,
    hot_write,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from datetime import datetime

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.redis.background import Background
    from agent_cores.session.storage.redis.commands import Script
    from agent_cores.session.storage.redis.due import DueQueue
    from agent_cores.session.storage.redis.indexes import Indexes
    from agent_cores.session.storage.redis.keys import Keys, SessionKeys
    from agent_cores.session.storage.redis.wire import Wire

_INDEX_SECONDS = 0.5
"""Seconds that a completed write waits for its index entries to be corrected."""
_LONGEST_WAIT = timedelta(minutes=10)
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.1
_HEADER_ONLY = ReadRequest()
_UPDATED = b"updated"
"""The reply of a script that needs the key of updated messages."""
_MOST_REMEMBERED = 4_096


class Changes:
    """Applies changes; retries for at most ``timeout`` seconds while others keep writing first."""

    def __init__(
        self,
        keys: Keys,
        wire: Wire,
        indexes: Indexes,
        due: DueQueue,
        background: Background,
        *,
        timeout: float,
    ) -> None:
        self._keys = keys
        self._wire = wire
        self._indexes = indexes
        self._due = due
        self._background = background
        self._timeout = timeout
        self._locks: WeakValueDictionary[SessionKeys, asyncio.Lock] = WeakValueDictionary()
        self._with_updates: set[SessionKeys] = set()

    async def read(
        self, namespace: str, session_id: str, request: ReadRequest, *, every_key: bool = False
    ) -> StoredSession:
        """Read one session, in one round trip: two if it turns out to have updated messages."""
        keys = self._keys.session(namespace, session_id)
        asked_at = time.monotonic()
        try:
            answer = await self._run(READ, keys, encode_msgpack(request), every_key=every_key)
        except StoreFormatError as error:
            raise CorruptRecordError(namespace, session_id, str(error)) from error
        stored = StoredSession.of(namespace, session_id, answer)
        if stored.time is not None:
            self._wire.note_time(keys.header, asked_at, stored.time)
        return stored

    async def read_several(
        self, names: Sequence[tuple[str, str]], request: ReadRequest
    ) -> list[StoredSession | CorruptRecordError]:
        """Read sessions as one group: in two if some turn out to have updated messages."""
        keys = [self._keys.session(*name) for name in names]
        packed = encode_msgpack(request)
        answers = await self._wire.call_each(
            READ.on(each.every if each in self._with_updates else each.usual, packed)
            for each in keys
        )
        updated = [n for n, answer in enumerate(answers) if answer == _UPDATED]
        again = await self._wire.call_each(READ.on(keys[n].every, packed) for n in updated)
        for n, answer in zip(updated, again, strict=True):
            self._remember_updates(keys[n])
            answers[n] = answer
        return [
            _stored_or_error(*name, answer) for name, answer in zip(names, answers, strict=True)
        ]

    async def append_hot(self, change: Change) -> Applied | None:
        """Append in one round trip; ``None`` if the session must be read first."""
        change = change.as_of(change.applied_at())
        hot, basis = hot_append(change), change.basis
        if hot is None or basis is None or not _is_decided_on(change, basis):
            return None
        keys = self._keys.session(change.namespace, change.session_id)
        sent = self._wire.server_time(keys.header) if _may_be_late(change, basis) else None
        write = hot_write(change, basis, hot, sent)
        if hot.listed_at is None:
            written = await self._write(change, keys, write)
        else:
            moving = self._move(basis, basis.tags, hot.listed_at, hot.expires_at)
            try:
                written = await self._write(change, keys, write)
            except BaseException:  # a cancellation too
                self._background.start_unless_slow(self._undo_move(moving, change, hot.listed_at))
                raise
            if written is None:
                moving = self._background.start_unless_slow(
                    self._undo_move(moving, change, hot.listed_at)
                )
            await self._background.shortly(moving)
        if written is None:
            return None
        if written.tags is not None and (
            hot.listed_at is None or not set(written.tags) <= set(basis.tags)
        ):  # the cached header was stale, or lacked tags
            ends = written.expires_at
            await self._background.shortly(self._move(basis, written.tags, written.listed_at, ends))
        return hot_applied(change, basis, written)

    def _move(
        self,
        header: SessionMetadata,
        tags: tuple[str, ...],
        at: datetime,
        ends: datetime | None,
    ) -> asyncio.Task[bool] | None:
        """Start moving a session up in its owner's lists. An append does not depend on it."""
        move = self._indexes.move(header, tags, at, ends)
        return self._background.start_unless_slow(self._wire.call(move))

    async def _undo_move(
        self, moving: asyncio.Task[bool] | None, change: Change, moved_to: datetime
    ) -> None:
        """Restore a session's position after an append that was not written."""
        if moving is None:
            return
        await asyncio.wait([moving])
        header = (await self.read(change.namespace, change.session_id, _HEADER_ONLY)).header
        if header is not None:
            await self._indexes.undo_move(header, moved_to)

    async def apply(self, change: Change, added: IndexUpdate | None = None) -> Applied:
        """Read, decide and write, until no other process writes in between.

        ``added`` are index entries that a fast path left for this change.
        """
        keys = self._keys.session(change.namespace, change.session_id)
        lock = self._locks.get(keys)
        if lock is None:
            lock = self._locks[keys] = asyncio.Lock()
        async with lock:
            if not time_left(self._timeout):
                detail = "the change waited for others until SESSION_TIMEOUT; nothing was written"
                raise StorageUnavailableError(detail)
            return await _SlowPath(self, change, added).apply(self._timeout)

    async def state(self, change: Change) -> State:
        """Return what ``apply_change`` needs of the stored session."""
        request = ReadRequest.before_change(change)
        every_key = change.create is not None or change.must_be_expired
        names = change.namespace, change.session_id
        return (await self.read(*names, request, every_key=every_key)).state(change)

    async def write(self, change: Change, applied: Applied) -> Applied | None:
        """Write what was decided; ``None`` if what it relied on no longer holds."""
        keys = self._keys.session(change.namespace, change.session_id)
        sent = self._wire.server_time(keys.header)
        if applied.deleted:
            write = delete_write(applied.header, change, sent)
        elif applied.before is None:
            write = create_write(applied)
        else:
            write = change_write(applied.before, applied, change, sent)
        written = await self._write(change, keys, write)
        if written is None:
            return None
        if applied.deleted or applied.before is None:
            return applied
        return applied_as_written(applied, written)

    async def _write(self, change: Change, keys: SessionKeys, write: Write) -> Written | None:
        try:
            every_key = write.create or write.update is not None
            answer = await self._run(APPLY, keys, encode_msgpack(write), every_key=every_key)
        except StoreFormatError as error:
            problem = str(error)
            raise CorruptRecordError(change.namespace, change.session_id, problem) from error
        return None if answer is None else Written.of(answer)

    async def _run(
        self, script: Script, keys: SessionKeys, argument: bytes, *, every_key: bool
    ) -> Any:  # noqa: ANN401 - whatever the server replies
        """Run a script, with the key of updated messages only where it is needed."""
        if not every_key and keys not in self._with_updates:
            answer = await self._wire.call(script.on(keys.usual, argument))
            if answer != _UPDATED:
                return answer
            self._remember_updates(keys)
        return await self._wire.call(script.on(keys.every, argument))

    def _remember_updates(self, keys: SessionKeys) -> None:
        if len(self._with_updates) >= _MOST_REMEMBERED:
            self._with_updates.clear()
        self._with_updates.add(keys)

    async def add_entries(self, change: Change, applied: Applied) -> IndexUpdate:
        """Before a write: add the index entries that the session will have."""
        before = applied.before or applied.replaced
        is_new = change.create is not None and not change.overwrite
        update = IndexUpdate(before, applied.header, is_new=is_new)
        await self._indexes.add(update)
        return update

    async def finish_entries(self, update: IndexUpdate) -> None:
        """After a write: remove the index entries that it made stale, and repair the others."""
        if update.before is None and update.is_safe:
            return
        await self._correct(self._indexes.finish(update))

    async def undo_entries(self, update: IndexUpdate, stored: SessionMetadata | None) -> None:
        """Undo the index entries that were added for a change that wrote nothing."""
        await self._correct(self._undo_entries(update, stored))

    async def _undo_entries(self, update: IndexUpdate, stored: SessionMetadata | None) -> None:
        await self._indexes.undo(update, stored)
        if stored is None and update.token is not None:
            await self._repair_if_saved(update.after)

    async def remove_entries(self, header: SessionMetadata) -> None:
        """After a delete: remove all index entries of the session."""
        await self._correct(self._remove_entries(header))

    async def _remove_entries(self, header: SessionMetadata) -> None:
        await self._indexes.remove(header)
        await self._repair_if_saved(header)

    async def _repair_if_saved(self, gone: SessionMetadata) -> None:
        """Restore the entries if the session was saved again while they were being removed."""
        if not await self._indexes.is_stored(gone):
            return
        header = (await self.read(gone.namespace, gone.session_id, _HEADER_ONLY)).header
        if header is not None:
            await self._indexes.repair(header)

    async def forget(self, change: Change) -> None:
        """Remove what is left of a session that no longer exists."""
        await self._correct(self._due.forget(change))

    async def _correct(self, work: Coroutine[Any, Any, object]) -> None:
        """Correct index entries after a write.

        The work has its own timeout, so that it is not left half done. The caller waits only half a
        second for it, in case a list cannot be reached.
        """
        await self._background.succeeds(self._background.start(work), _INDEX_SECONDS)


class _SlowPath:
    """One change that is read, decided and written, and the index entries of its attempts."""

    def __init__(self, changes: Changes, change: Change, added: IndexUpdate | None) -> None:
        self._changes = changes
        self._change = change
        self._added = [] if added is None else [added]

    async def apply(self, timeout: float) -> Applied:  # noqa: ASYNC109 - of all attempts together
        deadline = time.monotonic() + time_left(timeout)
        backoff = Backoff(until=deadline, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
        given = state_read_before(self._change)
        if given is not None:
            applied = await self._attempt(given)
            if applied is not None:
                return applied
        while True:
            applied = await self._attempt()
            if applied is not None:
                return applied
            if not await backoff.pause():  # what is stored is unknown, so nothing is undone
                raise StaleHeaderError

    async def _attempt(self, given: State | None = None) -> Applied | None:
        """Read, decide and write once; ``None`` if another write came first.

        A ``given`` state was read earlier. It may approve the change, never refuse it.
        """
        change, state = self._change, given
        try:
            state = given or await self._changes.state(change)
            change = change.as_of(change.applied_at())
            applied = apply_change(state, change)
        except SessionError:
            if given is not None:
                return None
            if state is not None:
                await self._undo_all(state)
            raise
        if applied.replayed or not applied.writes:
            if given is not None:
                return None
            await self._undo_all(state)
            return applied
        if applied.deleted:
            written = await self._changes.write(change, applied)
            if written is not None:
                await self._changes.remove_entries(applied.header)
            return written
        update = await self._changes.add_entries(change, applied)
        self._added.append(update)
        written = await self._changes.write(change, applied)
        if written is not None:
            await self._changes.finish_entries(update)
            for earlier in self._added[:-1]:
                await self._changes.undo_entries(earlier, written.header)
        return written

    async def _undo_all(self, state: State) -> None:
        """After a refusal or a replay, undo what the attempts added to the indexes."""
        stored, change = state.header, self._change
        for update in self._added:
            await self._changes.undo_entries(update, stored)
        if not (change.delete and change.must_be_expired):
            return
        if stored is None or stored.incarnation != change.incarnation:
            await self._changes.forget(change)


def _may_be_late(change: Change, basis: SessionMetadata) -> bool:
    """Whether the session or the caller's grant could end while the write waits.

    Only then does the server check it, which costs a twelfth of an append. No write waits for ten
    minutes.
    """
    ends, until = basis.expires_at, change.valid_until
    horizon = change.at + _LONGEST_WAIT
    return (ends is not None and ends < horizon) or (until is not None and until < horizon)


def _is_decided_on(change: Change, basis: SessionMetadata) -> bool:
    """Whether a change names the cached header's guards, or none, and numbers nothing itself."""
    return (
        change.incarnation in {None, basis.incarnation}
        and change.access_revision in {None, basis.access_revision}
        and not any([message.seq for message in change.append])  # noqa: C419 - a list is faster
    )


def _stored_or_error(
    namespace: str,
    session_id: str,
    answer: Any,  # noqa: ANN401 - whatever the server replies
) -> StoredSession | CorruptRecordError:
    """Return the session in a reply of ``call_each``, or that it cannot be read."""
    if isinstance(answer, StoreFormatError):
        return CorruptRecordError(namespace, session_id, str(answer))
    try:
        return StoredSession.of(namespace, session_id, answer)
    except CorruptRecordError as error:
        return error
