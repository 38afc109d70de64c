"""``Thread``: one thread of LangGraph: its checkpoints in a log, what they refer to in data.

A checkpoint is put after its new values. The other values that it names are its parent's, so they
are there as long as the parent is. The log says whether it is: whoever removes checkpoints first
adds a message to it, and a put expects the last seq that it knew. A put that finds its parent
removed, a removal under way, or others who are faster, first announces its checkpoint, as pending:
a removal never removes what one names, pending or not (see ``removal``). Then it restores
the values that the parent has not kept, and shows the checkpoint.
"""

from __future__ import annotations

import secrets
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from agent_cores.session.adapters.ids import id_of_parts
from agent_cores.session.adapters.langgraph.data import Data, MissingPieceError
from agent_cores.session.adapters.langgraph.log import Log
from agent_cores.session.adapters.layouts.langgraph import (
    NOT_PENDING,
    TAG,
    Carried,
    Record,
    Value,
    Version,
    Write,
    carried_in,
    carry,
    checkpoint_id,
    checkpoint_messages,
    parts,
    pending,
    value_messages,
)
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import (
    ConflictError,
    CorruptRecordError,
    MessageNotFoundError,
    SessionNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent_cores.session.adapters.langgraph.known import Known
    from agent_cores.session.adapters.langgraph.log import Tail
    from agent_cores.session.adapters.owner import Acting
    from agent_cores.session.adapters.pieces import Draft, Typed
    from agent_cores.session.models.session import SessionMetadata

_ATTRIBUTE = "langgraph_thread"
_TRIES = 3
"""How often a put is tried before it is announced."""


class Put(NamedTuple):
    """A checkpoint to store.

    ``new`` are the values that it adds, ``versions`` those that it names; ``whole`` returns these.
    ``needs_parent`` if the parent cannot be missing, since values are made of what is stored with
    it.
    """

    record: Record
    versions: Sequence[Version]
    new: Sequence[Value]
    whole: Callable[[], Sequence[Value]]
    needs_parent: bool


class Thread:
    """One thread of one user."""

    def __init__(
        self, acting: Acting, thread_id: str, *, ttl_hours: float | None, known: Known
    ) -> None:
        self.acting = acting
        self.thread_id = thread_id
        self._ttl_hours = ttl_hours
        self._known = known
        log_id, data_id = _session_ids(acting.user_id, thread_id)
        self.log: Log = Log(acting, log_id)
        self.data: Data = Data(acting, data_id, known)

    async def put(self, put: Put) -> None:
        """Store a checkpoint, after the values that it adds."""
        await self._opened_for(lambda: self._put(put))

    async def put_writes(
        self, namespace: str, name: str, writes: Sequence[Write], *, replace: bool
    ) -> None:
        """Store writes of a task; those that are stored stay unless ``replace`` is given."""
        if writes:
            of = checkpoint_id(namespace, name)
            await self._opened_for(lambda: self.data.put_writes(of, writes, replace=replace))

    async def typed(self, record: Record) -> tuple[Typed, Typed] | None:
        """Return a checkpoint and its metadata whole; ``None`` if it was removed since."""
        try:
            checkpoint, metadata = await self.data.typed([record.checkpoint, record.metadata])
        except MissingPieceError:
            await self.check_removed(record)
            return None
        return checkpoint, metadata

    async def check_removed(self, record: Record) -> None:
        """Raise ``CorruptRecordError`` if a checkpoint is there of which pieces are missing."""
        if await self.log.has(record):
            namespace = self.acting.verbs.namespace
            problem = f"pieces of checkpoint {record.checkpoint_id} are missing"
            raise CorruptRecordError(namespace, self.data.session_id, problem)

    async def delete(self) -> None:
        """Delete the thread, with what is put at the same time."""
        self._known.forget(self.log.session_id)
        for session in (self.log, self.data, self.log):  # a put may have created the log again
            await session.delete_session()

    async def open(self) -> None:
        """Create the sessions if they are missing; those of somebody else are refused."""
        verbs, user_id = self.acting
        opened = [
            await verbs.open_session(
                session_id,
                user_id,
                metadata={"tags": tags, _ATTRIBUTE: self.thread_id},
                ttl_hours=self._ttl_hours,
            )
            for session_id, tags in ((self.log.session_id, [TAG]), (self.data.session_id, []))
        ]
        self.data.seen(opened[-1].version)
        self._known.opened(self.log.session_id)

    async def _opened_for(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write, after opening the sessions; once more if they have ended since."""
        if not self._known.is_open(self.log.session_id):
            await self.open()
        try:
            await write()
        except SessionNotFoundError:
            self._known.forget(self.log.session_id)
            await self.open()
            await write()

    async def _put(self, put: Put) -> None:
        log_id = self.log.session_id
        known = self._known.followed_by(log_id, put.record)
        kept = await self._carried_by_parent(put.record) if known is None else known.carried
        carried, rest = carry(put.new, _named(kept or {}, put.versions))
        needs_parent = _needs_parent(put, carried, rest)
        head, *more = checkpoint_messages(put.record, carried)
        is_new = await self._add_new([*more, *value_messages(put.record.namespace, rest)])
        is_new = is_new and kept is not None
        if is_new and known is not None:
            try:
                [stored] = await self.log.add(
                    [head],
                    expected_last_seq=known.last_seq,
                    expected_version=known.version if needs_parent else None,
                )
            except ConflictError:
                pass
            else:
                self._known.put(log_id, put.record, carried, stored.seq, known.version)
                return
        await self._put_after_reading(put, head, more, is_new=is_new)

    async def _carried_by_parent(self, record: Record) -> Carried | None:
        """Return the values that the parent carries; ``None`` if it is missing."""
        if record.parent_id is None:
            return {}
        parent = await self.log.record(record.namespace, record.parent_id)
        return None if parent is None else carried_in(parent.checkpoint)

    async def _add_new(self, messages: Sequence[Draft]) -> bool:
        """Add messages; return whether none of them was stored before."""
        verbs, user_id = self.acting
        if not messages:
            if self._ttl_hours is not None:  # the data must last as long as the log
                await verbs.renew_session(self.data.session_id, user_id)
            return True
        try:
            for part in parts(messages):
                await self.data.add(part)
        except ConflictError:
            return False
        return True

    async def _put_after_reading(
        self, put: Put, head: Draft, more: Sequence[Draft], *, is_new: bool
    ) -> None:
        """Put a checkpoint at the end of the log as it is; if others come first, announce it."""
        pauses = backoff()
        for _ in range(_TRIES if is_new else 0):
            tail = await self.log.tail()
            if tail is None:
                raise SessionNotFoundError
            if tail.removes or not await self._has_parent(put.record, tail):
                break
            try:
                if await self._add_after(tail, put.record, head):
                    return
                break
            except ConflictError:
                await pauses.pause()
        await self._announce(put, head, more, is_new=is_new)

    async def _add_after(self, tail: Tail, record: Record, head: Draft) -> bool:
        """Add a checkpoint right after the tail that was read, if it is the greatest."""
        if not await self.log.is_greatest(record, tail):
            return False
        [stored] = await self.log.add(
            [head], expected_last_seq=tail.last_seq, expected_version=tail.version
        )
        if stored.seq == tail.last_seq + 1:
            carried = carried_in(head["content"])
            self._known.put(self.log.session_id, record, carried, stored.seq, tail.version)
        return True

    async def _has_parent(self, record: Record, tail: Tail | None = None) -> bool:
        """Return whether the parent is there, if there is one."""
        if record.parent is None or (tail is not None and tail.has(record.parent)):
            return True
        return await self.log.record(record.namespace, record.parent_id or "") is not None

    async def _announce(
        self, put: Put, head: Draft, more: Sequence[Draft], *, is_new: bool
    ) -> None:
        """Put a checkpoint as pending; then see to its order and its values, and show it."""
        verbs, user_id = self.acting
        record, name = put.record, self.log.session_id
        self._known.forget_log(name)
        try:
            [stored] = await self.log.add([pending(head)])
        except ConflictError:
            if head["id"] not in await self.log.fetch([head["id"]]):
                raise
            await self._replace(put, head, more)
            return
        tail = await self.log.tail()
        if tail is not None and not await self.log.is_greatest(record, tail, stored.seq):
            await self.log.note_unordered(stored.seq)
        try:
            await self._complete(put, more, is_new=is_new)
        except ConflictError:
            await self.log.delete([head["id"]])
            raise
        try:
            await verbs.update_message(name, user_id, stored.seq, metadata_removals=NOT_PENDING)
        except MessageNotFoundError as error:
            raise ConflictError(_REMOVED) from error

    async def _complete(self, put: Put, more: Sequence[Draft], *, is_new: bool) -> None:
        """Restore the values of an announced checkpoint, if its parent has not kept them."""
        has_parent = await self._has_parent(put.record)
        if put.needs_parent and not has_parent:
            raise ConflictError(_PARENT_REMOVED)
        if not has_parent or not is_new:
            values = value_messages(put.record.namespace, put.whole())
            await self.data.restore([*more, *values])

    async def _replace(self, put: Put, head: Draft, more: Sequence[Draft]) -> None:
        """Replace a checkpoint that is stored with other content, or show one that is pending."""
        verbs, user_id = self.acting
        announced = pending({**head, "id": secrets.token_hex(12)})
        await self.log.add([announced])
        try:
            await self._complete(put, more, is_new=False)
            stored = (await self.log.fetch([head["id"]])).get(head["id"])
            if stored is None:
                raise ConflictError(_REMOVED)
            await verbs.update_message(
                self.log.session_id,
                user_id,
                stored.seq,
                content=head["content"],
                metadata_removals=NOT_PENDING,
            )
        except MessageNotFoundError as error:
            raise ConflictError(_REMOVED) from error
        finally:
            await self.log.delete([announced["id"]])


def thread_id_of(header: SessionMetadata) -> str | None:
    """Return the thread whose log a session is; ``None`` for other sessions, and copies."""
    thread_id = header.attributes.get(_ATTRIBUTE)
    if not isinstance(thread_id, str):
        return None
    log_id, _ = _session_ids(header.owner_id, thread_id)
    return thread_id if header.session_id == log_id else None


@lru_cache(maxsize=10_000)
def _session_ids(user_id: str, thread_id: str) -> tuple[str, str]:
    """Return the ids of the log and the data of a thread."""
    log, data = (id_of_parts(tag, user_id, thread_id) for tag in (TAG, f"{TAG}-data"))
    return log, data


def _needs_parent(put: Put, carried: Carried, rest: Sequence[Value]) -> bool:
    """Return whether a checkpoint names values that neither it carries nor its put adds.

    Its parent must then be in this very log, and not in a deleted one of the same length.
    """
    added = [(channel, version) for channel, version, _ in rest]
    return put.needs_parent or bool(set(put.versions).difference(carried, added))


def _named(carried: Carried, versions: Sequence[Version]) -> Carried:
    return {version: carried[version] for version in versions if version in carried}


_PARENT_REMOVED = "the parent of this checkpoint was removed, and with it values of its channels"
_REMOVED = "this checkpoint was removed while it was put; put it again"
