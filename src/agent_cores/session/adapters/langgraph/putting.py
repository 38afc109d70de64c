"""``Putting``: one checkpoint into a thread, after the values that it adds.

Values that are neither new nor its parent's are added, too: the copy of a checkpoint, which
``update_state`` makes for ``as_node="__copy__"``, has the parent of that one, and nothing new. The
other values that the checkpoint names are its parent's, so they are there as long as the parent is.
The log says whether it is: whoever removes checkpoints first adds a message to it, and a put
expects the last seq that it knew. A put that finds its parent removed, a removal in progress, or
others who are faster, first announces its checkpoint, as pending: no reader sees it, and a removal
never removes what it names (see ``removal``). Then it restores the values that the parent has not
kept, and shows the checkpoint.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_cores.session.adapters.langgraph.known import NOTHING, Held
from agent_cores.session.adapters.layouts.langgraph import (
    NOT_PENDING,
    Carried,
    Record,
    Value,
    Version,
    carried_in,
    carry,
    checkpoint_messages,
    pending,
    value_messages,
)
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import ConflictError, MessageNotFoundError, SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent_cores.session.adapters.langgraph.data import Data
    from agent_cores.session.adapters.langgraph.known import Followed, Known
    from agent_cores.session.adapters.langgraph.log import Log
    from agent_cores.session.adapters.pieces import Draft

_TRIES = 3
"""How often a put is tried before it is announced."""
_PARENT_REMOVED = "the parent of this checkpoint was removed, and with it values of its channels"
_REMOVED = "this checkpoint was removed while it was put; put it again"


NamedBy = Callable[[Record], Awaitable[Sequence[Version] | None]]
"""Returns the versions that a stored checkpoint names, ``None`` if it was removed since."""


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
    named_by: NamedBy
    needs_parent: bool

    @property
    def not_new(self) -> set[Version]:
        """The versions that it names and does not add."""
        return set(self.versions).difference([value[:2] for value in self.new])

    def from_elsewhere(self, parent: Held) -> Sequence[Value]:
        """Return the values that are neither new nor the parent's, as far as they were given."""
        missing = self.not_new.difference(parent.carried, parent.others)
        return [value for value in self.whole() if value[:2] in missing] if missing else ()


class Putting:
    """A put into the log and the data of a thread. ``expires``: they end unless they are used."""

    def __init__(self, put: Put, log: Log, data: Data, known: Known, *, expires: bool) -> None:
        self._put = put
        self._record = put.record
        self._log, self._data = log, data
        self._known = known
        self._expires = expires

    async def run(self) -> None:
        """Put the checkpoint. ``SessionNotFoundError`` if the log or the data is missing."""
        followed = self._known.followed_by(self._log.session_id, self._record)
        parent = await self._held_by_parent() if followed is None else followed.held
        new = [*self._put.new, *(self._put.from_elsewhere(parent) if parent else ())]
        carried, rest = carry(new, _named(parent.carried if parent else {}, self._put.versions))
        held = _held(carried, self._put.versions)
        head, *more = checkpoint_messages(self._record, carried)
        is_new = await self._add_data([*more, *value_messages(self._record.namespace, rest)])
        has_all = is_new and parent is not None
        if has_all and followed is not None:
            needs_parent = self._put.needs_parent or not held.others.issubset(
                [value[:2] for value in rest]
            )
            if await self._add_unread(head, held, followed, needs_parent=needs_parent):
                return
        if has_all and await self._add_to_end(head, held):
            return
        self._known.forget_log(self._log.session_id)
        await Announcement(self._put, head, more, self._log, self._data).run(restores=not has_all)

    async def _held_by_parent(self) -> Held | None:
        """Return what the parent holds, as far as it matters; ``None`` if it is missing."""
        record = self._record
        if record.parent_id is None:
            return NOTHING
        parent = await self._log.record(record.namespace, record.parent_id)
        if parent is None:
            return None
        carried = carried_in(parent.checkpoint)
        if self._put.not_new <= carried.keys():
            return Held(carried, frozenset())
        named = await self._put.named_by(parent)
        return None if named is None else _held(carried, named)

    async def _add_data(self, messages: Sequence[Draft]) -> bool:
        """Add messages to the data; return whether none of them was stored before."""
        if messages:
            return await self._data.add_new(messages)
        if self._expires:
            await self._data.renew()  # it must last as long as the log
        return True

    async def _add_unread(
        self, head: Draft, held: Held, followed: Followed, *, needs_parent: bool
    ) -> bool:
        """Add the checkpoint after what is known of the log; return whether that was its end.

        With ``needs_parent`` the log must be the very one that is known, and not one of the same
        length that was made after its deletion.
        """
        try:
            [stored] = await self._log.add(
                [head],
                expected_last_seq=followed.last_seq,
                expected_version=followed.version if needs_parent else None,
            )
        except ConflictError:
            return False
        self._note(held, stored.seq, followed.version)
        return True

    async def _add_to_end(self, head: Draft, held: Held) -> bool:
        """Read the end of the log, and add the checkpoint there.

        Returns whether it did. It does not during a removal, nor without its parent, nor if another
        checkpoint of its namespace is greater, nor if others are faster again and again.
        """
        pauses = backoff()
        for _ in range(_TRIES):
            tail = await self._log.tail()
            if tail is None:
                raise SessionNotFoundError
            if tail.removes or not await self._log.has_parent(self._record, tail):
                return False
            if not await self._log.is_greatest(self._record, tail):
                return False
            try:
                [stored] = await self._log.add(
                    [head], expected_last_seq=tail.last_seq, expected_version=tail.version
                )
            except ConflictError:
                await pauses.pause()
                continue
            if stored.seq == tail.last_seq + 1:  # else it was stored before
                self._note(held, stored.seq, tail.version)
            return True
        return False

    def _note(self, held: Held, seq: int, version: str) -> None:
        self._known.put(self._log.session_id, self._record, held, seq, version)


class Announcement:
    """The announcement of a put: ``head`` is its message, ``more`` are its further pieces."""

    def __init__(self, put: Put, head: Draft, more: Sequence[Draft], log: Log, data: Data) -> None:
        self._put = put
        self._head, self._more = head, more
        self._log, self._data = log, data

    async def run(self, *, restores: bool) -> None:
        """Announce the checkpoint, see to its order and its values, and show it.

        The values are restored if the parent is missing, and with ``restores`` in any case.
        ``ConflictError`` if the checkpoint cannot be whole, or is removed concurrently.
        """
        try:
            [stored] = await self._log.add([pending(self._head)])
        except ConflictError:
            if self._head["id"] not in await self._log.fetch([self._head["id"]]):
                raise
            await self._replace()
            return
        tail = await self._log.tail()
        record = self._put.record
        if tail is not None and not await self._log.is_greatest(record, tail, stored.seq):
            await self._log.note_unordered(stored.seq)
        try:
            await self._complete(restores=restores)
        except ConflictError:
            await self._log.delete([self._head["id"]])
            raise
        await self._show(stored.seq, {})

    async def _replace(self) -> None:
        """Replace a checkpoint that is stored with other content, or show one that is pending.

        Meanwhile a message of another id announces it.
        """
        announced = pending({**self._head, "id": secrets.token_hex(12)})
        await self._log.add([announced])
        try:
            await self._complete(restores=True)
            stored = (await self._log.fetch([self._head["id"]])).get(self._head["id"])
            if stored is None:
                raise ConflictError(_REMOVED)
            await self._show(stored.seq, {"content": self._head["content"]})
        finally:
            await self._log.delete([announced["id"]])

    async def _complete(self, *, restores: bool) -> None:
        """Restore the values of the checkpoint, if that is needed."""
        put = self._put
        has_parent = await self._log.has_parent(put.record)
        if put.needs_parent and not has_parent:
            raise ConflictError(_PARENT_REMOVED)
        if restores or not has_parent:
            values = value_messages(put.record.namespace, put.whole())
            await self._data.restore([*self._more, *values])

    async def _show(self, seq: int, changes: Mapping[str, Any]) -> None:
        verbs, user_id = self._log.acting
        log_id = self._log.session_id
        try:
            await verbs.update_message(
                log_id, user_id, seq, metadata_removals=NOT_PENDING, **changes
            )
        except MessageNotFoundError as error:
            raise ConflictError(_REMOVED) from error


def _held(carried: Carried, versions: Iterable[Version]) -> Held:
    return Held(carried, frozenset(versions).difference(carried))


def _named(carried: Carried, versions: Sequence[Version]) -> Carried:
    return {version: carried[version] for version in versions if version in carried}
