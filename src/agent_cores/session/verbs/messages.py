"""Append, read and remove messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from agent_cores.session.access.access_control import Action
from agent_cores.session.codec import author_of, decode_message, decode_messages
from agent_cores.session.errors import MessageNotFoundError
from agent_cores.session.inputs import optional_number, whole_number
from agent_cores.session.models.message import Message, NewMessage
from agent_cores.session.models.selection import SeqRange
from agent_cores.session.models.session import Page
from agent_cores.session.models.snapshot import Window
from agent_cores.session.verbs.appending import AppendingVerbs, AppendOptions
from agent_cores.session.verbs.selecting import named_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent_cores.session.decision import ReadResult
    from agent_cores.session.models.message import NewContent
    from agent_cores.session.models.new_session import NewSession


class MessageVerbs(AppendingVerbs):
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
        metadata_updates: Mapping[str, Any] | None = None,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> Message:
        """Append one message and return it as stored.

        With a ``message_id`` the call can be repeated safely: the same message is returned as it is
        stored, another one under that id raises ``ConflictError``. ``turn`` is the token of a turn:
        the append is refused with ``TurnLostError`` if that turn is no longer held. ``metadata`` is
        the message's, ``metadata_updates`` are the session's; they and the context are written with
        the message or not at all. The 100,000th message costs what the 10th does.
        """
        options = AppendOptions(
            context_updates,
            context_removals,
            metadata_updates,
            expected_revision,
            expected_version,
            expected_last_seq,
            turn,
        )
        action = Action.APPEND if metadata_updates is None else options.action(Action.APPEND)
        decision = await self._decide(session_id, user_id, action)
        message = NewMessage(role, content, message_id, metadata)
        applied = await self._append(
            decision, lambda at: (self._inputs.one_message(message, user_id, at),), options
        )
        return decode_message(applied.messages[0], *decision.key)

    async def add_messages(
        self,
        session_id: str,
        user_id: str,
        messages: Sequence[NewMessage | Mapping[str, Any]],
        *,
        create: bool | NewSession = False,
        context_updates: Mapping[str, Any] | None = None,
        context_removals: Iterable[str] = (),
        metadata_updates: Mapping[str, Any] | None = None,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> list[Message]:
        """Append many messages in one write, all or nothing; return them as stored.

        Each is a ``NewMessage`` or a mapping with ``role``, ``content`` and optionally ``id`` and
        ``metadata``. Messages that are stored already are returned as stored; new ones are added.
        An operator may also give an ``ImportedMessage``, or ``created_at`` and ``author_id`` in the
        mapping. ``metadata_updates`` change the session's title, tags and keys, as in
        ``update_session``.

        With ``create`` a missing session is created in the same write, owned by ``user_id``:
        ``True``, or a mapping of what it begins with (``NewSession``: ``title``, ``metadata``,
        ``ttl_hours``, ``public``, ``max_lifetime_hours``, ``renew_on``). An existing one gets a
        plain append with the caller's rights. A call that expects a revision, a last seq above 0
        or a turn creates nothing: ``SessionNotFoundError``.
        """
        applied = await self._append_messages(
            session_id,
            user_id,
            messages,
            AppendOptions(
                context_updates,
                context_removals,
                metadata_updates,
                expected_revision,
                expected_version,
                expected_last_seq,
                turn,
            ),
            create=create,
        )
        return decode_messages(applied.messages, self._scope.namespace, session_id)

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
        seq = await self._valid(lambda: whole_number(seq, "seq", 1), session_id, user_id, own)
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
            turn=self._inputs.turn(turn),
        )
        applied = await self._engine.apply(decision, change)
        if not applied.removed:
            raise MessageNotFoundError(seq)
        await self._engine.emit("message.deleted", decision, applied.header, seq=seq)
        return True
