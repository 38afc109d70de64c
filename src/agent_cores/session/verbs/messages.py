"""Append, read and remove messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from agent_cores.session.access.access_control import Action
from agent_cores.session.codec import author_of, decode_message, decode_messages
from agent_cores.session.errors import (
    InvalidInputError,
    MessageNotFoundError,
)
from agent_cores.session.inputs import expected_state, optional_number, whole_number
from agent_cores.session.models.message import Message, NewMessage
from agent_cores.session.models.selection import SeqRange
from agent_cores.session.models.session import Page
from agent_cores.session.models.snapshot import Window
from agent_cores.session.models.version import NOTHING
from agent_cores.session.verbs.base import Verbs
from agent_cores.session.verbs.selecting import named_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent_cores.session.decision import Decision, ReadResult
    from agent_cores.session.models.change import Applied
    from agent_cores.session.models.message import NewContent, StoredMessage


class MessageVerbs(Verbs):
    """Verbs on the messages of a session."""

    async def add_message(
        self,
        session_id: str,
        user_id: str,
        role: str,
        content: NewContent,
        *,
        message_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        context_updates: Mapping[str, Any] | None = None,
        context_removals: Iterable[str] = (),
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> Message:
        """Append one message and return it as stored.

        With a ``message_id`` the call can be repeated safely: the same message is returned as it is
        stored, another one under that id raises ``ConflictError``. ``turn`` is the token of a turn:
        the append is refused with ``TurnLostError`` if that turn is no longer held. Context is
        written with the message or not at all. The 100,000th message costs what the 10th does.
        """
        decision = await self._decide(session_id, user_id, Action.APPEND)
        message = NewMessage(role, content, message_id, metadata)
        applied = await self._append(
            decision,
            lambda: (self._inputs.one_message(message, user_id, decision.at),),
            context_updates=context_updates,
            context_removals=context_removals,
            expected_revision=expected_revision,
            expected_version=expected_version,
            expected_last_seq=expected_last_seq,
            turn=turn,
        )
        return decode_message(applied.messages[0], *decision.key)

    async def add_messages(
        self,
        session_id: str,
        user_id: str,
        messages: Sequence[NewMessage | Mapping[str, Any]],
        *,
        context_updates: Mapping[str, Any] | None = None,
        context_removals: Iterable[str] = (),
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> list[Message]:
        """Append many messages in one write, all or nothing; return them as stored.

        Each is a ``NewMessage`` or a mapping with ``role``, ``content`` and optionally ``id`` and
        ``metadata``. Messages that are stored already are returned as stored; new ones are added.
        An operator may also give an ``ImportedMessage``, or ``created_at`` and ``author_id`` in the
        mapping.
        """
        decision = await self._decide(session_id, user_id, Action.APPEND)
        applied = await self._append(
            decision,
            lambda: self._drafts(messages, user_id, decision.at),
            context_updates=context_updates,
            context_removals=context_removals,
            expected_revision=expected_revision,
            expected_version=expected_version,
            expected_last_seq=expected_last_seq,
            turn=turn,
        )
        return decode_messages(applied.messages, *decision.key)

    async def _append(
        self,
        decision: Decision,
        drafts: Callable[[], tuple[StoredMessage, ...]],
        *,
        context_updates: Mapping[str, Any] | None,
        context_removals: Iterable[str],
        expected_last_seq: int | None,
        turn: str | None,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        whole: bool = False,
    ) -> Applied:
        """Append; with ``whole``, only if all messages are new or all are stored already."""
        inputs = self._inputs
        try:
            append = drafts()
            context_set = inputs.context(context_updates)
            change = decision.change(
                NOTHING
                if expected_revision is None and expected_version is None
                else expected_state(expected_revision, expected_version),
                append=append,
                whole_append=whole,
                context_set=context_set,
                context_drop=inputs.context_removals(context_removals, context_set),
                expected_last_seq=optional_number(expected_last_seq, "expected_last_seq", 0),
                turn=None if turn is None else inputs.name(turn, "turn"),
            )
        except InvalidInputError:
            await self._engine.confirm(decision)  # a caller who may not append gets that error
            raise
        return await self._engine.apply(decision, change, done_if=())

    async def get_session_messages(
        self,
        session_id: str,
        user_id: str,
        limit: int = 50,
        *,
        before_seq: int | None = None,
        after_seq: int | None = None,
    ) -> Page[Message]:
        """Return the latest ``limit`` messages, or those next to a seq, always ascending.

        A page ends at 4 MiB (``SESSION_MAX_PAGE_BYTES``) but holds at least one message if there
        is one.
        """
        window = await self._valid(
            lambda: self._window(limit, before_seq, after_seq), session_id, user_id, Action.READ
        )
        read = await self._read_session(session_id, user_id, Action.READ, window=window)
        await self._renew_by_reading(read)
        return self._messages_page(read)

    async def get_messages(
        self, session_id: str, user_id: str, *, ids: Iterable[str]
    ) -> Page[Message]:
        """Return the messages with these ids, at most 1,000, in ascending order of seq.

        Ids without a message are left out. The page ends at 4 MiB (``SESSION_MAX_PAGE_BYTES``) but
        holds at least one message if there is one; if it ``has_more``, ask again for the ids that
        are missing from it. The cost is proportional to the messages named.
        """
        limits = self._engine.limits
        named = await self._valid(
            lambda: named_ids(self._inputs, ids, limits.page_items),
            session_id,
            user_id,
            Action.READ,
        )
        window = Window.of(named, max_bytes=limits.page_bytes) if named.count else None
        read = await self._read_session(session_id, user_id, Action.READ, window=window)
        await self._renew_by_reading(read)
        return self._messages_page(read)

    def _messages_page(self, read: ReadResult) -> Page[Message]:
        """Return the messages that were read, with the last seq and the version of the session."""
        snapshot = read.snapshot
        return Page(
            self._decoded(snapshot.messages or (), read.decision),
            has_more=snapshot.has_more,
            last_seq=snapshot.header.last_seq,
            version=snapshot.header.version,
        )

    async def delete_message(
        self,
        session_id: str,
        user_id: str,
        seq: int,
        *,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> Literal[True]:
        """Remove one message; its author may, while an editor, and the owner.

        Its seq is never used again. Raises ``MessageNotFoundError``.
        """
        own = Action.DELETE_OWN_MESSAGE
        await self._valid(lambda: whole_number(seq, "seq", 1), session_id, user_id, own)
        window = self._window(1, after_seq=seq - 1)
        read = await self._read_session(session_id, user_id, own, window=window)
        decision = read.decision
        found = [m for m in read.snapshot.messages or () if m.seq == seq]
        if not found:
            raise MessageNotFoundError(seq)
        access, caller = self._engine.access, decision.caller
        decision.action = access.deletion_of(caller, [author_of(found[0], *decision.key)])
        access.check(decision.header, caller, decision.action, decision.at)
        change = decision.change(
            remove=SeqRange(seq, seq),
            expected_last_seq=optional_number(expected_last_seq, "expected_last_seq", 0),
            turn=None if turn is None else self._inputs.name(turn, "turn"),
        )
        applied = await self._engine.apply(decision, change)
        if not applied.removed:
            raise MessageNotFoundError(seq)
        await self._engine.emit("message.deleted", decision, applied.header, seq=seq)
        return True
