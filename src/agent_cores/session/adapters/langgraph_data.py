"""``Data``: what the checkpoints of a thread refer to: values of channels, and pending writes.

The pending writes of one call are a message in a slot: the first that is free, so that none is ever
changed. A reader asks for the slots of a window, and for the doors that say whether there is more.
"""

from __future__ import annotations

import random
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_cores.session.adapters.langgraph_layout import (
    EMPTY,
    WINDOWS,
    Draft,
    Record,
    Typed,
    Version,
    Write,
    carried_in,
    door_id,
    parts,
    pieces_of,
    slot_id,
    slots_in,
    typed_of,
    value_id,
    values_in,
    window_of,
    writes_messages,
    writes_of,
)
from agent_cores.session.adapters.langgraph_messages import Messages
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_cores.session.adapters.langgraph_known import Known
    from agent_cores.session.models.message import Message

_MOST_SPREAD = 64
_FIRST = len(WINDOWS) - 1
"""How many doors are asked for together with the first window."""


class Wanted(NamedTuple):
    """What is wanted of one checkpoint: the channels in their versions, and its pending writes."""

    record: Record
    versions: Sequence[Version]

    @property
    def names(self) -> Mapping[Version, str]:
        """The ids of the values that the checkpoint does not carry itself."""
        carried = carried_in(self.record.checkpoint)
        return {
            version: value_id(self.record.namespace, *version)
            for version in self.versions
            if version not in carried
        }


class Found(NamedTuple):
    """What is stored of it. ``is_whole``: no value or pending write was removed before."""

    values: Mapping[str, Typed]
    writes: Sequence[Write]
    is_whole: bool


class MissingPieceError(Exception):
    """A value is stored, but not all its pieces: it is being removed."""


class Data(Messages):
    """The data of one thread."""

    async def put_writes(
        self, of: str, writes: Sequence[Write], known: Known, *, replace: bool
    ) -> None:
        """Store writes of a task; those that are stored stay unless ``replace`` is given."""
        *pieces, head = writes_messages(of, writes, replace=replace)
        last: Sequence[Draft] = ()
        if pieces:
            *early, final = parts([*pieces, head])
            for part in early:
                await self.add(part)
            last = final[:-1]  # the head is added below, with the id of a slot
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
        ids = [each.names for each in wanted]
        names = {name for each in ids for name in each.values()}
        names.update(name for each in wanted for name in _first_names(each.record.id))
        stored = await self.fetch(names)
        calls = [
            sorted((await self._slots(each.record.id, stored)).values(), key=lambda call: call.seq)
            for each in wanted
        ]
        heads: list[Message] = []
        for each, made in zip(ids, calls, strict=True):
            heads += [stored[name] for name in each.values() if name in stored]
            heads += made
        contents: list[Any] = [each.content for each in heads]
        typed = await self.typed(contents)
        found = {message.id: value for message, value in zip(heads, typed, strict=True)}
        return [
            _found(each, names, made, found)
            for each, names, made in zip(wanted, ids, calls, strict=True)
        ]

    async def typed(self, contents: Sequence[Mapping[str, Any]]) -> list[Typed]:
        """Return values, those in several pieces put together; ``MissingPieceError``."""
        pieces = await self.fetch([name for each in contents for name in pieces_of(each)])
        try:
            more: Any = [[pieces[name].content for name in pieces_of(each)] for each in contents]
        except KeyError as error:
            raise MissingPieceError from error
        return [typed_of(each, rest) for each, rest in zip(contents, more, strict=True)]

    async def restore(self, messages: Sequence[Draft]) -> None:
        """Add the messages that are missing, even while others are being removed."""
        await self.change()
        await self.insert(messages)

    async def change(self) -> None:
        """Add and delete a message, so that what is about to be removed is decided again."""
        touch = secrets.token_hex(12)
        await self.add([{"id": touch, "role": "touch", "content": {"of": ""}}])
        await self.delete([touch])

    async def _slots(self, of: str, stored: dict[str, Message]) -> dict[int, Message]:
        """Return the slots that are taken; ``stored`` are those of the first window, and doors."""
        window = 1
        while door_id(of, window) in stored:
            names = [slot_id(of, slot) for slot in slots_in(window)]
            stored.update(await self.fetch([*names, door_id(of, max(window, _FIRST) + 1)]))
            window += 1
        slots = ((slot, slot_id(of, slot)) for each in range(window) for slot in slots_in(each))
        return {slot: stored[name] for slot, name in slots if name in stored}

    async def _free_slot(self, of: str) -> int:
        """Return the first slot after all that are taken."""
        taken = await self._slots(of, await self.fetch(_first_names(of)))
        return max(taken, default=-1) + 1


def _first_names(of: str) -> list[str]:
    slots = [slot_id(of, slot) for slot in slots_in(0)]
    return [*slots, *(door_id(of, window) for window in range(1, _FIRST + 1))]


def _doors(of: str, slot: int) -> list[Draft]:
    """Return the doors on the way to a slot; one that is stored stays as it is."""
    windows = range(1, window_of(slot) + 1)
    return [
        {"id": door_id(of, window), "role": "door", "content": {"of": of}} for window in windows
    ]


def _found(
    wanted: Wanted, names: Mapping[Version, str], calls: Sequence[Message], stored: dict[str, Typed]
) -> Found:
    versions = {
        (channel, version): value for channel, version, value in values_in(wanted.record.checkpoint)
    }
    versions.update((version, stored[name]) for version, name in names.items() if name in stored)
    values = {
        version[0]: versions[version]
        for version in wanted.versions
        if version in versions and versions[version][0] != EMPTY
    }
    contents: list[Any] = [each.content for each in calls]
    writes = writes_of(
        (content["replace"], stored[each.id]) for each, content in zip(calls, contents, strict=True)
    )
    has_values = all(version in versions for version in wanted.versions)
    has_writes = 0 < len(calls) <= len(slots_in(0))  # more may be removed in several parts
    return Found(values, writes, is_whole=has_values and has_writes)
