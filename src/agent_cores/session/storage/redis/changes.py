"""How one change is carried out: in one round trip where possible, else look, decide, write.

``apply.lua`` guards every write with what was relied on. It says yes or "look again"; every "no"
is said by ``apply_change``.
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
from agent_cores.session.storage.redis.commands import APPLY, READ
from agent_cores.session.storage.redis.indexes import Entering
from agent_cores.session.storage.redis.records import Look, Seen, encode_msgpack
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
    from collections.abc import Coroutine
    from datetime import datetime

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.redis.background import Background
    from agent_cores.session.storage.redis.due import DueQueue
    from agent_cores.session.storage.redis.indexes import Indexes
    from agent_cores.session.storage.redis.keys import Keys, SessionKeys
    from agent_cores.session.storage.redis.wire import Wire

_BESIDE_SECONDS = 0.5
_LONGEST_WAIT = timedelta(minutes=10)
_LONGEST_PAUSE = 0.1
_ABSENT = State()


class Changes:
    """Carries changes out. ``timeout``: how long another process may be first, again and again."""

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

    async def look(self, namespace: str, session_id: str, look: Look) -> Seen:
        """Look at one session, in one round trip."""
        keys = self._keys.session(namespace, session_id)
        asked_at = time.monotonic()
        try:
            answer = await self._wire.call(READ.on(keys, encode_msgpack(look)))
        except StoreFormatError as error:
            raise CorruptRecordError(namespace, session_id, str(error)) from error
        seen = Seen.of(namespace, session_id, answer)
        if seen.time is not None:
            self._wire.note_time(keys.header, asked_at, seen.time)
        return seen

    async def append_hot(self, change: Change) -> Applied | None:
        """Append in one round trip, or return ``None`` if the session must be looked at first."""
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
                self._background.start_unless_slow(self._move_back(moving, change, hot.listed_at))
                raise
            if written is None:
                moving = self._background.start_unless_slow(
                    self._move_back(moving, change, hot.listed_at)
                )
            await self._background.shortly(moving)
        if written is None:
            return None
        if written.tags is not None and (
            hot.listed_at is None or not set(written.tags) <= set(basis.tags)
        ):  # the header seen before was behind, or short of tags
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
        """Begin to move a session up in its owner's lists. An append does not depend on it."""
        moved = self._indexes.moved(header, tags, at, ends)
        return self._background.start_unless_slow(self._wire.call(moved))

    async def _move_back(
        self, moving: asyncio.Task[bool] | None, change: Change, moved_to: datetime
    ) -> None:
        """Put a session that was moved up for an append that did not go through where it was."""
        if moving is None:
            return
        await asyncio.wait([moving])
        look = Look.at_session(context=False, window=None)
        header = (await self.look(change.namespace, change.session_id, look)).header
        if header is not None:
            await self._indexes.move_back(header, moved_to)

    async def carry_out(self, change: Change) -> Applied:
        """Look, decide, write, until no other process writes in between."""
        keys = self._keys.session(change.namespace, change.session_id)
        lock = self._locks.get(keys)
        if lock is None:
            lock = self._locks[keys] = asyncio.Lock()
        async with lock:
            if not time_left(self._timeout):
                detail = "the change waited for others until SESSION_TIMEOUT; nothing was written"
                raise StorageUnavailableError(detail)
            return await _Undertaking(self, change).carry_out(self._timeout)

    async def state(self, change: Change) -> State:
        """Return what ``apply_change`` needs of the stored session."""
        look = Look.before_change(change)
        return (await self.look(change.namespace, change.session_id, look)).state(change)

    async def write(self, change: Change, applied: Applied) -> Applied | None:
        """Write what was decided, or return ``None`` if what it relied on no longer stands."""
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

    async def enter(self, change: Change, applied: Applied) -> Entering:
        """Add the session to the lists where it will stand."""
        before = applied.before or applied.replaced
        is_new = change.create is not None and not change.overwrite
        entering = Entering(before, applied.header, is_new=is_new)
        await self._indexes.enter(entering)
        return entering

    async def settle(self, entering: Entering) -> None:
        """After the write: leave the session in no other list, and in each of those."""
        if entering.before is None and entering.is_safe:
            return
        await self._beside(self._settle(entering))

    async def _settle(self, entering: Entering) -> None:
        await asyncio.gather(self._indexes.leave(entering), self._indexes.affirm(entering))

    async def _beside(self, work: Coroutine[Any, Any, object]) -> None:
        """Do what belongs to a write that is done.

        In time of its own, so that it is not left half done; where a list is out of reach, it is
        waited for only half a second.
        """
        await self._background.succeeds(self._background.start(work), _BESIDE_SECONDS)

    async def withdraw(self, entering: Entering, stands: SessionMetadata | None) -> None:
        """Take back what was added for a change that in the end wrote nothing."""
        await self._beside(self._withdraw(entering, stands))

    async def _withdraw(self, entering: Entering, stands: SessionMetadata | None) -> None:
        await self._indexes.withdraw(entering, stands)
        if stands is None and entering.token is not None:
            await self._restore_if_saved(entering.after)

    async def leave_all(self, header: SessionMetadata) -> None:
        """Remove a session that was deleted from all lists."""
        await self._beside(self._leave_all(header))

    async def forget(self, change: Change) -> None:
        """Remove what is left of a session that is gone already."""
        await self._beside(self._due.forget(change))

    async def _leave_all(self, header: SessionMetadata) -> None:
        await self._indexes.leave_all(header)
        await self._restore_if_saved(header)

    async def _restore_if_saved(self, gone: SessionMetadata) -> None:
        """Add the entries again of a session that was saved anew while they were removed."""
        if not await self._indexes.stands(gone):
            return
        look = Look.at_session(context=False, window=None)
        header = (await self.look(gone.namespace, gone.session_id, look)).header
        if header is not None:
            await self._indexes.restore(header)

    async def _write(self, change: Change, keys: SessionKeys, write: Write) -> Written | None:
        try:
            answer = await self._wire.call(APPLY.on(keys, encode_msgpack(write)))
        except StoreFormatError as error:
            problem = str(error)
            raise CorruptRecordError(change.namespace, change.session_id, problem) from error
        return None if answer is None else Written.of(answer)


class _Undertaking:
    """One change on the long road, with what its attempts have left in the lists."""

    def __init__(self, changes: Changes, change: Change) -> None:
        self._changes = changes
        self._change = change
        self._entered: list[Entering] = []

    async def carry_out(self, timeout: float) -> Applied:  # noqa: ASYNC109 - of all attempts together
        deadline = time.monotonic() + time_left(timeout)
        backoff = Backoff(first=0.002, longest=_LONGEST_PAUSE)
        applied = await self._attempt(self._likely_state())
        while applied is None:
            if time.monotonic() >= deadline:  # what stands is not known, so nothing is withdrawn
                raise StaleHeaderError
            applied = await self._attempt(None)
            if applied is None:
                await backoff.pause()
        return applied

    def _likely_state(self) -> State | None:
        """A session to be created is not there, most likely: the first attempt need not look."""
        is_new = self._change.create is not None and not self._change.overwrite
        return _ABSENT if is_new else None

    async def _attempt(self, state: State | None) -> Applied | None:
        """Decide and write once; ``None``: look again."""
        change = self._change
        try:
            if state is None:
                state = await self._changes.state(change)
            change = change.as_of(change.applied_at())
            applied = apply_change(state, change)
        except SessionError:
            if state is _ABSENT:
                return None  # guessed, and a guess may not say no
            if state is not None:  # else it is not known what stands, and so what is right
                await self._tidy(state)
            raise
        if applied.replayed or not applied.writes:
            await self._tidy(state)
            return applied
        if applied.deleted:
            written = await self._changes.write(change, applied)
            if written is not None:
                await self._changes.leave_all(applied.header)
            return written
        entering = await self._changes.enter(change, applied)
        self._entered.append(entering)
        written = await self._changes.write(change, applied)
        if written is not None:
            await self._changes.settle(entering)
            for earlier in self._entered[:-1]:  # what other attempts would have made of it
                await self._changes.withdraw(earlier, written.header)
        return written

    async def _tidy(self, state: State) -> None:
        """After a refusal or a replay, leave nothing in the lists that is not as it stands."""
        stands, change = state.header, self._change
        for entering in self._entered:
            await self._changes.withdraw(entering, stands)
        if not (change.delete and change.must_be_expired):
            return
        if stands is None or stands.incarnation != change.incarnation:
            await self._changes.forget(change)


def _may_be_late(change: Change, basis: SessionMetadata) -> bool:
    """Whether the write could still be waiting when the session or the caller's grant ends.

    To judge that costs the server a twelfth of an append, and no write waits for ten minutes.
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
