"""A namespace of LangGraph's store as a session: each item is a message, found by its key.

The id of the message is made from the key, so an item is read, written and removed at the same
cost however many there are. An item is updated in place and keeps its position. The tags of the
session are the prefixes of the namespace, so that an index finds the namespaces below a prefix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.adapters.ids import id_of, id_of_parts
from agent_cores.session.adapters.langgraph_store.items import (
    READ_AT,
    ROLE,
    parts,
    stored_item,
)
from agent_cores.session.adapters.langgraph_store.together import all_of
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import (
    ConflictError,
    MessageNotFoundError,
    SessionArchivedError,
    SessionNotFoundError,
)
from agent_cores.session.models.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from datetime import datetime

    from agent_cores.session.adapters.langgraph_store.items import NewItem, StoredItem
    from agent_cores.session.adapters.langgraph_store.together import Limit
    from agent_cores.session.adapters.owner import Acting
    from agent_cores.session.models.message import Message
    from agent_cores.session.models.session import SessionMetadata

Labels = tuple[str, ...]
TAG = "langgraph-store"
TTL_TAG = f"{TAG}-ttl"
"""Marks the namespaces in which an item was ever stored with a TTL."""
_ATTRIBUTE = "langgraph_namespace"
_ORDER = "langgraph_order"
_MOST_TAGS = 60
_PAGE = 1_000


class Namespace:
    """One namespace of one user.

    ``opened`` are the sessions that this process has opened, and whether they have ``TTL_TAG``;
    ``updates`` limits how many items are updated at a time.
    """

    def __init__(
        self, acting: Acting, labels: Labels, opened: dict[str, bool], updates: Limit
    ) -> None:
        self._acting = acting
        self.labels = labels
        self.session_id: str = id_of_parts(TAG, acting.user_id, *labels)
        self._opened = opened
        self._updates = updates

    async def items(self, keys: Iterable[str], now: datetime) -> dict[str, StoredItem]:
        """Return the items with these keys that have not expired."""
        found = await self._fetch([id_of(key) for key in keys])
        items = [item for message in found if (item := self._item(message, now)) is not None]
        return {item.key: item for item in items}

    async def pages(self, now: datetime, first: int) -> AsyncIterator[list[StoredItem]]:
        """Yield the items that have not expired, first stored first.

        A page is what one read of ``first`` messages found, each later one of ten times as many, up
        to 1,000.
        """
        async for page in self._pages(first):
            items = (self._item(message, now) for message in page)
            yield [item for item in items if item is not None]

    async def put(self, items: Sequence[NewItem], order: int) -> None:
        """Store items, in the place of those with equal keys. A key must not come twice.

        ``order`` is the place of the namespace among others, if it is new.

        New items are one write for every 1,000 of them or 6 MiB. Another writer of the same key
        comes before or after.
        """
        with_ttl = any(item.ttl is not None for item in items)
        for part in parts(items):
            await self._open(order, with_ttl=with_ttl)
            try:
                await self._write(part)
            except SessionNotFoundError:  # it was deleted since
                self._opened.pop(self.session_id, None)
                await self._open(order, with_ttl=with_ttl)
                await self._write(part)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove the items with these keys."""
        verbs, user_id = self._acting
        ids = [id_of(key) for key in keys]
        for first in range(0, len(ids), _PAGE):
            try:
                await verbs.delete_messages(
                    self.session_id, user_id, ids=ids[first : first + _PAGE]
                )
            except SessionNotFoundError:
                return

    async def renew(self, items: Iterable[StoredItem], now: datetime) -> None:
        """Restart the TTL of items that were read. One that is gone, or archived, stays so."""
        verbs, user_id = self._acting
        for item in items:
            try:
                await verbs.update_message(
                    self.session_id,
                    user_id,
                    item.seq,
                    metadata_updates={READ_AT: now.isoformat()},
                )
            except (MessageNotFoundError, SessionNotFoundError, SessionArchivedError):
                continue

    async def has_items(self, now: datetime) -> bool:
        """Return whether an item has not expired."""
        async for page in self.pages(now, 1):
            if page:
                return True
        return False

    async def sweep(self, now: datetime) -> int:
        """Remove the expired items, and return how many. Each page of items is a read."""
        removed = 0
        async for page in self._pages(_PAGE):
            expired = [message.id for message in page if self._is_expired(message, now)]
            if expired:
                removed += await self._remove_expired(expired, now)
        return removed

    async def _write(self, items: Sequence[NewItem]) -> None:
        """Add items, or update those that are stored, until all are."""
        verbs, user_id = self._acting
        missing = {item.message_id: item for item in items}
        while missing:
            messages = [
                {"id": message_id, "role": ROLE, "content": item.content(item.at)}
                for message_id, item in missing.items()
            ]
            try:
                await verbs.add_messages(self.session_id, user_id, messages)
            except ConflictError:  # some of them are stored
                for message_id in await self._replace(missing):
                    del missing[message_id]
            else:
                return

    async def _replace(self, items: Mapping[str, NewItem]) -> list[str]:
        """Update the items that are stored, and return the ids of the updated ones.

        A message of the user that is no item gives way: an update would leave its role as it is.
        """
        verbs, user_id = self._acting
        found = await self._fetch(list(items))
        if any(message.author_id != user_id for message in found):
            problem = "an item of that key was written by somebody else"
            raise ConflictError(problem)
        others = [message.seq for message in found if message.role != ROLE]
        if others:
            await verbs.delete_messages(self.session_id, user_id, seqs=others)
        stored = [message for message in found if message.role == ROLE]
        call = self._updates.call
        done = await all_of(call(self._update, each, items[each.id]) for each in stored)
        return [each.id for each, is_done in zip(stored, done, strict=True) if is_done]

    async def _update(self, message: Message, item: NewItem) -> bool:
        """Update an item in place; return whether it was still there."""
        verbs, user_id = self._acting
        stored = self._item(message, item.at)
        created_at = item.at if stored is None else stored.created_at
        try:
            await verbs.update_message(
                self.session_id, user_id, message.seq, content=item.content(created_at)
            )
        except MessageNotFoundError:
            return False
        return True

    async def _remove_expired(self, ids: Sequence[str], now: datetime) -> int:
        """Remove those of the items that have expired, unless they were written again."""
        verbs, user_id = self._acting
        pauses = backoff()  # others may update items of the same namespace
        removed, left = 0, list(ids)
        while left:
            try:
                page = await verbs.get_messages(self.session_id, user_id, ids=left)
                expired = [message.id for message in page if self._is_expired(message, now)]
                if expired:
                    removed += await verbs.delete_messages(
                        self.session_id, user_id, ids=expired, expected_version=page.version
                    )
            except ConflictError:
                if not await pauses.pause():
                    break
                continue
            except SessionNotFoundError:
                break
            if not page.has_more:
                break
            read = {message.id for message in page}
            left = [message_id for message_id in left if message_id not in read]
        return removed

    async def _open(self, order: int, *, with_ttl: bool) -> None:
        """Create the session if it is missing, with the tag; that of somebody else is refused."""
        has_ttl_tag = self._opened.get(self.session_id)
        if has_ttl_tag is not None and (has_ttl_tag or not with_ttl):
            return
        verbs, user_id = self._acting
        metadata = {
            "tags": _tags(self.labels),
            _ATTRIBUTE: list(self.labels),
            _ORDER: order,
        }
        session = await verbs.open_session(
            self.session_id, user_id, metadata=metadata, ttl_hours=None
        )
        tags = session.metadata.tags
        if with_ttl and TTL_TAG not in tags:
            ours = [*_tags(self.labels), TTL_TAG]
            others = [tag for tag in tags if tag not in ours]  # a user may have added them
            updates = {"tags": [*ours, *others][: DEFAULT_LIMITS.tags]}
            await verbs.update_session(self.session_id, user_id, metadata_updates=updates)
        self._opened[self.session_id] = with_ttl or TTL_TAG in tags

    async def _fetch(self, ids: Sequence[str]) -> list[Message]:
        verbs, user_id = self._acting
        found: list[Message] = []
        for first in range(0, len(ids), _PAGE):
            wanted = list(ids[first : first + _PAGE])
            while wanted:
                try:
                    page = await verbs.get_messages(self.session_id, user_id, ids=wanted)
                except SessionNotFoundError:
                    return found
                found += page
                if not page.has_more:
                    break
                read = {message.id for message in page}
                wanted = [message_id for message_id in wanted if message_id not in read]
        return found

    async def _pages(self, first: int) -> AsyncIterator[list[Message]]:
        verbs, user_id = self._acting
        seq, limit = 0, min(first, _PAGE)
        while True:
            try:
                page = await verbs.get_session_messages(
                    self.session_id, user_id, limit, after_seq=seq
                )
            except SessionNotFoundError:
                return
            if page:
                yield page
                seq = page[-1].seq
            if not page.has_more:
                return
            limit = min(10 * limit, _PAGE)

    def _item(self, message: Message, now: datetime) -> StoredItem | None:
        """Return the item of a message, ``None`` if it has expired or is not the user's."""
        item = self._own_item(message)
        return None if item is None or item.is_expired(now) else item

    def _is_expired(self, message: Message, now: datetime) -> bool:
        item = self._own_item(message)
        return item is not None and item.is_expired(now)

    def _own_item(self, message: Message) -> StoredItem | None:
        return stored_item(message) if message.author_id == self._acting.user_id else None


def tag_of(prefix: Labels) -> str:
    """Return the tag of the namespaces below a prefix, and of others if it is very long."""
    return id_of_parts(TAG, *prefix[:_MOST_TAGS])


def labels_of(header: SessionMetadata) -> Labels | None:
    """Return the namespace that a session holds; ``None`` for other sessions and copies."""
    labels = header.attributes.get(_ATTRIBUTE)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return None
    is_its_own = header.session_id == id_of_parts(TAG, header.owner_id, *labels)
    return tuple(labels) if is_its_own else None


def order_of(header: SessionMetadata) -> int:
    """Return the place of a namespace among others: when it was created, in microseconds.

    Of a session without a place, the time of its creation, which is in milliseconds.
    """
    order = header.attributes.get(_ORDER)
    return order if isinstance(order, int) else int(header.created_at.timestamp() * 1_000_000)


def _tags(labels: Labels) -> list[str]:
    most = min(len(labels), _MOST_TAGS)
    return list(dict.fromkeys(tag_of(labels[:length]) for length in range(most + 1)))
