"""``SessionConversationStore``: Pydantic AI's conversations, on a ``SessionManager``.

A conversation and its forks are a family, which is a session: see ``families``. Which family a
conversation or an entry belongs to is kept in a directory: see ``directory``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)

from agent_cores.session.adapters.ids import id_of
from agent_cores.session.adapters.owner import Owner, Store
from agent_cores.session.adapters.pydantic_ai.codec import entry_of
from agent_cores.session.adapters.pydantic_ai.directory import Directory
from agent_cores.session.adapters.pydantic_ai.families import TAG, Families, Family
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import ConflictError, SessionExistsError, SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAGE = 1_000
_MOST_KNOWN = 10_000
_SKEW = 60.0
"""Seconds by which the clocks of writers may differ from the store's in a limited list."""


class SessionConversationStore(ConversationStore):
    """Keep conversations of Pydantic AI for one user.

    ``store`` is a manager, a client of the service, the URL of a storage, or ``None`` for the
    configured one. ``user_id`` owns all conversations, whatever their scope; with ``operator``
    instead they belong to the user of that name, and each call is audited. ``ttl_hours=None`` keeps
    conversations until they are deleted.

    ``delete`` also deletes the entries that no other conversation reaches.
    """

    def __init__(
        self,
        store: Store = None,
        *,
        user_id: str | None = None,
        operator: str | None = None,
        ttl_hours: float | None = None,
    ) -> None:
        acting = Owner(store, user_id, operator=operator).acting()
        self._directory = Directory(acting, TAG)
        self._families = Families(acting, ttl_hours=ttl_hours)
        self._heads: OrderedDict[str, str] = OrderedDict()

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation, ``None`` if there is none."""
        found = await self._directory.family_of_conversation(conversation_id)
        if found is None:
            return None
        record = (await self._families.read(found)).record(conversation_id)
        if record is not None:
            self._remember(record.head_id, found)
        return record

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """Return records, the newest ``updated_at`` first.

        With a limit, families that were written to long before the records that were found are not
        read.
        """
        records: list[ConversationRecord] = []
        async for family, active_at in self._families.listed(scope):
            if limit is not None and len(records) >= limit:
                records = _newest(records)[:limit]
                if not records or records[-1].updated_at.timestamp() > active_at + _SKEW:
                    break
            for record in family.records.values():
                if scope is None or record.scope == scope:
                    self._remember(record.head_id, family.session_id)
                    records.append(record)
        return _newest(records)[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and its new entries in one write, or raise ``ConversationConflict``."""
        conversation_id, new_ids = record.conversation_id, [entry.id for entry in new_entries]
        is_head_new = record.head_id in new_ids
        beside = new_entries[0].parent_id if is_head_new else record.head_id
        pauses = backoff()  # others may write the same family
        while True:
            family = await self._family_for(conversation_id, beside)
            stored = family.record(conversation_id)
            if (None if stored is None else stored.revision) != expected_revision:
                raise ConversationConflict(conversation_id)
            # After the family was read: an entry that goes now changes its version.
            if (
                beside is not None
                and not is_head_new
                and not await self._has(family.session_id, beside)
            ):
                is_stale = stored is None and await self._forget_stale(
                    conversation_id, family.session_id, beside
                )
                if is_stale and await pauses.pause():
                    continue
                raise ConversationConflict(conversation_id)
            place = await self._directory.place(conversation_id, new_ids, family.session_id or None)
            if place.family != family.session_id:
                if not place.is_new:
                    continue
                family = Family(place.family, None, {})
            try:
                await self._families.write(family, record, new_entries)
            except (ConflictError, SessionExistsError, SessionNotFoundError):
                if not await pauses.pause():
                    raise
                continue
            if stored is None:
                await self._directory.confirm(conversation_id, place)
            self._remember(record.head_id, place.family)
            return

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a record, and the entries that no other record reaches."""
        found = await self._directory.family_of_conversation(conversation_id)
        pauses = backoff()  # others may write the same family
        while found is not None:
            family = await self._families.read(found)
            stored = family.record(conversation_id)
            if stored is None or stored.revision != expected_revision:
                break
            try:
                gone = await self._families.remove_record(family, conversation_id)
            except (ConflictError, SessionNotFoundError):
                if not await pauses.pause():
                    raise
                continue
            gone += await self._families.collect(found, pauses)
            await self._directory.forget_entries(gone)
            await self._drop_if_absent(conversation_id, found)
            return
        raise ConversationConflict(conversation_id)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry; ``LookupError`` if there is none."""
        found = await self._family_of(entry_id)
        message = None if found is None else await self._families.message(found, entry_id)
        if message is None:
            raise LookupError(entry_id)
        return entry_of(message)

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """Return the entries up to ``head_id``, or the last ``limit``, a page of them a read."""
        if head_id is None or limit == 0:
            return []
        found = await self._family_of(head_id)
        head = None if found is None else await self._families.message(found, head_id)
        if found is None or head is None:
            raise LookupError(head_id)
        history, seq = [entry_of(head)], head.seq
        most = _PAGE if limit is None else min(max(limit, 10), _PAGE)
        while (wanted := history[-1].parent_id) and len(history) != limit:
            earlier, seq = await self._families.before(found, seq, most)
            if not seq:
                raise LookupError(wanted)
            for message in reversed(earlier):
                if message.id == id_of(wanted or "") and len(history) != limit:
                    history.append(entry_of(message))
                    wanted = history[-1].parent_id
        return history[::-1]

    async def _family_for(self, conversation_id: str, beside: str | None) -> Family:
        """Return the family of a conversation, or the one that it joins ``beside`` an entry.

        One without an id if there is none yet.
        """
        found = await self._directory.family_of_conversation(conversation_id)
        if found is None and beside:
            found = await self._directory.family_of_entry(beside)
        return await self._families.read(found) if found else Family("", None, {})

    async def _has(self, family: str, entry_id: str) -> bool:
        return bool(family) and await self._families.message(family, entry_id) is not None

    async def _forget_stale(self, conversation_id: str, found: str, entry_id: str) -> bool:
        """Return whether an earlier conversation of that id has left its note, and remove it.

        It has if the entry is in another family than the conversation, which is absent.
        """
        noted = await self._directory.family_of_entry(entry_id)
        if noted is None or noted == found or not await self._has(noted, entry_id):
            return False
        await self._drop_if_absent(conversation_id, found)
        return True

    async def _drop_if_absent(self, conversation_id: str, family: str) -> None:
        """Remove a conversation from the directory, unless it was written again."""

        async def is_absent() -> bool:
            return (await self._families.read(family)).record(conversation_id) is None

        await self._directory.forget_conversation(conversation_id, family, is_absent)

    async def _family_of(self, entry_id: str) -> str | None:
        known = self._heads.get(entry_id)
        return known or await self._directory.family_of_entry(entry_id)

    def _remember(self, head_id: str | None, family: str) -> None:
        if head_id is not None:
            self._heads[head_id] = family
            if len(self._heads) > _MOST_KNOWN:
                self._heads.popitem(last=False)


def _newest(records: list[ConversationRecord]) -> list[ConversationRecord]:
    return sorted(records, key=lambda record: record.updated_at, reverse=True)
