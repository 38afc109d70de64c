"""``Data``: what the checkpoints of a thread refer to: values of channels, and pending writes.

The pending writes of one call are a message in a slot: the first that is free, so that none is ever
changed. A reader asks for the slots of a window, and for the doors that say whether there is more.
"""

from __future__ import annotations

import random
import secrets
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_cores.session.adapters.langgraph.messages import Fetched, Messages
from agent_cores.session.adapters.layouts.langgraph import (
    EMPTY,
    WINDOWS,
    Record,
    Version,
    Write,
    door_id,
    door_ids,
    is_data,
    parts,
    slot_id,
    slot_ids,
    slots_in,
    value_id,
    values_in,
    window_of,
    writes_messages,
    writes_of,
)
from agent_cores.session.adapters.pieces import Draft, Typed, pieces_of, typed_of
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import ConflictError
from agent_cores.session.models.version import unappended

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent_cores.session.adapters.langgraph.known import Known
    from agent_cores.session.adapters.owner import Acting
    from agent_cores.session.models.message import Message

_MOST_SPREAD = 64
_FIRST = len(WINDOWS) - 1
"""How many doors are asked for together with the first window."""


class Wanted(NamedTuple):
    """What is wanted of one checkpoint: the channels in their versions, and its pending writes."""

    record: Record
    versions: Sequence[Version]


class Found(NamedTuple):
    """What is stored of it. ``is_whole``: no value or pending write was removed before."""

    values: Mapping[str, Typed]
    writes: Sequence[Write]
    is_whole: bool


class MissingPieceError(Exception):
    """A value is stored, but not all its pieces: it is being removed."""


class _Plan(NamedTuple):
    """How one checkpoint is read.

    ``of`` is the id of its message, ``carried`` are the values in it, ``names`` the ids of the
    others, ``slots`` the ids of the first window, and ``doors`` those of the next ones.
    """

    wanted: Wanted
    of: str
    carried: Mapping[Version, Typed]
    names: Mapping[Version, str]
    slots: Sequence[str]
    doors: Sequence[str]

    @classmethod
    def to_read(cls, wanted: Wanted) -> _Plan:
        """Return how a checkpoint is read."""
        record = wanted.record
        carried = {
            (channel, version): value for channel, version, value in values_in(record.checkpoint)
        }
        names = {
            version: value_id(record.namespace, *version)
            for version in wanted.versions
            if version not in carried
        }
        of = record.id
        return cls(wanted, of, carried, names, _first_slots(of), _first_doors(of))

    @property
    def first_names(self) -> Iterable[str]:
        """The ids to read first; they are all, unless there are many writes or pieces."""
        return chain(self.names.values(), self.slots, self.doors)

    def found(
        self,
        calls: Sequence[Message],
        stored: Mapping[str, Typed],
        *,
        has_more: bool,
        at_one_instant: bool,
        is_unchanged: bool,
    ) -> Found:
        """Return what was found; ``has_more``: some calls were read later than the rest.

        The calls of a checkpoint are removed together, so one that was found shows that none had
        been at that instant. ``is_unchanged``: nothing was removed before the rest was read.
        """
        versions = dict(self.carried)
        versions.update((each, stored[name]) for each, name in self.names.items() if name in stored)
        values = {
            version[0]: versions[version]
            for version in self.wanted.versions
            if version in versions and versions[version][0] != EMPTY
        }
        contents: list[Any] = [each.content for each in calls]
        writes = writes_of(
            (content["replace"], stored[each.id])
            for each, content in zip(calls, contents, strict=True)
        )
        has_all = bool(calls) and all(version in versions for version in self.wanted.versions)
        is_whole = is_unchanged or (at_one_instant and has_all)
        return Found(values, writes, is_whole=is_whole and not has_more)


class Data(Messages):
    """The data of one thread."""

    def __init__(self, acting: Acting, session_id: str, known: Known) -> None:
        super().__init__(acting, session_id)
        self._known = known
        self._state = known.state(session_id)

    async def fetch_with_version(self, ids: Sequence[str]) -> Fetched:
        """Return the messages with these ids, and the version; what is no data is left out."""
        found = await super().fetch_with_version(ids)
        if all(map(is_data, found.messages.values())):
            return found
        data = {name: each for name, each in found.messages.items() if is_data(each)}
        return found._replace(messages=data)

    def own(self, messages: Iterable[Message]) -> list[Message]:
        """Return the messages that the user wrote through this adapter."""
        return [each for each in super().own(messages) if is_data(each)]

    async def put_writes(self, of: str, writes: Sequence[Write], *, replace: bool) -> None:
        """Store writes of a task; those that are stored stay unless ``replace`` is given."""
        *pieces, head = writes_messages(of, writes, replace=replace)
        last: Sequence[Draft] = ()
        if pieces:
            *early, final = parts([*pieces, head])
            for part in early:
                await self.add(part)
            last = final[:-1]  # the head is added below, with the id of a slot
        known = self._known
        pauses, slot, spread = backoff(), known.slot(of), 1
        while True:
            known.used(of, slot)
            try:
                await self.add([*_doors(of, slot), *last, {**head, "id": slot_id(of, slot)}])
            except ConflictError:  # the slot is taken
                if not await pauses.pause():
                    raise
                free = await self._free_slot(of)
                spread = min(spread * 2, _MOST_SPREAD)  # of many writers, each takes another one
                slot = max(free, known.slot(of)) + random.randrange(spread)  # noqa: S311
                continue
            return

    async def read(self, wanted: Sequence[Wanted]) -> list[Found]:
        """Return what checkpoints refer to: one round trip, more if there are many writes."""
        plans = [_Plan.to_read(each) for each in wanted]
        names = {name for each in plans for name in each.first_names}
        stored, version, pages = await self.fetch_with_version(list(names))
        is_unchanged = self._is_unchanged(version)
        calls = [await self._calls(each, stored) for each in plans]
        heads: dict[str, Any] = {}
        for each, made in zip(plans, calls, strict=True):
            found = (stored[name] for name in each.names.values() if name in stored)
            heads.update((message.id, message.content) for message in (*found, *made))
        typed = await self.typed(list(heads.values()))
        values = dict(zip(heads, typed, strict=True))
        return [
            each.found(
                made,
                values,
                has_more=each.doors[0] in stored,
                at_one_instant=pages == 1,
                is_unchanged=is_unchanged,
            )
            for each, made in zip(plans, calls, strict=True)
        ]

    def seen(self, version: str) -> None:
        """Note the version that the data has."""
        self._known.seen(self.session_id, unappended(version))

    def _is_unchanged(self, version: str | None) -> bool:
        """Return whether nothing was removed from the data since this object was made.

        Nor was the data itself deleted and begun anew. False if that is not known.
        """
        if version is None:
            return False
        self.seen(version)
        return self._state == unappended(version)

    async def typed(self, contents: Sequence[Mapping[str, Any]]) -> list[Typed]:
        """Return values, those in several pieces put together; ``MissingPieceError``."""
        names = [name for each in contents for name in pieces_of(each)]
        if not names:
            return [typed_of(each, ()) for each in contents]
        pieces = await self.fetch(names)
        try:
            more: Any = [[pieces[name].content for name in pieces_of(each)] for each in contents]
        except KeyError as error:
            raise MissingPieceError from error
        return [typed_of(each, rest) for each, rest in zip(contents, more, strict=True)]

    async def add_new(self, messages: Sequence[Draft]) -> bool:
        """Add messages; return whether none of them was stored before."""
        try:
            for part in parts(messages):
                await self.add(part)
        except ConflictError:
            return False
        return True

    async def renew(self) -> None:
        """Begin anew the time after which the data ends."""
        verbs, user_id = self.acting
        await verbs.renew_session(self.session_id, user_id)

    async def restore(self, messages: Sequence[Draft]) -> None:
        """Add the messages that are missing, even while others are being removed."""
        await self.change()
        await self.insert(messages)

    async def change(self) -> None:
        """Add and delete a message, so that what is about to be removed is decided again."""
        touch = secrets.token_hex(12)
        await self.add([{"id": touch, "role": "touch", "content": {"of": ""}}])
        await self.delete([touch])

    async def _calls(self, plan: _Plan, stored: dict[str, Message]) -> list[Message]:
        """Return the messages of pending writes, in the order in which they came."""
        taken = [stored[name] for name in plan.slots if name in stored]
        if plan.doors[0] in stored:
            taken = list((await self._slots(plan.of, stored)).values())
        return sorted(taken, key=lambda call: call.seq)

    async def _slots(self, of: str, stored: dict[str, Message]) -> dict[int, Message]:
        """Return the slots that are taken; ``stored`` are those of the first window, and doors."""
        names, window = _first_slots(of), 1
        while door_id(of, window) in stored:
            more = slot_ids(of, slots_in(window))
            stored.update(await self.fetch([*more, door_id(of, max(window, _FIRST) + 1)]))
            names += more
            window += 1
        return {slot: stored[name] for slot, name in enumerate(names) if name in stored}

    async def _free_slot(self, of: str) -> int:
        """Return the first slot after all that are taken."""
        taken = await self._slots(of, await self.fetch(_first_slots(of) + _first_doors(of)))
        return max(taken, default=-1) + 1


def _first_slots(of: str) -> list[str]:
    return slot_ids(of, slots_in(0))


def _first_doors(of: str) -> list[str]:
    return door_ids(of, range(1, _FIRST + 1))


def _doors(of: str, slot: int) -> list[Draft]:
    """Return the doors on the way to a slot; one that is stored stays as it is."""
    windows = range(1, window_of(slot) + 1)
    return [{"id": name, "role": "door", "content": {"of": of}} for name in door_ids(of, windows)]
