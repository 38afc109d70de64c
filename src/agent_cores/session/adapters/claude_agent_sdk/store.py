"""``ClaudeSessionStore``: the transcripts of the Claude Agent SDK, on a ``SessionManager``.

Each transcript is a session: the main one, and one for each subpath (a sub-agent). An entry is a
message whose id is made from its ``uuid``; what is longer than a message holds is in pieces before
it. The summary of a main transcript is in the context of its session, and is written together with
the entries that it covers.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_agent_sdk import SessionStore, fold_session_summary

from agent_cores.session.adapters.ids import id_of
from agent_cores.session.adapters.layouts.claude_agent_sdk import (
    DEEPEST,
    LONG,
    ROLES,
    context_of,
    entry_messages,
    entry_of,
    metadata_of,
    project_tag,
    session_id_of,
    subpath_tag,
    summary_in,
)
from agent_cores.session.adapters.owner import Owner, Store
from agent_cores.session.adapters.reading import messages_after
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import ConflictError, SessionExistsError, SessionNotFoundError
from agent_cores.session.models.values import check_json
from agent_cores.session.models.version import NO_SESSION, is_same_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from claude_agent_sdk import (
        SessionKey,
        SessionListSubkeysKey,
        SessionStoreEntry,
        SessionStoreListEntry,
        SessionSummaryEntry,
    )

    from agent_cores.session.adapters.pieces import Draft
    from agent_cores.session.models.session import Session

_PART_ITEMS = 500
_PART_BYTES = 4 * 1024 * 1024
_PAGE = 100
_READ_TOGETHER = 8
_MOST_KNOWN = 1_000
"""Transcripts whose summaries a store remembers."""


class _Item(NamedTuple):
    """A message to add, the entry that it shows, if any, and the id of the message that does."""

    message: Draft
    entry: SessionStoreEntry | None
    shown_by: str | None


class _Known(NamedTuple):
    """The summary of a transcript, and the version of its session."""

    summary: SessionSummaryEntry | None
    version: str = NO_SESSION


class ClaudeSessionStore(SessionStore):
    """Keep transcripts of the Claude Agent SDK for one user.

    ``store`` is a manager, a client of the service, the URL of a storage, or ``None`` for the
    configured one. ``user_id`` owns the sessions; stores of different users never meet. With
    ``operator`` instead they belong to the user of that name, and each call is audited.
    ``ttl_hours=None`` keeps transcripts until they are deleted.
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
        self._ttl_hours = ttl_hours
        self._known: dict[str, _Known] = {}

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Append entries in their order. One whose ``uuid`` is stored already is left out.

        More than 500 entries or 4 MiB are written in several parts, one after another. An entry
        may have 64 MiB as JSON; it is there with the last of its parts, never before.
        """
        items = _items(entries)
        long = [item.shown_by for item in items if item.message["role"] == LONG and item.shown_by]
        if long:  # its pieces need not be written if another entry has its uuid
            items = _without(items, await self._stored(self._id(key), long))
        pauses = backoff()  # others may delete the session while a long entry is written
        first, version = 0, NO_SESSION
        while first < len(items):
            end = _end_of_part(items, first)
            after = version if _goes_on(items, first) else None
            try:
                version = await self._append(
                    key, items[first:end], after=after, goes_on=_goes_on(items, end)
                )
            except SessionNotFoundError:
                if after is None or not await pauses.pause():
                    raise
                while _goes_on(items, first):
                    first -= 1
                continue
            first = end

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Return all entries in order; ``None`` if nothing was written under the key."""
        entries: list[SessionStoreEntry] = []
        pieces: dict[str, Any] = {}
        user_id = self._acting.user_id
        try:
            async for page in messages_after(self._acting, self._id(key)):
                # What others wrote is not the user's: ids can be guessed, and sessions be shared.
                # A message of another role is no entry: its author may append only some roles.
                entries += [
                    entry
                    for message in page
                    if message.author_id == user_id
                    if (entry := entry_of(message, pieces)) is not None
                ]
        except SessionNotFoundError:
            return None
        return entries or None

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """Return the main transcripts of a project, without reading their messages."""
        return [
            {"session_id": name, "mtime": _mtime(session)}
            async for session in self._listed(project_tag(project_key))
            if isinstance(name := session.metadata.attributes.get("claude_session"), str)
        ]

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """Return the summaries of a project's main transcripts. Each costs one read."""
        return [
            {**summary, "mtime": _mtime(session)}
            async for session in self._read_each(project_tag(project_key))
            if (summary := summary_in(session.context))
        ]

    async def delete(self, key: SessionKey) -> None:
        """Delete a transcript; a main one with all its subpaths."""
        verbs, user_id = self._acting
        ids = [self._id(key)]
        if not key.get("subpath"):
            tag = subpath_tag(key)
            ids = [listed.metadata.session_id async for listed in self._listed(tag)] + ids
        for session_id in ids:
            try:
                await verbs.delete_session(session_id, user_id)
            except SessionNotFoundError:
                continue

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """Return the subpaths of a main transcript."""
        return [
            subpath
            async for session in self._listed(subpath_tag(key))
            if isinstance(subpath := session.metadata.attributes.get("claude_subpath"), str)
        ]

    async def _append(
        self, key: SessionKey, part: list[_Item], *, after: str | None, goes_on: bool
    ) -> str:
        """Write entries, and at once the summary of a main transcript if they change it.

        The write expects the version at which the summary was read; one that another process has
        changed is read again. What was read is remembered: an append that leaves the summary as it
        is reads nothing.

        Returns the version that it expected. The part goes on with a long entry of which the first
        pieces were written ``after`` that version: ``SessionNotFoundError`` if their session is
        gone. ``goes_on`` says that the next part does so.
        """
        session_id = self._id(key)
        pauses = backoff()  # others may write the same summary
        known = self._known.get(session_id)
        while True:
            known = known or await self._read(session_id)
            if goes_on and known.version == NO_SESSION:
                known = await self._create(key)
            if after is not None and not is_same_session(known.version, after):
                raise SessionNotFoundError
            entries = [item.entry for item in part if item.entry is not None]
            has_summary = bool(entries) and not key.get("subpath")
            summary = _changed(known.summary, key, entries) if has_summary else None
            try:
                await self._write(key, part, known.version, summary)
            except (ConflictError, SessionNotFoundError) as error:
                if type(error) is ConflictError:  # a uuid is stored with another entry
                    part = await self._new(session_id, part, error)
                    if not part:
                        return known.version
                    continue
                self._known.pop(session_id, None)
                known = None
                if not await pauses.pause():
                    raise
                continue
            self._known.pop(session_id, None)
            if summary is None and known.version != NO_SESSION:
                self._remember(session_id, known)
            return known.version

    async def _new(self, session_id: str, part: list[_Item], error: ConflictError) -> list[_Item]:
        """Return the messages whose ids are not stored, or of many some that are.

        Raises the error if all are new: then somebody else wrote a message of that id.
        """
        ids = [item.message["id"] for item in part if "id" in item.message]
        new = _without(part, await self._stored(session_id, ids))
        if len(new) == len(part):
            raise error
        return new

    async def _stored(self, session_id: str, ids: list[str]) -> set[str]:
        """Return which of these ids the user's messages have; of many perhaps only some."""
        verbs, user_id = self._acting
        stored: set[str] = set()
        for first in range(0, len(ids), _PART_ITEMS):
            some = ids[first : first + _PART_ITEMS]
            try:
                page = await verbs.get_messages(session_id, user_id, ids=some)
            except SessionNotFoundError:
                break
            stored |= {each.id for each in page if each.author_id == user_id and each.role in ROLES}
        return stored

    async def _read(self, session_id: str) -> _Known:
        verbs, user_id = self._acting
        try:
            session = await verbs.get_session(session_id, user_id, message_limit=0)
        except SessionNotFoundError:
            return _Known(None)
        if session.metadata.owner_id != user_id:
            raise SessionExistsError
        return _Known(summary_in(session.context), session.metadata.version)

    async def _create(self, key: SessionKey) -> _Known:
        """Create the session if it is missing, and return its summary and version."""
        verbs, user_id = self._acting
        session_id = self._id(key)
        with suppress(SessionExistsError):  # others were faster
            await verbs.create_session(
                user_id, metadata_of(key), session_id=session_id, ttl_hours=self._ttl_hours
            )
        return await self._read(session_id)

    def _remember(self, session_id: str, known: _Known) -> None:
        self._known[session_id] = known
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]

    async def _write(
        self,
        key: SessionKey,
        part: list[_Item],
        version: str,
        summary: SessionSummaryEntry | None,
    ) -> None:
        verbs, user_id = self._acting
        create: Any = False
        if version == NO_SESSION:
            create = {"metadata": metadata_of(key), "ttl_hours": self._ttl_hours}
        updates = None if summary is None else context_of(summary)
        await verbs.add_messages(
            self._id(key),
            user_id,
            [item.message for item in part],
            create=create,
            context_updates=updates,
            expected_version=version,
        )

    def _id(self, key: SessionKey) -> str:
        return session_id_of(self._acting.user_id, key)

    async def _read_each(self, tag: str) -> AsyncIterator[Session]:
        """Yield the sessions of a tag with their contexts, without messages, some at a time."""
        group: list[str] = []
        async for listed in self._listed(tag):
            group.append(listed.metadata.session_id)
            if len(group) == _READ_TOGETHER:
                for session in await self._read_all(group):
                    yield session
                group = []
        for session in await self._read_all(group):
            yield session

    async def _read_all(self, ids: list[str]) -> list[Session]:
        """Read sessions at once; those that were deleted since are left out."""
        verbs, user_id = self._acting
        reads = (verbs.get_session(session_id, user_id, message_limit=0) for session_id in ids)
        found = await asyncio.gather(*reads, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, SessionNotFoundError):
                raise each
        return [each for each in found if not isinstance(each, BaseException)]

    async def _listed(self, tag: str) -> AsyncIterator[Session]:
        verbs, user_id = self._acting
        cursor: str | None = None
        while True:
            page = await verbs.list_user_sessions(user_id, tags=[tag], limit=_PAGE, cursor=cursor)
            for session in page:
                yield session
            cursor = page.next_cursor
            if cursor is None:
                return


def _items(entries: list[SessionStoreEntry]) -> list[_Item]:
    """Return the messages of entries; a repeated uuid only once."""
    items: list[_Item] = []
    known: set[str] = set()
    for place, entry in enumerate(entries):
        field = f"entries/{place}"
        check_json(entry, field, DEEPEST)
        message_id = None
        uuid = entry.get("uuid")
        if isinstance(uuid, str):
            if uuid in known:
                continue
            known.add(uuid)
            message_id = id_of(uuid)
        *pieces, shown = entry_messages(entry, message_id, field)
        shown_by = shown.get("id")
        items += [_Item(piece, None, shown_by) for piece in pieces]
        items.append(_Item(shown, entry, shown_by))
    return items


def _without(items: list[_Item], stored: set[str]) -> list[_Item]:
    """Return the items that are not stored, and belong to no entry that is."""
    return [
        item
        for item in items
        if item.message.get("id") not in stored and item.shown_by not in stored
    ]


def _goes_on(items: list[_Item], place: int) -> bool:
    """Return whether the entry of the item before a place goes on there."""
    if not 0 < place < len(items):
        return False
    return items[place].shown_by is not None and items[place].shown_by == items[place - 1].shown_by


def _end_of_part(items: list[_Item], first: int) -> int:
    """Return the end of the items that fit into one write."""
    size = 0
    for place in range(first, len(items)):
        size += len(items[place].message["content"])
        if place > first and (place - first == _PART_ITEMS or size > _PART_BYTES):
            return place
    return len(items)


def _changed(
    known: SessionSummaryEntry | None, key: SessionKey, entries: list[SessionStoreEntry]
) -> SessionSummaryEntry | None:
    """Return the summary after these entries, ``None`` if they leave it as it is."""
    folded = fold_session_summary(known, key, entries)
    return None if known is not None and folded["data"] == known["data"] else folded


def _mtime(session: Session) -> int:
    """Return the time of the latest write, in milliseconds since 1970."""
    return round(session.metadata.last_active_at.timestamp() * 1000)
