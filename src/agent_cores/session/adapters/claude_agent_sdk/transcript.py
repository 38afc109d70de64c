"""``Transcript``: the session of one transcript, to which batches of entries are appended."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from claude_agent_sdk import fold_session_summary

from agent_cores.session.adapters.claude_agent_sdk.known import State
from agent_cores.session.adapters.claude_agent_sdk.parts import (
    MOST,
    ids_of_long,
    part_from,
    start_of_entry,
    without,
)
from agent_cores.session.adapters.layouts.claude_agent_sdk import (
    ROLES,
    context_of,
    metadata_of,
    session_id_of,
    summary_in,
)
from agent_cores.session.adapters.repeating import backoff
from agent_cores.session.errors import (
    ConflictError,
    RevisionMismatchError,
    SessionExistsError,
    SessionNotFoundError,
    StaleHeaderError,
)
from agent_cores.session.models.version import NO_SESSION, is_same_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_agent_sdk import SessionKey, SessionSummaryEntry

    from agent_cores.session.adapters.claude_agent_sdk.known import Known
    from agent_cores.session.adapters.claude_agent_sdk.parts import Item, Part
    from agent_cores.session.adapters.owner import Acting

_CHANGED_BY_OTHERS = (RevisionMismatchError, StaleHeaderError, SessionNotFoundError)
"""Errors after which the session is read again. Any other conflict is about an id of a message."""


class Transcript:
    """The transcript of a key. ``known`` is what this process knows of it and of others."""

    def __init__(
        self, acting: Acting, key: SessionKey, known: Known, *, ttl_hours: float | None
    ) -> None:
        self._acting = acting
        self._key = key
        self._id = session_id_of(acting.user_id, key)
        self._known = known
        self._ttl_hours = ttl_hours

    async def append(self, items: Sequence[Item]) -> None:
        """Append the messages of entries, part after part; entries whose uuid is stored, not."""
        long = ids_of_long(items)
        if long:  # its pieces need not be written if another entry has its uuid
            items = without(items, await self._stored(long))
        pauses = backoff()
        first, version = 0, NO_SESSION
        while first < len(items):
            part = part_from(items, first)
            try:
                version = await self._append_part(part, version)
            except SessionNotFoundError:  # others have deleted it, with an entry's first pieces
                if not part.begins_inside or not await pauses.pause():
                    raise
                first = start_of_entry(items, first)
            else:
                first = part.end

    async def _append_part(self, part: Part, before: str) -> str:
        """Write a part, and at once the summary if the part changes it.

        Returns the version that the write expected: that at which the summary was read. A part
        that begins inside of an entry is only written to the session of the part ``before``, which
        expected that version: ``SessionNotFoundError`` if that session is gone.

        The state in which the session was seen is remembered: the next append that leaves the
        summary as it is reads nothing.
        """
        items = part.items
        pauses = backoff()
        state = self._known.state(self._id)
        while True:
            state = state or await self._read()
            if part.ends_inside and state.version == NO_SESSION:
                state = await self._create()  # the next part has to know which session this is
            if part.begins_inside and not is_same_session(state.version, before):
                raise SessionNotFoundError
            changed = self._changed_summary(state.summary, items)
            try:
                await self._write(items, state.version, changed)
            except _CHANGED_BY_OTHERS:
                self._known.forget(self._id)
                state = None
                if not await pauses.pause():
                    raise
            except ConflictError as error:  # a uuid is stored, with another entry
                items = await self._without_stored(items, error)
                if not items:
                    return state.version
            else:
                self._remember(state, changed)
                return state.version

    def _changed_summary(
        self, known: SessionSummaryEntry | None, items: Sequence[Item]
    ) -> SessionSummaryEntry | None:
        """Return the summary after these items; ``None`` if they leave it as it is.

        Only a main transcript has one.
        """
        entries = [item.entry for item in items if item.entry is not None]
        if not entries or self._key.get("subpath"):
            return None
        folded = fold_session_summary(known, self._key, entries)
        return None if known is not None and folded["data"] == known["data"] else folded

    def _remember(self, state: State, changed: SessionSummaryEntry | None) -> None:
        """Note the state that a write has left as it is; after a change it has to be read."""
        if changed is None and state.version != NO_SESSION:
            self._known.seen(self._id, state)
        else:
            self._known.forget(self._id)

    async def _write(
        self, items: Sequence[Item], version: str, summary: SessionSummaryEntry | None
    ) -> None:
        verbs, user_id = self._acting
        create: Any = False
        if version == NO_SESSION:
            create = {"metadata": metadata_of(self._key), "ttl_hours": self._ttl_hours}
        await verbs.add_messages(
            self._id,
            user_id,
            [item.message for item in items],
            create=create,
            context_updates=None if summary is None else context_of(summary),
            expected_version=version,
        )

    async def _without_stored(self, items: Sequence[Item], error: ConflictError) -> list[Item]:
        """Return the items whose ids are not stored, or of many some that are.

        Raises the error if all are new: then somebody else wrote a message of that id.
        """
        ids = [item.message["id"] for item in items if "id" in item.message]
        new = without(items, await self._stored(ids))
        if len(new) == len(items):
            raise error
        return new

    async def _stored(self, ids: list[str]) -> set[str]:
        """Return which of these ids the user's messages have; of many perhaps only some."""
        verbs, user_id = self._acting
        stored: set[str] = set()
        for first in range(0, len(ids), MOST):
            some = ids[first : first + MOST]
            try:
                page = await verbs.get_messages(self._id, user_id, ids=some)
            except SessionNotFoundError:
                break
            stored |= {each.id for each in page if each.author_id == user_id and each.role in ROLES}
        return stored

    async def _read(self) -> State:
        verbs, user_id = self._acting
        try:
            session = await verbs.get_session(self._id, user_id, message_limit=0)
        except SessionNotFoundError:
            return State()
        if session.metadata.owner_id != user_id:
            raise SessionExistsError
        return State(session.metadata.version, summary_in(session.context, self._key["session_id"]))

    async def _create(self) -> State:
        """Create the session if it is missing, and return its state."""
        verbs, user_id = self._acting
        with suppress(SessionExistsError):  # others were faster
            await verbs.create_session(
                user_id, metadata_of(self._key), session_id=self._id, ttl_hours=self._ttl_hours
            )
        return await self._read()
