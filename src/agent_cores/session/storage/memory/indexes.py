"""``Indexes``: sorted lists of sessions, for listings and for the sweep.

One list for each owner and shelf (active or archived), one for each tag within it, the same for
each namespace by creation, one for each subject that sessions are shared with, and one of all due
times. Each entry is derived from the session's header alone, so a new header adds and removes
exactly the entries that differ.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from sortedcontainers import SortedSet

from agent_cores.session.models.session import SessionStatus
from agent_cores.session.models.times import to_millis

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from agent_cores.session.models.query import Query
    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.listing import Place

ListName = tuple[str, ...]
Entry = tuple[Any, ...]
_DUE: ListName = ("due",)


class Indexes:
    """The index entries of every session in the store."""

    def __init__(self) -> None:
        self._lists: dict[ListName, SortedSet[Entry]] = {_DUE: SortedSet()}

    def add(self, header: SessionMetadata) -> None:
        """Add the entries of a new session."""
        for name, entry in _entries(header):
            self._add(name, entry)

    def remove(self, header: SessionMetadata) -> None:
        """Remove the entries of a deleted session."""
        for name, entry in _entries(header):
            self._remove(name, entry)

    def replace(self, before: SessionMetadata, header: SessionMetadata) -> None:
        """Replace the entries of a session whose header has changed."""
        if _has_same_entries(before, header):
            return
        old, new = set(_entries(before)), set(_entries(header))
        for name, entry in old - new:
            self._remove(name, entry)
        for name, entry in new - old:
            self._add(name, entry)

    def walk(self, query: Query) -> Iterator[Place]:
        """Yield the places of all sessions that may belong to a listing, highest first.

        The query names a namespace, and an owner or subjects, or goes by creation. A session shared
        with several subjects has a place for each.
        """
        after = None if query.after is None else (query.after.millis, query.after.session_id)
        lists = (self._lists.get(name) for name in _list_names(query))
        return heapq.merge(
            *(
                entries.irange(maximum=after, inclusive=(True, False), reverse=True)
                for entries in lists
                if entries
            ),
            reverse=True,
        )

    def first_due(self, at: datetime) -> tuple[str, str] | None:
        """Return namespace and id of the session that came due first; ``None`` if none has."""
        queue = self._lists[_DUE]
        if not queue or queue[0][0] > to_millis(at):
            return None
        _, namespace, session_id = queue[0]
        return namespace, session_id

    def count_due(self, namespace: str | None, at: datetime) -> int:
        """Count the sessions that came due, one by one; ``None`` means every namespace."""
        came_due = self._lists[_DUE].irange(maximum=(to_millis(at) + 1,), inclusive=(True, False))
        return sum(1 for entry in came_due if namespace in {None, entry[1]})

    def count_archived(self, namespaces: Iterable[str]) -> int:
        """Count the archived sessions of some namespaces, by the lengths of their lists."""
        return sum(len(self._lists.get(("created", name, "archived"), ())) for name in namespaces)

    def _add(self, name: ListName, entry: Entry) -> None:
        entries = self._lists.get(name)
        if entries is None:
            entries = self._lists[name] = SortedSet()
        entries.add(entry)

    def _remove(self, name: ListName, entry: Entry) -> None:
        entries = self._lists[name]
        entries.discard(entry)
        if not entries and name != _DUE:
            del self._lists[name]


def _has_same_entries(before: SessionMetadata, header: SessionMetadata) -> bool:
    """Whether no entry differs; unchanged fields are the same objects."""
    return (
        before.listed_at is header.listed_at
        and before.due_at is header.due_at
        and before.owner_id is header.owner_id
        and before.archived is header.archived
        and before.tags is header.tags
        and before.grants is header.grants
    )


def _entries(header: SessionMetadata) -> Iterator[tuple[ListName, Entry]]:
    """Yield the lists that a session belongs to, each with its entry."""
    namespace, session_id, owner_id = header.namespace, header.session_id, header.owner_id
    if header.due_at is not None:
        yield _DUE, (to_millis(header.due_at), namespace, session_id)
    shelf = "archived" if header.archived else "active"
    place = to_millis(header.listed_at or header.last_active_at), session_id
    yield ("owner", namespace, owner_id, shelf), place
    created = to_millis(header.created_at), session_id
    yield ("created", namespace, shelf), created
    for tag in header.tags:
        yield ("tag", namespace, owner_id, shelf, tag), place
        yield ("created", namespace, shelf, tag), created
    for subject, grant in header.grants.items():
        yield ("subject", namespace, subject), (to_millis(grant.granted_at), session_id)


def _list_names(query: Query) -> Iterator[ListName]:
    """Yield the lists that together hold every session of the listing."""
    namespace = query.namespace or ""
    for subject in query.subjects:
        yield "subject", namespace, subject
    if query.subjects or not (query.by_creation or query.owner_id):
        return
    shelves = (
        ("active", "archived") if query.status in {None, SessionStatus.EXPIRED} else (query.status,)
    )
    for shelf in shelves:
        if query.owner_id is None:
            yield "created", namespace, shelf, *query.tags[:1]
        elif query.tags:
            yield "tag", namespace, query.owner_id, shelf, query.tags[0]
        else:
            yield "owner", namespace, query.owner_id, shelf
