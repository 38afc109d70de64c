"""``ClaudeSessionStore``: the transcripts of the Claude Agent SDK, on a ``SessionManager``.

Each transcript is a session: the main one, and one for each subpath (a sub-agent). An entry is a
message whose id is made from its ``uuid``. The summary of a main transcript is in the context of
its session, and is written together with the entries that it covers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from claude_agent_sdk import SessionStore, fold_session_summary

from agent_cores.session.adapters.claude_agent_sdk_layout import (
    ROLE,
    context_of,
    decoded,
    encoded,
    metadata_of,
    project_tag,
    session_id_of,
    subpath_tag,
    summary_in,
)
from agent_cores.session.adapters.ids import id_of
from agent_cores.session.adapters.owner import Owner, Store
from agent_cores.session.adapters.reading import messages_after
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import ConflictError, SessionExistsError, SessionNotFoundError
from agent_cores.session.models.values import check_json
from agent_cores.session.models.version import NO_SESSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from claude_agent_sdk import (
        SessionKey,
        SessionListSubkeysKey,
        SessionStoreEntry,
        SessionStoreListEntry,
        SessionSummaryEntry,
    )

    from agent_cores.session.models.session import Session

_PART_ITEMS = 500
_PART_BYTES = 4 * 1024 * 1024
_DEPTH = 1_000
_PAGE = 100
_READ_TOGETHER = 8
_MOST_KNOWN = 1_000
"""Transcripts whose summaries a store remembers."""


class Part(NamedTuple):
    """Entries that are written together, and the same as messages."""

    entries: list[SessionStoreEntry]
    messages: list[dict[str, Any]]


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

        More than 500 entries or 4 MiB are written in several parts, one after another.
        """
        for part in _parts(entries):
            await self._append(key, part)

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Return all entries in order; ``None`` if nothing was written under the key."""
        entries: list[SessionStoreEntry] = []
        user_id = self._acting.user_id
        try:
            async for page in messages_after(self._acting, self._id(key)):
                # What others wrote is not the user's: ids can be guessed, and sessions be shared.
                # A message of another role is no entry: its author may append only some roles.
                # Nor is what is no object: nobody has appended that here.
                entries += [
                    entry
                    for message in page
                    if message.author_id == user_id and message.role == ROLE
                    if isinstance(entry := decoded(message.content), dict)
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

    async def _append(self, key: SessionKey, part: Part) -> None:
        """Write entries, and at once the summary of a main transcript if they change it.

        The write expects the version at which the summary was read; one that another process has
        changed is read again. What was read is remembered: an append that leaves the summary as it
        is reads nothing.
        """
        session_id = self._id(key)
        pauses = backoff()  # others may write the same summary
        known = self._known.get(session_id)
        while True:
            known = known or await self._read(session_id)
            summary = None if key.get("subpath") else _changed(known.summary, key, part.entries)
            try:
                await self._write(key, part, known.version, summary)
            except (ConflictError, SessionNotFoundError) as error:
                if type(error) is ConflictError:  # a uuid is stored with another entry
                    part = await self._new(session_id, part, error)
                    if not part.messages:
                        return
                    continue
                self._known.pop(session_id, None)
                known = None
                if not await pauses.pause():
                    raise
                continue
            self._known.pop(session_id, None)
            if summary is None and known.version != NO_SESSION:
                self._remember(session_id, known)
            return

    async def _new(self, session_id: str, part: Part, error: ConflictError) -> Part:
        """Return the entries whose uuids are not stored, or of many some that are.

        Raises the error if all are new: then somebody else wrote a message of that id.
        """
        verbs, user_id = self._acting
        ids = [message["id"] for message in part.messages if "id" in message]
        page = await verbs.get_messages(session_id, user_id, ids=ids)
        stored = {each.id for each in page if (each.author_id, each.role) == (user_id, ROLE)}
        both = zip(part.entries, part.messages, strict=True)
        new = [pair for pair in both if pair[1].get("id") not in stored]
        if len(new) == len(part.messages):
            raise error
        return Part([entry for entry, _ in new], [message for _, message in new])

    async def _read(self, session_id: str) -> _Known:
        verbs, user_id = self._acting
        try:
            session = await verbs.get_session(session_id, user_id, message_limit=0)
        except SessionNotFoundError:
            return _Known(None)
        if session.metadata.owner_id != user_id:
            raise SessionExistsError
        return _Known(summary_in(session.context), session.metadata.version)

    def _remember(self, session_id: str, known: _Known) -> None:
        self._known[session_id] = known
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]

    async def _write(
        self,
        key: SessionKey,
        part: Part,
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
            part.messages,
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


def _parts(entries: list[SessionStoreEntry]) -> Iterator[Part]:
    """Yield entries in parts that fit into one write; a repeated uuid only once."""
    part = Part([], [])
    known: set[str] = set()
    size = 0
    for place, entry in enumerate(entries):
        check_json(entry, f"entries/{place}", _DEPTH)
        content = msgspec.Raw(encoded(entry))
        message: dict[str, Any] = {"role": ROLE, "content": content}
        uuid = entry.get("uuid")
        if isinstance(uuid, str):
            if uuid in known:
                continue
            known.add(uuid)
            message["id"] = id_of(uuid)
        if part.messages and (
            len(part.messages) == _PART_ITEMS or size + len(content) > _PART_BYTES
        ):
            yield part
            part, size = Part([], []), 0
        part.entries.append(entry)
        part.messages.append(message)
        size += len(content)
    if part.messages:
        yield part


def _changed(
    known: SessionSummaryEntry | None, key: SessionKey, entries: list[SessionStoreEntry]
) -> SessionSummaryEntry | None:
    """Return the summary after these entries, ``None`` if they leave it as it is."""
    folded = fold_session_summary(known, key, entries)
    return None if known is not None and folded["data"] == known["data"] else folded


def _mtime(session: Session) -> int:
    """Return the time of the latest write, in milliseconds since 1970."""
    return round(session.metadata.last_active_at.timestamp() * 1000)
