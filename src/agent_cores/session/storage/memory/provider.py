"""``MemoryProvider``: sessions in this process, for tests, demos and single-process programs.

It runs ``apply_change`` directly on what it keeps, and never hands out an object that it keeps.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from datetime import timedelta
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import msgspec
from sortedcontainers import SortedSet

from agent_cores.session.errors import QuotaExceededError
from agent_cores.session.models.change import Applied, Change, State, apply_change
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.query import (
    WALK_LIMIT,
    Cursor,
    Ended,
    Found,
    Query,
    cursor_at,
    matches,
    order_key,
)
from agent_cores.session.models.representation import hides
from agent_cores.session.models.session import SessionMetadata, SessionStatus
from agent_cores.session.models.snapshot import Snapshot
from agent_cores.session.models.times import to_millis
from agent_cores.session.models.values import copy_json
from agent_cores.session.storage.base import Capabilities, Counts
from agent_cores.session.storage.native import NativeProvider
from agent_cores.session.storage.options import AtLeastOne, StoreOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from agent_cores.session.models.snapshot import Window

Key = tuple[str, str]
"""Namespace and session id."""
ListName = tuple[str, ...]
Place = tuple[int, str]
"""Time in milliseconds and session id: where a session stands in a list."""
_DUE: ListName = ("due",)


class MemoryOptions(StoreOptions, frozen=True, kw_only=True):
    """The options of a ``memory://`` URL and of ``MemoryProvider``."""

    store = "Memory"

    max_sessions: AtLeastOne | None = None


@hides("context")
class _Kept(msgspec.Struct):
    header: SessionMetadata
    context: dict[str, bytes]
    messages: list[StoredMessage]  # in order of seq
    ids: dict[str, int]  # message id -> seq


class MemoryProvider(NativeProvider):
    """Sessions in memory.

    ``max_sessions`` bounds them: a create past it is ``QuotaExceededError``.
    """

    capabilities = Capabilities(flat=True)

    def __init__(self, *, max_sessions: int | None = None) -> None:
        self._max_sessions = MemoryOptions.check(max_sessions=max_sessions).max_sessions
        self._sessions: dict[Key, _Kept] = {}
        self._counts: dict[str, int] = {}
        self._lists: dict[ListName, SortedSet[tuple[Any, ...]]] = {_DUE: SortedSet()}

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:  # noqa: ANN401 - as the base has it
        """``memory://`` or ``memory://?max_sessions=1000``."""
        return cls(**options | MemoryOptions.from_query(urlsplit(url).query))

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        """Look at one session."""
        kept = self._sessions.get((namespace, session_id))
        if kept is None:
            return None
        messages, has_more = None, False
        if window is not None:
            messages, has_more = window.fill(_candidates(kept.messages, window))
        return Snapshot(
            header=_copied(kept.header),
            context=dict(kept.context) if context else None,
            messages=messages,
            has_more=has_more,
        )

    async def apply(self, change: Change) -> Applied:
        """Carry out one change; nothing else runs between looking and writing."""
        at = change.applied_at()
        if at is not change.at:
            change = change.as_of(at)
        key = change.namespace, change.session_id
        kept = self._sessions.get(key)
        applied = apply_change(_state(kept, change), change)
        if applied.replayed:
            kept_header = _copied(applied.header)
            return msgspec.structs.replace(applied, before=kept_header, header=kept_header)
        if applied.deleted:
            self._forget(key)
        elif kept is None or applied.before is None:
            self._keep(key, applied)
        else:
            self._update(kept, applied)
        return applied

    async def find(self, query: Query) -> Found:
        """Return one page of a listing."""
        headers: list[SessionMetadata] = []
        skip, seen = query.skip, (0, "")
        bound = WALK_LIMIT + query.skip + query.limit
        for walked, (place, kept) in enumerate(self._walk_places(query)):
            header = kept.header
            if walked >= bound:
                return Found(headers, Cursor(*seen, shared=bool(query.subjects), skip=skip))
            seen = place
            if order_key(header, query) != place or not matches(header, query):
                continue
            if skip:
                skip -= 1
            elif len(headers) == query.limit:
                return Found(headers, cursor_at(headers[-1], query))
            else:
                headers.append(_copied(header))
        return Found(headers)

    def _walk_places(self, query: Query) -> Iterator[tuple[Place, _Kept]]:
        """Yield the sessions that may belong to the listing, highest place first."""
        bound = None if query.after is None else (query.after.millis, query.after.session_id)
        if query.namespace is None or not (query.owner_id or query.subjects):
            everything = [(order_key(kept.header, query), kept) for kept in self._sessions.values()]
            everything.sort(key=itemgetter(0), reverse=True)
            yield from (entry for entry in everything if bound is None or entry[0] < bound)
            return
        lists = (self._lists.get(name) for name in _list_names(query))
        walks = (
            entries.irange(maximum=bound, inclusive=(True, False), reverse=True)
            for entries in lists
            if entries
        )
        last = None
        for place in heapq.merge(*walks, reverse=True):
            if place != last:
                last = place
                yield place, self._sessions[query.namespace, place[1]]

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Take up to ``limit`` ended sessions; put off those that live on."""
        taken: list[Ended] = []
        queue, now = self._lists[_DUE], to_millis(at)
        while queue and len(taken) < limit and queue[0][0] <= now:
            _, namespace, session_id = queue[0]
            kept = self._sessions[namespace, session_id]
            due_at = kept.header.expires_at
            if kept.header.is_expired(at):
                due_at = at + timedelta(seconds=lease_seconds)
                taken.append(Ended.of(_copied(kept.header)))
            self._set_header(kept, msgspec.structs.replace(kept.header, due_at=due_at))
        return taken

    async def count(self, namespace: str | None, at: datetime) -> Counts:
        """Count sessions; those that came due are counted one by one."""
        sessions = len(self._sessions) if namespace is None else self._counts.get(namespace, 0)
        came_due = self._lists[_DUE].irange(maximum=(to_millis(at) + 1,), inclusive=(True, False))
        due = sum(1 for entry in came_due if namespace in {None, entry[1]})
        return Counts(sessions, due)

    def _keep(self, key: Key, applied: Applied) -> None:
        if key in self._sessions:
            self._forget(key)
        elif self._max_sessions is not None and len(self._sessions) >= self._max_sessions:
            detail = f"the store holds {self._max_sessions} sessions, its bound"
            raise QuotaExceededError(detail)
        header = _copied(applied.header)
        self._sessions[key] = kept = _Kept(header, dict(applied.context_set), [], {})
        self._counts[key[0]] = self._counts.get(key[0], 0) + 1
        _add_messages(kept, applied.added)
        for name, entry in _entries(header):
            self._enter(name, entry)

    def _update(self, kept: _Kept, applied: Applied) -> None:
        for seq, message_id in applied.removed:
            del kept.messages[_index(kept.messages, seq)], kept.ids[message_id]
        _add_messages(kept, applied.added)
        for name in applied.context_drop:
            del kept.context[name]
        kept.context.update(applied.context_set)
        self._set_header(kept, applied.header)

    def _forget(self, key: Key) -> None:
        kept = self._sessions.pop(key)
        self._counts[key[0]] -= 1
        for name, entry in _entries(kept.header):
            self._leave(name, entry)

    def _set_header(self, kept: _Kept, header: SessionMetadata) -> None:
        before = kept.header
        kept.header = _copied(header)  # the one before, and this one, belong to the answer
        if _same_places(before, header):
            return
        old, new = set(_entries(before)), set(_entries(header))
        for name, entry in old - new:
            self._leave(name, entry)
        for name, entry in new - old:
            self._enter(name, entry)

    def _enter(self, name: ListName, entry: tuple[Any, ...]) -> None:
        self._lists.setdefault(name, SortedSet()).add(entry)

    def _leave(self, name: ListName, entry: tuple[Any, ...]) -> None:
        entries = self._lists[name]
        entries.discard(entry)
        if not entries and name != _DUE:
            del self._lists[name]


def _same_places(before: SessionMetadata, header: SessionMetadata) -> bool:
    """Whether no list needs a new entry; unchanged fields are the same objects."""
    return (
        before.listed_at is header.listed_at
        and before.due_at is header.due_at
        and before.owner_id is header.owner_id
        and before.archived is header.archived
        and before.tags is header.tags
        and before.grants is header.grants
    )


def _entries(header: SessionMetadata) -> Iterator[tuple[ListName, tuple[Any, ...]]]:
    """Yield the place of a session in each list that it belongs to."""
    namespace, session_id, owner_id = header.namespace, header.session_id, header.owner_id
    if header.due_at is not None:
        yield _DUE, (to_millis(header.due_at), namespace, session_id)
    shelf = "archived" if header.archived else "active"
    place = to_millis(header.listed_at or header.last_active_at), session_id
    yield ("owner", namespace, owner_id, shelf), place
    for tag in header.tags:
        yield ("tag", namespace, owner_id, shelf, tag), place
    for subject, grant in header.grants.items():
        yield ("subject", namespace, subject), (to_millis(grant.granted_at), session_id)


def _list_names(query: Query) -> Iterator[ListName]:
    """Yield the lists that hold every session of the listing."""
    namespace = query.namespace or ""
    for subject in query.subjects:
        yield "subject", namespace, subject
    if query.owner_id is None or query.subjects:
        return
    shelves = (
        ("active", "archived") if query.status in {None, SessionStatus.EXPIRED} else (query.status,)
    )
    for shelf in shelves:
        if query.tags:
            yield "tag", namespace, query.owner_id, shelf, query.tags[0]
        else:
            yield "owner", namespace, query.owner_id, shelf


def _index(messages: list[StoredMessage], seq: int) -> int:
    """Return the index of the first message with that seq or a higher one."""
    return bisect_left(messages, seq, key=attrgetter("seq"))


def _candidates(messages: list[StoredMessage], window: Window) -> Iterator[StoredMessage]:
    """Yield messages from the bound of the window on, in its direction."""
    if window.after_seq is not None:
        first = _index(messages, window.after_seq + 1)
        return (messages[index] for index in range(first, len(messages)))
    before = window.before_seq
    last = len(messages) if before is None else _index(messages, before)
    return (messages[index] for index in range(last - 1, -1, -1))


def _state(kept: _Kept | None, change: Change) -> State:
    if kept is None:
        return State()
    ids, messages = kept.ids, kept.messages
    known = {m.id: messages[_index(messages, ids[m.id])] for m in change.append if m.id in ids}
    if change.is_plain_append:
        return State(header=kept.header, known=known)
    removable: tuple[tuple[int, str], ...] = ()
    if change.remove is not None:
        end = _index(messages, change.remove.last + 1)
        start = max(_index(messages, change.remove.first), end - change.limits.rewind_messages)
        removable = tuple((m.seq, m.id) for m in reversed(messages[start:end]))
    return State(
        header=kept.header,
        context={key: kept.context[key] for key in change.context_keys if key in kept.context},
        known=known,
        removable=removable,
    )


def _add_messages(kept: _Kept, added: tuple[StoredMessage, ...]) -> None:
    for message in added:
        kept.messages.append(message)
        kept.ids[message.id] = message.seq


def _copied(header: SessionMetadata) -> SessionMetadata:
    """Return a header that shares nothing mutable with the one given."""
    attributes = copy_json(header.attributes) if header.attributes else {}
    return msgspec.structs.replace(header, attributes=attributes, grants=dict(header.grants))
