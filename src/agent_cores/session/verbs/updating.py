"""Update one message in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from agent_cores.session.access.access_control import Action
from agent_cores.session.codec import decode_message, origin_of
from agent_cores.session.errors import AccessDeniedError, MessageNotFoundError
from agent_cores.session.inputs import expected_state, optional_number, whole_number
from agent_cores.session.models.effects import MessageUpdate
from agent_cores.session.models.representation import hides
from agent_cores.session.models.version import Expected
from agent_cores.session.verbs.base import Verbs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent_cores.session.decision import Decision
    from agent_cores.session.models.change import Applied
    from agent_cores.session.models.message import Message, NewContent, StoredMessage


@hides("turn")
class _Update(msgspec.Struct, frozen=True):
    """The checked arguments of an update."""

    update: MessageUpdate
    expected: Expected
    expected_last_seq: int | None
    turn: str | None


class UpdateVerbs(Verbs):
    """Change what a stored message says."""

    async def update_message(
        self,
        session_id: str,
        user_id: str,
        seq: int,
        *,
        content: NewContent | UnsetType = UNSET,
        metadata_updates: Mapping[str, Any] | None = None,
        metadata_removals: Iterable[str] = (),
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> Message:
        """Replace the content of one message, or set and remove keys of its metadata, in place.

        Its author may, while an editor, and the owner. Returns the message as it is now: its seq,
        id, role, author and ``created_at`` stay, ``updated_at`` is the time of the update, and the
        session's revision rises. The old content is gone from the store. An update that changes
        nothing writes nothing, so that it can be repeated. Raises ``MessageNotFoundError``.

        It costs one read and one write, in proportion to the message.
        """
        decision, applied = await self._update_message(
            session_id,
            user_id,
            seq,
            content=content,
            metadata_updates=metadata_updates,
            metadata_removals=metadata_removals,
            expected_revision=expected_revision,
            expected_version=expected_version,
            expected_last_seq=expected_last_seq,
            turn=turn,
        )
        return decode_message(applied.messages[0], *decision.key)

    async def _update_message(
        self,
        session_id: str,
        user_id: str,
        seq: int,
        *,
        content: object,
        metadata_updates: Mapping[str, Any] | None,
        metadata_removals: Iterable[str],
        expected_last_seq: int | None,
        turn: str | None,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        roles: tuple[str, ...] | None = None,
    ) -> tuple[Decision, Applied]:
        """Update; with ``roles``, only a message of one of these."""

        def checked() -> _Update:
            return _Update(
                self._inputs.message_update(
                    whole_number(seq, "seq", 1), content, metadata_updates, metadata_removals
                ),
                expected_state(expected_revision, expected_version),
                optional_number(expected_last_seq, "expected_last_seq", 0),
                self._inputs.turn(turn),
            )

        given = await self._valid(checked, session_id, user_id, Action.UPDATE_OWN_MESSAGE)
        decision, stored = await self._decide_on_message(session_id, user_id, seq, roles)
        update = msgspec.structs.replace(given.update, id=stored.id, stored_bytes=len(stored.body))
        change = decision.change(
            given.expected,
            update=update,
            expected_last_seq=given.expected_last_seq,
            turn=given.turn,
        )
        return decision, await self._engine.apply(decision, change, done_if=())

    async def _decide_on_message(
        self, session_id: str, user_id: str, seq: int, roles: tuple[str, ...] | None
    ) -> tuple[Decision, StoredMessage]:
        """Return the decision to update the message at a seq, and that message."""
        action, window = Action.UPDATE_OWN_MESSAGE, self._window(1, after_seq=seq - 1)
        read = await self._read_session(session_id, user_id, action, window=window)
        decision = read.decision
        found = [m for m in read.snapshot.messages or () if m.seq == seq]
        if not found:
            raise MessageNotFoundError(seq)
        origin = origin_of(found[0], *decision.key)
        if origin.author_id != user_id:
            decision.action = Action.UPDATE_MESSAGE
            header, caller = decision.header, decision.caller
            self._engine.access.check(header, caller, decision.action, decision.at)
        if roles is not None and origin.role not in roles:
            raise AccessDeniedError("this credential may not update messages of that role")
        return decision, found[0]
