"""Which family a conversation or an entry of Pydantic AI belongs to.

One session for each user holds a message for each of them, found by its id. The directory is
written before what it leads to, so it may lead to nothing, but misses nothing that is stored.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_cores.session.adapters.ids import id_of, id_of_parts
from agent_cores.session.errors import ConflictError, MessageNotFoundError, SessionExistsError
from agent_cores.session.inputs import new_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent_cores.session.adapters.owner import Acting
    from agent_cores.session.models.message import Message

_ENTRY, _CONVERSATION = "entry", "conversation"
_TRIES = 5
_PAGE = 1_000


class Place(NamedTuple):
    """The family of a conversation; ``is_new`` if the directory did not know it before."""

    family: str
    is_new: bool


class Directory:
    """The directory of one user."""

    def __init__(self, acting: Acting, kind: str) -> None:
        self._acting = acting
        self._session_id = id_of_parts(kind, acting.user_id)
        self._is_open = False

    async def family_of_conversation(self, conversation_id: str) -> str | None:
        """Return the family of a conversation, ``None`` if it is not known."""
        return _family(await self._find(_CONVERSATION, conversation_id))

    async def family_of_entry(self, entry_id: str) -> str | None:
        """Return the family of an entry, ``None`` if it is not known."""
        return _family(await self._find(_ENTRY, entry_id))

    async def place(
        self, conversation_id: str, entry_ids: Sequence[str], family: str | None
    ) -> Place:
        """Note new entries of a conversation, and the conversation; return its family.

        ``family`` is where it belongs, ``None`` for a new one.
        """
        verbs, user_id = self._acting
        while True:
            found = await self.family_of_conversation(conversation_id)
            family = found or family or new_id()
            notes = [_note(_ENTRY, entry_id, family) for entry_id in entry_ids]
            if found is None:
                notes.append(_note(_CONVERSATION, conversation_id, family))
            try:
                for first in range(0, len(notes), _PAGE):
                    part = notes[first : first + _PAGE]
                    await verbs.add_messages(self._session_id, user_id, part)
            except ConflictError:  # another writer placed the conversation first
                if await self._remove_odd([note["id"] for note in notes]):
                    continue
                if found is not None or await self.family_of_conversation(conversation_id) is None:
                    raise
                continue
            return Place(family, is_new=found is None)

    async def confirm(self, conversation_id: str, place: Place) -> None:
        """After a conversation was written under an older note: make sure the note stays.

        Whoever deleted an earlier conversation of that id may be about to remove it. Either the
        change here makes that fail, or the note is gone already and is written again.
        """
        if place.is_new:
            return
        verbs, user_id = self._acting
        while True:
            note = await self._find(_CONVERSATION, conversation_id)
            if note is None:
                added = [_note(_CONVERSATION, conversation_id, place.family)]
                await verbs.add_messages(self._session_id, user_id, added)
                return
            try:
                await verbs.update_message(
                    self._session_id,
                    user_id,
                    note.seq,
                    metadata_updates={"confirmed": secrets.token_hex(8)},
                )
            except MessageNotFoundError:
                continue
            return

    async def forget_conversation(
        self, conversation_id: str, family: str, is_absent: Callable[[], Awaitable[bool]]
    ) -> None:
        """Remove the note of a conversation that is not stored; see ``confirm``.

        If others keep changing the directory, the note stays: it leads to nothing, and is used
        again by a conversation of that id.
        """
        verbs, user_id = self._acting
        note_id = _note_id(_CONVERSATION, conversation_id)
        for _ in range(_TRIES):
            page = await verbs.get_messages(self._session_id, user_id, ids=[note_id])
            if not page or _family(page[0]) != family or not await is_absent():
                return
            try:
                await verbs.delete_messages(
                    self._session_id, user_id, ids=[note_id], expected_version=page.version
                )
            except ConflictError:
                continue
            return

    async def forget_entries(self, entry_ids: Sequence[str]) -> None:
        """Remove the notes of entries that are not stored and never will be."""
        verbs, user_id = self._acting
        for first in range(0, len(entry_ids), _PAGE):
            ids = [_note_id(_ENTRY, entry_id) for entry_id in entry_ids[first : first + _PAGE]]
            await verbs.delete_messages(self._session_id, user_id, ids=ids)

    async def _open(self) -> None:
        """Open the session once; it never expires. Somebody else's is refused."""
        if not self._is_open:
            verbs, user_id = self._acting
            session = await verbs.open_session(self._session_id, user_id, ttl_hours=None)
            if session.metadata.owner_id != user_id:  # an operator may open anybody's
                raise SessionExistsError
            self._is_open = True

    async def _find(self, kind: str, name: str) -> Message | None:
        verbs, user_id = self._acting
        await self._open()
        page = await verbs.get_messages(self._session_id, user_id, ids=[_note_id(kind, name)])
        return page[0] if page and page[0].author_id == user_id and _is_note(page[0]) else None

    async def _remove_odd(self, note_ids: Sequence[str]) -> int:
        """Remove what the user wrote otherwise in the place of notes; return how many."""
        verbs, user_id = self._acting
        odd: list[int] = []
        for first in range(0, len(note_ids), _PAGE):
            some = note_ids[first : first + _PAGE]
            page = await verbs.get_messages(self._session_id, user_id, ids=some)
            odd += [each.seq for each in page if each.author_id == user_id and not _is_note(each)]
        if not odd:
            return 0
        return await verbs.delete_messages(self._session_id, user_id, seqs=odd[:_PAGE])


def _note_id(kind: str, name: str) -> str:
    return id_of_parts(kind, name)


def _note(kind: str, name: str, family: str) -> dict[str, Any]:
    return {"id": _note_id(kind, name), "role": kind, "content": family}


def _is_note(message: Message) -> bool:
    """Return whether a message leads to a family: it has the id of a session."""
    content = message.content
    is_text = isinstance(content, str) and id_of(content) == content
    return is_text and message.role in {_ENTRY, _CONVERSATION}


def _family(note: Message | None) -> str | None:
    return None if note is None else str(note.content)
