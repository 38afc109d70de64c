"""``SessionConversationStore``: Pydantic AI's conversations, on a ``SessionManager``.

Conversations that share entries, a conversation and its forks, are one session, a family. An entry
is a message; the record of a conversation is a key of the context. So a record and its new entries
are one write, and a family alone decides which entries nobody reaches any more. Which family a
conversation or an entry belongs to is kept in a directory: see ``directory``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)

from agent_cores.session.adapters.ids import HASHED, id_of, id_of_parts
from agent_cores.session.adapters.owner import Owner, Store
from agent_cores.session.adapters.pydantic_ai.codec import (
    encoded_record,
    entry_of,
    message_of,
    record_of,
)
from agent_cores.session.adapters.pydantic_ai.directory import Directory
from agent_cores.session.adapters.reading import messages_after, sessions_tagged
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import ConflictError, SessionExistsError, SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from agent_cores.session.backoff import Backoff
    from agent_cores.session.models.message import Message

_RECORD = "record"
_KEYS = (f"{_RECORD}:", HASHED)
"""How the keys of records begin."""
_FAMILY = "pydantic-ai"
_ATTRIBUTE = "pydantic_ai_family"
"""The metadata key with the id of a family, which copies of the session have too."""
_PAGE = 1_000
_LISTED = 50
_MOST_SCOPES = 60
_MOST_KNOWN = 10_000
_SKEW = 60.0
"""Seconds by which the clocks of writers may differ from the store's in a limited list."""


class Family(NamedTuple):
    """A session with the records of its conversations; no version if it does not exist."""

    session_id: str
    version: str | None
    records: dict[str, ConversationRecord]
    """By context key."""


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
        self._acting = Owner(store, user_id, operator=operator).acting()
        self._directory = Directory(self._acting, _FAMILY)
        self._ttl_hours = ttl_hours
        self._heads: OrderedDict[str, str] = OrderedDict()

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation, ``None`` if there is none."""
        found = await self._directory.family_of_conversation(conversation_id)
        if found is None:
            return None
        record = (await self._read_family(found)).records.get(_key(conversation_id))
        if record is not None:
            self._remember(record.head_id, found)
        return record

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """Return records, the newest ``updated_at`` first.

        Each family costs one read. With a limit, families that were written to long before the
        records that were found are not read.
        """
        records: list[ConversationRecord] = []
        async for found, active_at in self._families(scope):
            if limit is not None and len(records) >= limit:
                records = _newest(records)[:limit]
                if not records or records[-1].updated_at.timestamp() > active_at + _SKEW:
                    break
            family = await self._read_family(found)
            for record in family.records.values():
                if scope is None or record.scope == scope:
                    self._remember(record.head_id, found)
                    records.append(record)
        return _newest(records)[:limit]

    async def write_record(  # noqa: C901 - one check after the other
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and its new entries in one write, or raise ``ConversationConflict``."""
        conversation_id, new_ids = record.conversation_id, [entry.id for entry in new_entries]
        beside = record.head_id
        if new_entries and record.head_id in new_ids:
            beside = new_entries[0].parent_id
        pauses = backoff()  # others may write the same family
        while True:
            found = await self._directory.family_of_conversation(conversation_id)
            target = found or (beside and await self._directory.family_of_entry(beside))
            family = await self._read_family(target) if target else Family("", None, {})
            stored = family.records.get(_key(conversation_id))
            if (None if stored is None else stored.revision) != expected_revision:
                raise ConversationConflict(conversation_id)
            # After the family was read: an entry that goes now changes its version.
            if beside == record.head_id is not None and not await self._has(target, beside):
                if stored is None and found is not None and await self._is_stale(found, beside):
                    await self._drop_if_absent(conversation_id, found)
                    if await pauses.pause():
                        continue
                raise ConversationConflict(conversation_id)
            place = await self._directory.place(conversation_id, new_ids, target)
            if place.family != target:
                if not place.is_new:
                    continue
                family = Family(place.family, None, {})
            try:
                await self._write_family(family, record, new_entries)
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
            family = await self._read_family(found)
            stored = family.records.pop(_key(conversation_id), None)
            if stored is None or stored.revision != expected_revision:
                break
            gone = [] if family.records else await self._unreached(family)
            try:
                if family.records:
                    await self._write_family(family, None, (), removed=_key(conversation_id))
                else:
                    await self._delete_family(family)
            except (ConflictError, SessionNotFoundError):
                if not await pauses.pause():
                    raise
                continue
            gone += await self._collect(found, pauses)
            await self._directory.forget_entries(gone)
            await self._drop_if_absent(conversation_id, found)
            return
        raise ConversationConflict(conversation_id)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry; ``LookupError`` if there is none."""
        found = await self._family_of(entry_id)
        message = None if found is None else await self._message(found, entry_id)
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
        head = None if found is None else await self._message(found, head_id)
        if found is None or head is None:
            raise LookupError(head_id)
        history, page = [entry_of(head)], [head]
        most = _PAGE if limit is None else min(max(limit, 10), _PAGE)
        while (wanted := history[-1].parent_id) and len(history) != limit:
            page = await self._before(found, page[0].seq, most)
            if not page:
                raise LookupError(wanted)
            for message in filter(self._is_own, reversed(page)):
                if message.id == id_of(wanted or "") and len(history) != limit:
                    history.append(entry_of(message))
                    wanted = history[-1].parent_id
        return history[::-1]

    async def _before(self, session_id: str, seq: int, limit: int) -> list[Message]:
        verbs, user_id = self._acting
        return await verbs.get_session_messages(session_id, user_id, limit, before_seq=seq)

    async def _message(self, session_id: str, entry_id: str) -> Message | None:
        verbs, user_id = self._acting
        try:
            page = await verbs.get_messages(session_id, user_id, ids=[id_of(entry_id)])
        except SessionNotFoundError:
            return None
        return page[0] if page and self._is_own(page[0]) else None

    def _is_own(self, message: Message) -> bool:
        """Whether a message is an entry: what others append to a shared family is none."""
        return message.author_id == self._acting.user_id

    async def _has(self, family: str | None, entry_id: str) -> bool:
        return family is not None and await self._message(family, entry_id) is not None

    async def _is_stale(self, found: str, entry_id: str) -> bool:
        """Return whether an entry is in another family than that of an absent conversation.

        The note of the conversation was left by an earlier one of that id.
        """
        noted = await self._directory.family_of_entry(entry_id)
        return noted != found and await self._has(noted, entry_id)

    async def _read_family(self, session_id: str) -> Family:
        verbs, user_id = self._acting
        try:
            session = await verbs.get_session(session_id, user_id, message_limit=0)
        except SessionNotFoundError:
            return Family(session_id, None, {})
        if session.metadata.owner_id != user_id:
            raise SessionExistsError
        context = session.context or {}
        return Family(
            session_id,
            session.metadata.version,
            {k: record_of(value) for k, value in context.items() if k.startswith(_KEYS)},
        )

    async def _write_family(
        self,
        family: Family,
        record: ConversationRecord | None,
        new_entries: Sequence[ConversationEntry],
        *,
        removed: str | None = None,
    ) -> None:
        """Write records and entries of a family in the state in which it was read."""
        verbs, user_id = self._acting
        updates: dict[str, Any] = {}
        records = dict(family.records)
        if record is not None:
            key = _key(record.conversation_id)
            updates[key], records[key] = encoded_record(record), record
        metadata = {"tags": _tags(records), _ATTRIBUTE: family.session_id}
        messages = [message_of(entry) for entry in new_entries]
        if family.version is None:
            await verbs.create_session(
                user_id,
                metadata,
                session_id=family.session_id,
                context=updates,
                messages=messages,
                ttl_hours=self._ttl_hours,
            )
        elif messages:
            await verbs.add_messages(
                family.session_id,
                user_id,
                messages,
                context_updates=updates,
                metadata_updates=metadata,
                expected_version=family.version,
            )
        else:
            await verbs.update_session(
                family.session_id,
                user_id,
                updates,
                metadata,
                context_removals=[] if removed is None else [removed],
                expected_version=family.version,
            )

    async def _delete_family(self, family: Family) -> None:
        verbs, user_id = self._acting
        await verbs.delete_session(family.session_id, user_id, expected_version=family.version)

    async def _collect(self, session_id: str, pauses: Backoff) -> list[str]:
        """Delete the entries that no record reaches, and return their ids.

        A record that is written meanwhile changes the version, and they are looked for again. What
        cannot be collected in time is collected with the next deletion in the family.
        """
        verbs, user_id = self._acting
        gone: list[str] = []
        while True:
            family = await self._read_family(session_id)
            if family.version is None:
                return gone
            unreached = await self._unreached(family)
            if not unreached:
                return gone
            batch = unreached[:_PAGE]
            try:
                await verbs.delete_messages(
                    session_id,
                    user_id,
                    ids=[id_of(entry_id) for entry_id in batch],
                    expected_version=family.version,
                )
            except (ConflictError, SessionNotFoundError):
                if not await pauses.pause():
                    return gone
                continue
            gone += batch

    async def _unreached(self, family: Family) -> list[str]:
        parents: dict[str, str | None] = {}
        async for page in messages_after(self._acting, family.session_id):
            for message in filter(self._is_own, page):
                entry: Any = message.content
                parents[entry["id"]] = entry["parent_id"]
        reached: set[str] = set()
        for record in family.records.values():
            for tip in (record.head_id, *record.branches):
                entry_id = tip
                while entry_id is not None and entry_id not in reached:
                    reached.add(entry_id)
                    entry_id = parents.get(entry_id)
        return [entry_id for entry_id in parents if entry_id not in reached]

    async def _drop_if_absent(self, conversation_id: str, family: str) -> None:
        """Remove a conversation from the directory, unless it was written again."""

        async def is_absent() -> bool:
            return _key(conversation_id) not in (await self._read_family(family)).records

        await self._directory.forget_conversation(conversation_id, family, is_absent)

    async def _families(self, scope: str | None) -> AsyncIterator[tuple[str, float]]:
        """Yield the families that have records of a scope, latest activity first."""
        tag = _FAMILY if scope is None else _scope_tag(scope)
        async for session in sessions_tagged(self._acting, tag, page_size=_LISTED):
            if session.metadata.attributes.get(_ATTRIBUTE, session.id) == session.id:
                yield session.id, session.metadata.last_active_at.timestamp()

    async def _family_of(self, entry_id: str) -> str | None:
        known = self._heads.get(entry_id)
        return known or await self._directory.family_of_entry(entry_id)

    def _remember(self, head_id: str | None, family: str) -> None:
        if head_id is not None:
            self._heads[head_id] = family
            if len(self._heads) > _MOST_KNOWN:
                self._heads.popitem(last=False)


def _key(conversation_id: str) -> str:
    return id_of_parts(_RECORD, conversation_id)


def _tags(records: Mapping[str, ConversationRecord]) -> list[str]:
    """Return the tags of a family: its scopes, so many that a session holds them."""
    scopes = dict.fromkeys(r.scope for r in records.values() if r.scope is not None)
    if len(scopes) > _MOST_SCOPES:
        problem = f"the forks of one conversation may have {_MOST_SCOPES} scopes"
        raise ValueError(problem)
    return [_FAMILY, *map(_scope_tag, scopes)]


def _scope_tag(scope: str) -> str:
    return id_of_parts(_FAMILY, scope)


def _newest(records: list[ConversationRecord]) -> list[ConversationRecord]:
    return sorted(records, key=lambda record: record.updated_at, reverse=True)
