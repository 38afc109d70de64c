"""``Families``: conversations that share entries, a conversation and its forks, in one session.

An entry is a message; the record of a conversation is a key of the context. So a record and its new
entries are one write, and a family alone decides which entries nobody reaches any more. What others
append to a shared family is no entry, nor is what the user appends to it otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agent_cores.session.adapters.ids import HASHED, id_of, id_of_parts
from agent_cores.session.adapters.pydantic_ai.codec import (
    encoded_record,
    is_entry,
    message_of,
    record_of,
)
from agent_cores.session.adapters.reading import messages_after, sessions_tagged
from agent_cores.session.errors import ConflictError, SessionExistsError, SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord

    from agent_cores.session.adapters.owner import Acting
    from agent_cores.session.backoff import Backoff
    from agent_cores.session.models.message import Message
    from agent_cores.session.models.session import Session

TAG = "pydantic-ai"
_ATTRIBUTE = "pydantic_ai_family"
"""The metadata key with the id of a family, which copies of the session have too."""
_RECORD = "record"
_KEYS = (f"{_RECORD}:", HASHED)
"""How the keys of records begin."""
_PAGE = 1_000
_LISTED = 50
_MOST_SCOPES = 60


class Family(NamedTuple):
    """A session with the records of its conversations; no version if it does not exist."""

    session_id: str
    version: str | None
    records: Mapping[str, ConversationRecord]
    """By context key."""
    has_unreadable: bool = False
    """Whether somebody changed a record into something else. Its entries are kept."""

    def record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation, ``None`` if it is not in this family."""
        return self.records.get(_key(conversation_id))


class Families:
    """The families of one user."""

    def __init__(self, acting: Acting, *, ttl_hours: float | None) -> None:
        self._acting = acting
        self._ttl_hours = ttl_hours

    async def read(self, session_id: str) -> Family:
        """Return a family, with all its records and no entries."""
        verbs, user_id = self._acting
        try:
            session = await verbs.get_session(session_id, user_id, message_limit=0)
        except SessionNotFoundError:
            return Family(session_id, None, {})
        if session.metadata.owner_id != user_id:
            raise SessionExistsError
        return _family(session)

    async def listed(self, scope: str | None) -> AsyncIterator[tuple[Family, float]]:
        """Yield the families that have records of a scope, latest activity first, and its time.

        Without a scope, all families.
        """
        tag = TAG if scope is None else _scope_tag(scope)
        listed = sessions_tagged(self._acting, tag, page_size=_LISTED, include=("context",))
        async for session in listed:
            if session.metadata.attributes.get(_ATTRIBUTE, session.id) == session.id:
                yield _family(session), session.metadata.last_active_at.timestamp()

    async def write(
        self, family: Family, record: ConversationRecord, new_entries: Sequence[ConversationEntry]
    ) -> None:
        """Write a record and entries into a family in the state in which it was read."""
        verbs, user_id = self._acting
        key = _key(record.conversation_id)
        updates = {key: encoded_record(record)}
        metadata = _metadata(family.session_id, {**family.records, key: record})
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
                family.session_id, user_id, updates, metadata, expected_version=family.version
            )

    async def remove_record(self, family: Family, conversation_id: str) -> list[str]:
        """Remove a record from a family in the state in which it was read.

        The family goes with its last record; then the ids of its entries are returned. It stays
        while it has a record that cannot be read.
        """
        verbs, user_id = self._acting
        key = _key(conversation_id)
        left = {name: each for name, each in family.records.items() if name != key}
        if left or family.has_unreadable:
            await verbs.update_session(
                family.session_id,
                user_id,
                {},
                _metadata(family.session_id, left),
                context_removals=[key],
                expected_version=family.version,
            )
            return []
        entry_ids = [*await self._parents(family.session_id)]
        await verbs.delete_session(family.session_id, user_id, expected_version=family.version)
        return entry_ids

    async def collect(self, session_id: str, pauses: Backoff) -> list[str]:
        """Delete the entries that no record reaches, and return their ids.

        A concurrent write of a record changes the version, and the search begins again. What cannot
        be collected in time is collected with the next deletion in the family.
        """
        verbs, user_id = self._acting
        gone: list[str] = []
        while True:
            family = await self.read(session_id)
            if family.version is None or family.has_unreadable:
                return gone
            try:
                unreached = _unreached(await self._parents(session_id), family.records.values())
                if not unreached:
                    return gone
                batch = unreached[:_PAGE]
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

    async def message(self, session_id: str, entry_id: str) -> Message | None:
        """Return the message of an entry, ``None`` if there is none."""
        verbs, user_id = self._acting
        try:
            page = await verbs.get_messages(session_id, user_id, ids=[id_of(entry_id)])
        except SessionNotFoundError:
            return None
        return next(iter(self._entries(page)), None)

    async def before(self, session_id: str, seq: int, limit: int) -> tuple[list[Message], int]:
        """Return the entries of a page before a seq, and the seq to go on from; or 0."""
        verbs, user_id = self._acting
        page = await verbs.get_session_messages(session_id, user_id, limit, before_seq=seq)
        return self._entries(page), page[0].seq if page else 0

    async def _parents(self, session_id: str) -> dict[str, str | None]:
        """Return the ids of all entries of a family, each with that of its parent."""
        parents: dict[str, str | None] = {}
        async for page in messages_after(self._acting, session_id):
            for message in self._entries(page):
                entry: Any = message.content
                parents[entry["id"]] = entry["parent_id"]
        return parents

    def _entries(self, messages: Iterable[Message]) -> list[Message]:
        user_id = self._acting.user_id
        return [each for each in messages if each.author_id == user_id and is_entry(each)]


def _unreached(
    parents: Mapping[str, str | None], records: Iterable[ConversationRecord]
) -> list[str]:
    """Return the entries to which no record leads."""
    reached: set[str] = set()
    for record in records:
        for tip in (record.head_id, *record.branches):
            entry_id = tip
            while entry_id is not None and entry_id not in reached:
                reached.add(entry_id)
                entry_id = parents.get(entry_id)
    return [entry_id for entry_id in parents if entry_id not in reached]


def _metadata(session_id: str, records: Mapping[str, ConversationRecord]) -> dict[str, Any]:
    """Return the metadata of a family; its tags are its scopes, which may not be too many."""
    scopes = dict.fromkeys(r.scope for r in records.values() if r.scope is not None)
    if len(scopes) > _MOST_SCOPES:
        problem = f"the forks of one conversation may have {_MOST_SCOPES} scopes"
        raise ValueError(problem)
    return {"tags": [TAG, *map(_scope_tag, scopes)], _ATTRIBUTE: session_id}


def _family(session: Session) -> Family:
    """Return the family in a session that was read with its context."""
    context = session.context or {}
    found = {key: record_of(context[key]) for key in context if key.startswith(_KEYS)}
    records = {
        key: record
        for key, record in found.items()
        if record is not None and _key(record.conversation_id) == key
    }
    return Family(
        session.id, session.metadata.version, records, has_unreadable=None in found.values()
    )


def _key(conversation_id: str) -> str:
    return id_of_parts(_RECORD, conversation_id)


def _scope_tag(scope: str) -> str:
    return id_of_parts(TAG, scope)
