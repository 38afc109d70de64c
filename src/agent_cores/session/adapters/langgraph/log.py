"""``Log``: the checkpoints of a thread, one message each, in the order in which they came.

Nothing else stays in the log, so that lists and the latest checkpoint cost what they return. A
checkpoint with a smaller id than one before it is noted in the session's context: what came up to
then is sorted by whoever reads it.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

from agent_cores.session.adapters.langgraph.messages import Messages
from agent_cores.session.adapters.layouts.langgraph import (
    PAGE,
    Record,
    checkpoint_id,
    is_checkpoint,
    record_of,
)
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import ConflictError, SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from agent_cores.session.models.message import Message
    from agent_cores.session.models.session import Session

_UNORDERED = "unordered"
_TAIL = 10
_FEW = 3
"""The latest checkpoint of a thread is usually the last of all."""
REMOVAL = "removal"
"""The role of the message that announces a removal. It is removed with what is removed."""


class Tail(NamedTuple):
    """The end of a log at one instant."""

    messages: Sequence[Message]
    first_seq: int
    last_seq: int
    unordered: int
    version: str

    @property
    def removes(self) -> bool:
        """Whether a removal has been announced, and nothing was put since."""
        return bool(self.messages) and self.messages[-1].role == REMOVAL

    def has(self, log_id: str) -> bool:
        """Return whether a checkpoint is there."""
        return any(each.id == log_id and is_checkpoint(each) for each in self.messages)


class Log(Messages):
    """The log of one thread."""

    async def record(self, namespace: str, name: str) -> Record | None:
        """Return a checkpoint by its id."""
        log_id = checkpoint_id(namespace, name)
        found = (await self.fetch([log_id])).get(log_id)
        return record_of(found) if found is not None and is_checkpoint(found) else None

    async def has(self, record: Record) -> bool:
        """Return whether a checkpoint that was read is still there."""
        return await self.record(record.namespace, record.checkpoint_id) is not None

    async def has_parent(self, record: Record, tail: Tail | None = None) -> bool:
        """Return whether the parent of a checkpoint is there, if it has one."""
        if record.parent is None or (tail is not None and tail.has(record.parent)):
            return True
        return await self.record(record.namespace, record.parent_id or "") is not None

    async def latest(self, namespace: str) -> Record | None:
        """Return the checkpoint with the greatest id in a namespace."""
        async with aclosing(self.records(namespace, few=True)) as records:
            async for record in records:
                return record
        return None

    async def records(
        self,
        namespace: str | None = None,
        *,
        few: bool = False,
        before_seq: int | None = None,
    ) -> AsyncGenerator[Record]:
        """Yield the checkpoints of a namespace, or of all; those of each the greatest id first.

        They are read from the latest on, or from those before a seq, and at first ``few`` at a
        time. What came before one that was out of order is read whole before it is yielded.
        """
        tail = await self.tail(_FEW if few else _TAIL)
        if tail is None:
            return
        page, seq = list(tail.messages), tail.first_seq
        limit = _TAIL * 10 if few else PAGE
        if before_seq is not None:
            page, seq = await self.before(before_seq, _TAIL)
        held: list[Record] = []
        while page or seq:
            found = [record_of(each) for each in page if is_checkpoint(each)]
            for record in sorted(found, key=_by_id, reverse=True):
                if namespace not in {None, record.namespace}:
                    continue
                if record.seq <= tail.unordered:
                    held.append(record)
                else:
                    yield record
            page, seq = await self.before(seq, limit) if seq > 1 else ([], 0)
        for record in sorted(held, key=_by_id, reverse=True):
            yield record

    async def tail(self, limit: int = _TAIL) -> Tail | None:
        """Return the end of the log; ``None`` if there is none, or somebody else owns it."""
        session = await self.read(limit)
        if session is None:
            return None
        messages = session.messages or []
        return Tail(
            self.own(messages),
            messages[0].seq if messages else 0,
            session.metadata.last_seq,
            unordered(session),
            session.version,
        )

    async def read(self, limit: int) -> Session | None:
        """Return the session; ``None`` if there is none, or somebody else owns it."""
        verbs, user_id = self.acting
        try:
            session = await verbs.get_session(self.session_id, user_id, message_limit=limit)
        except SessionNotFoundError:
            return None
        return session if session.owner_id == user_id else None

    async def is_greatest(self, record: Record, tail: Tail, seq: int | None = None) -> bool:
        """Return whether no checkpoint of the namespace before a seq has a greater id.

        Without a seq, none of the whole log. One that is shown and came in order is greater than
        all before it, so nothing before such a one is read. Of one that is pending this is not
        known: what is out of order may not have been noted yet.
        """
        if (record.parent_id or "") > record.checkpoint_id:
            return False
        end = tail.last_seq + 1 if seq is None else seq
        page, first = [each for each in tail.messages if each.seq < end], tail.first_seq
        noted = tail.unordered
        same = self._same(record, page)
        if not same and record.parent_id is None and first < end:
            return True  # the first of its namespace
        while True:
            for each in same:
                other = record_of(each)
                if other.checkpoint_id > record.checkpoint_id:
                    return False
                if is_checkpoint(each) and each.seq > noted:
                    return True
            if first <= 1:
                return True
            page, first = await self.before(min(first, end), _TAIL * 10)
            same = self._same(record, page)
            session = await self.read(0)  # after the page: what it shows has been noted
            noted = tail.last_seq if session is None else unordered(session)

    def _same(self, record: Record, page: Sequence[Message]) -> list[Message]:
        """Return the checkpoints of the record's namespace, pending or not, the latest first."""
        found = [each for each in reversed(page) if is_checkpoint(each, pending=True)]
        return [each for each in found if record_of(each).namespace == record.namespace]

    async def note_unordered(self, seq: int) -> None:
        """Note that checkpoints up to this seq came out of order."""
        verbs, user_id = self.acting
        pauses = backoff()
        while True:
            session = await verbs.get_session(self.session_id, user_id, message_limit=0)
            if unordered(session) >= seq:
                return
            try:
                await verbs.update_session(
                    self.session_id, user_id, {_UNORDERED: seq}, expected_version=session.version
                )
            except ConflictError:
                if not await pauses.pause():
                    raise
                continue
            return


def unordered(session: Session) -> int:
    """Return the greatest seq of a checkpoint that came out of order; 0 if there is none."""
    noted = (session.context or {}).get(_UNORDERED, 0)
    return noted if isinstance(noted, int) else 0


def _by_id(record: Record) -> str:
    return record.checkpoint_id
