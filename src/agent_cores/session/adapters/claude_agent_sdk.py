"""``ClaudeSessionStore``: the transcripts of the Claude Agent SDK, on a ``SessionManager``.

Each transcript is a session: the main one, and one for each subpath (a sub-agent). An entry is a
message whose id is made from its ``uuid``. The summary of a main transcript is in the context of
its session, and is written together with the entries that it covers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from claude_agent_sdk import SessionStore, fold_session_summary

from agent_cores.session.adapters.ids import id_of, id_of_parts
from agent_cores.session.adapters.owner import Owner, Store
from agent_cores.session.adapters.reading import messages_after
from agent_cores.session.errors import ConflictError, SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

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
_PAGE = 100
_SUMMARY = "summary"


class ClaudeSessionStore(SessionStore):
    """Keep transcripts of the Claude Agent SDK for one user.

    ``store`` is a manager, a client of the service, the URL of a storage, or ``None`` for the
    configured one. ``user_id`` owns the sessions; stores of different users never meet.
    ``ttl_hours=None`` keeps transcripts until they are deleted.
    """

    def __init__(
        self, store: Store = None, *, user_id: str, ttl_hours: float | None = None
    ) -> None:
        self._acting = Owner(store, user_id).acting()
        self._ttl_hours = ttl_hours

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Append entries in their order. One whose ``uuid`` is stored already is left out.

        More than 500 entries or 4 MiB are written in several parts, one after another.
        """
        for part in _parts(entries):
            if key.get("subpath"):
                await self._write(key, part, {})
            else:
                await self._append_with_summary(key, part)

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Return all entries in order; ``None`` if nothing was written under the key."""
        entries: list[SessionStoreEntry] = []
        try:
            async for page in messages_after(self._acting, self._id(key)):
                entries += [message.content for message in page]
        except SessionNotFoundError:
            return None
        return entries

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """Return the main transcripts of a project, without reading their messages."""
        return [
            {"session_id": session.metadata.attributes["claude_session"], "mtime": _mtime(session)}
            async for session in self._listed(_project_tag(project_key))
        ]

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """Return the summaries of a project's main transcripts. Each costs one read."""
        return [
            {**summary, "mtime": _mtime(session)}
            async for session in self._read_each(_project_tag(project_key))
            if (summary := (session.context or {}).get(_SUMMARY))
        ]

    async def delete(self, key: SessionKey) -> None:
        """Delete a transcript; a main one with all its subpaths."""
        verbs, user_id = self._acting
        ids = [self._id(key)]
        if not key.get("subpath"):
            tag = _subpath_tag(key)
            ids = [listed.metadata.session_id async for listed in self._listed(tag)] + ids
        for session_id in ids:
            try:
                await verbs.delete_session(session_id, user_id)
            except SessionNotFoundError:
                continue

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """Return the subpaths of a main transcript."""
        listed = self._listed(_subpath_tag(key))
        return [session.metadata.attributes["claude_subpath"] async for session in listed]

    async def _append_with_summary(self, key: SessionKey, part: list[dict[str, Any]]) -> None:
        """Write entries and their summary at once, on the version that the summary was read at."""
        verbs, user_id = self._acting
        while True:
            previous: Any = None
            expected: dict[str, Any] = {"expected_last_seq": 0}
            try:
                session = await verbs.get_session(self._id(key), user_id, message_limit=0)
            except SessionNotFoundError:
                pass
            else:
                previous = (session.context or {}).get(_SUMMARY)
                expected = {"expected_version": session.metadata.version}
            entries = [msgspec.json.decode(message["content"]) for message in part]
            folded = fold_session_summary(previous, key, entries)
            try:
                await self._write(key, part, {"context_updates": {_SUMMARY: folded}, **expected})
            except (ConflictError, SessionNotFoundError):
                continue
            return

    async def _write(
        self, key: SessionKey, part: list[dict[str, Any]], options: Mapping[str, Any]
    ) -> None:
        verbs, user_id = self._acting
        subpath = key.get("subpath")
        tag = _subpath_tag(key) if subpath else _project_tag(key["project_key"])
        metadata = {
            "tags": [tag],
            "claude_project": key["project_key"],
            "claude_session": key["session_id"],
            **({"claude_subpath": subpath} if subpath else {}),
        }
        create: Any = {"metadata": metadata, "ttl_hours": self._ttl_hours}
        if "expected_version" in options:
            create = False
        await verbs.add_messages(self._id(key), user_id, part, create=create, **options)

    def _id(self, key: SessionKey) -> str:
        subpath = key.get("subpath")
        names = (key["project_key"], key["session_id"], *([subpath] if subpath else []))
        return id_of_parts("claude", self._acting.user_id, *names)

    async def _read_each(self, tag: str) -> AsyncIterator[Session]:
        """Yield the sessions of a tag with their contexts, without messages."""
        verbs, user_id = self._acting
        async for listed in self._listed(tag):
            try:
                yield await verbs.get_session(listed.metadata.session_id, user_id, message_limit=0)
            except SessionNotFoundError:  # deleted since it was listed
                continue

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


def _parts(entries: list[SessionStoreEntry]) -> Iterator[list[dict[str, Any]]]:
    """Yield entries as messages, in parts that fit into one write; a repeated uuid only once."""
    part: list[dict[str, Any]] = []
    known: set[str] = set()
    size = 0
    for entry in entries:
        content = msgspec.Raw(msgspec.json.encode(entry))
        message: dict[str, Any] = {"role": "entry", "content": content}
        uuid = entry.get("uuid")
        if isinstance(uuid, str):
            if uuid in known:
                continue
            known.add(uuid)
            message["id"] = id_of(uuid)
        if part and (len(part) == _PART_ITEMS or size + len(content) > _PART_BYTES):
            yield part
            part, size = [], 0
        part.append(message)
        size += len(content)
    if part:
        yield part


def _project_tag(project_key: str) -> str:
    return id_of_parts("claude", project_key)


def _subpath_tag(key: SessionKey | SessionListSubkeysKey) -> str:
    return id_of_parts("claude", key["project_key"], key["session_id"])


def _mtime(session: Session) -> int:
    """Return the time of the latest write, in milliseconds since 1970."""
    return round(session.metadata.updated_at.timestamp() * 1000)
