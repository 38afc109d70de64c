"""``ClaudeSessionStore``: the transcripts of the Claude Agent SDK, on a ``SessionManager``.

Each transcript is a session: the main one, and one for each subpath (a sub-agent). An entry is a
message whose id is made from its ``uuid``; what is longer than a message holds is in pieces before
it. The summary of a main transcript is in the context of its session, and is written together with
the entries that it covers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_agent_sdk import SessionStore

from agent_cores.session.adapters.claude_agent_sdk.known import Known
from agent_cores.session.adapters.claude_agent_sdk.parts import items_of
from agent_cores.session.adapters.claude_agent_sdk.transcript import Transcript
from agent_cores.session.adapters.layouts.claude_agent_sdk import (
    entry_of,
    key_of,
    project_tag,
    session_id_of,
    subpath_tag,
    summary_in,
)
from agent_cores.session.adapters.owner import Owner, Store
from agent_cores.session.adapters.reading import messages_after, sessions_tagged
from agent_cores.session.errors import SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from claude_agent_sdk import (
        SessionKey,
        SessionListSubkeysKey,
        SessionStoreEntry,
        SessionStoreListEntry,
        SessionSummaryEntry,
    )

    from agent_cores.session.models.session import Session
    from agent_cores.session.verbs.listing import Included


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
        self._known = Known()

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Append entries in their order. One whose ``uuid`` is stored already is left out.

        More than 500 entries or 4 MiB are written in several parts, one after another. An entry
        may have 64 MiB as JSON; it is there with the last of its parts, never before.
        """
        transcript = Transcript(self._acting, key, self._known, ttl_hours=self._ttl_hours)
        await transcript.append(items_of(entries))

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
            {"session_id": key["session_id"], "mtime": _mtime(session)}
            async for key, session in self._transcripts(project_tag(project_key))
        ]

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """Return the summaries of a project's main transcripts."""
        transcripts = self._transcripts(project_tag(project_key), include=("context",))
        return [
            {**summary, "mtime": _mtime(session)}
            async for key, session in transcripts
            if (summary := summary_in(session.context, key["session_id"]))
        ]

    async def delete(self, key: SessionKey) -> None:
        """Delete a transcript; a main one with all its subpaths."""
        verbs, user_id = self._acting
        ids = [self._id(key)]
        if not key.get("subpath"):
            ids = [found.id async for _, found in self._transcripts(subpath_tag(key))] + ids
        for session_id in ids:
            try:
                await verbs.delete_session(session_id, user_id)
            except SessionNotFoundError:
                continue

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """Return the subpaths of a main transcript."""
        return [
            found["subpath"]
            async for found, _ in self._transcripts(subpath_tag(key))
            if "subpath" in found
        ]

    def _id(self, key: SessionKey) -> str:
        return session_id_of(self._acting.user_id, key)

    async def _transcripts(
        self, tag: str, *, include: Iterable[Included] = ()
    ) -> AsyncIterator[tuple[dict[str, str], Session]]:
        """Yield the transcripts of a tag, each with its key and its session's header."""
        async for session in sessions_tagged(self._acting, tag, include=include):
            key = key_of(session.metadata)
            if key is not None:
                yield key, session


def _mtime(session: Session) -> int:
    """Return the time of the latest write, in milliseconds since 1970."""
    return round(session.metadata.last_active_at.timestamp() * 1000)
