"""Delete many messages: those named by id or seq, or the oldest ones."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.access.access_control import Action
from agent_cores.session.codec import author_of
from agent_cores.session.errors import AccessDeniedError, SessionNotFoundError
from agent_cores.session.inputs import expected_state, optional_number
from agent_cores.session.models.representation import hides
from agent_cores.session.models.selection import NamedMessages, OldestMessages
from agent_cores.session.models.snapshot import Window
from agent_cores.session.models.version import NOTHING, Expected
from agent_cores.session.verbs.base import Verbs
from agent_cores.session.verbs.half_way import raise_half_way
from agent_cores.session.verbs.selecting import removal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent_cores.session.decision import Decision
    from agent_cores.session.models.change import Applied, Change


@hides("turn")
class _Guards(msgspec.Struct, frozen=True):
    """What the caller expects of the session, compared with the first write; ``turn`` with all."""

    expected: Expected
    last_seq: int | None
    turn: str | None

    def change(self, decision: Decision, remove: NamedMessages | OldestMessages) -> Change:
        """Return the change that removes these messages."""
        return decision.change(
            self.expected, remove=remove, expected_last_seq=self.last_seq, turn=self.turn
        )

    def after_a_write(self) -> _Guards:
        """Return what later writes are compared with."""
        return _Guards(NOTHING, None, self.turn)


class DeletionVerbs(Verbs):
    """The verb that removes many messages."""

    async def delete_messages(
        self,
        session_id: str,
        user_id: str,
        *,
        ids: Iterable[str] | None = None,
        seqs: Iterable[int] | None = None,
        before_seq: int | None = None,
        keep_last: int | None = None,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> int:
        """Remove messages and return how many were removed.

        Exactly one of four arguments says which:

        - ``ids`` or ``seqs``: these messages, at most 1,000, in one write, all or nothing. A name
          without a message is ignored. Requires the owner role, or editor where the caller wrote
          them all: otherwise ``AccessDeniedError``, and nothing is removed.
        - ``before_seq``: every message with a lower seq; ``keep_last``: every message but the last
          ones, ``0`` keeps none. Requires the owner role. The oldest go first, at most 10,000 in
          each write, and what others append concurrently stays. If it stops between two writes,
          ``ConflictError``, or ``StorageUnavailableError`` with ``outcome_unknown``, says how far
          it came; call again to go on.

        Removed seqs are never used again. ``expected_…`` are compared before the first write,
        ``turn`` before each. The cost is proportional to the messages removed and named, whatever
        the length of the session.
        """
        named = before_seq is None and keep_last is None
        action = Action.DELETE_OWN_MESSAGE if named else Action.TRIM

        def checked() -> tuple[NamedMessages | OldestMessages, _Guards]:
            most = self._engine.limits.page_items
            return (
                removal(
                    self._inputs,
                    most,
                    ids=ids,
                    seqs=seqs,
                    before_seq=before_seq,
                    keep_last=keep_last,
                ),
                _Guards(
                    expected_state(expected_revision, expected_version),
                    optional_number(expected_last_seq, "expected_last_seq", 0),
                    self._inputs.turn(turn),
                ),
            )

        remove, guards = await self._valid(checked, session_id, user_id, action)
        decision = await self._decide(session_id, user_id, action)
        if isinstance(remove, OldestMessages):
            return await self._delete_oldest(decision, remove, guards)
        return await self._delete_named(decision, remove, guards)

    async def _delete_named(self, decision: Decision, named: NamedMessages, guards: _Guards) -> int:
        """Delete in one write. The owner's ids are resolved by the store, in that write."""
        engine, action = self._engine, Action.DELETE_MESSAGE
        applied: Applied | None = None
        if engine.access.allows(decision.header, decision.caller, action, decision.at):
            decision.action = action
            with suppress(AccessDeniedError):  # the owner by a stale header, who may be the author
                applied = await engine.apply(decision, guards.change(decision, named))
        if applied is None:
            decision, named = await self._permitted(decision, named)
            applied = await engine.apply(decision, guards.change(decision, named))
        await self._emit_deleted(decision, applied)
        return len(applied.removed)

    async def _permitted(
        self, decision: Decision, named: NamedMessages
    ) -> tuple[Decision, NamedMessages]:
        """Read who wrote the named messages, and return a decision to delete them, by their seqs.

        A seq is never used again, so it names the message whose author was read. An id may be given
        to another's message by the time of the write.
        """
        access, first, authors, seqs = self._engine.access, decision, set[str](), list[int]()
        rest = named
        while True:
            read = await self._read_session(
                decision.session_id,
                decision.caller.user_id,
                Action.DELETE_OWN_MESSAGE,
                window=Window.of(rest, max_bytes=self._engine.limits.page_bytes),
                deadline=decision.deadline,
            )
            decision = read.decision
            if seqs and decision.header.incarnation != first.header.incarnation:
                raise SessionNotFoundError
            first = decision
            messages = read.snapshot.messages or ()
            authors.update(author_of(message, *decision.key) for message in messages)
            seqs += [message.seq for message in messages]
            if not read.snapshot.has_more:
                break
            rest = rest.without(messages)
        action = access.deletion_of(decision.caller, authors)
        access.check(decision.header, decision.caller, action, decision.at)
        decision.action = action
        return decision, NamedMessages(seqs=tuple(seqs))

    async def _delete_oldest(
        self, decision: Decision, remove: OldestMessages, guards: _Guards
    ) -> int:
        """Delete the oldest messages in as many writes as it takes."""
        engine, done = self._engine, 0
        while True:
            try:
                applied = await engine.apply(decision, guards.change(decision, remove))
            except BaseException as error:
                if done:
                    detail = (
                        f"the deletion stopped half way: the {done} oldest messages are removed"
                    )
                    raise_half_way(error, detail)
                raise
            done += len(applied.removed)
            await self._emit_deleted(decision, applied)
            if len(applied.removed) < engine.limits.rewind_messages:
                return done
            end = applied.header.last_seq + 1
            remove = OldestMessages(before_seq=min(remove.before_seq or end, end), keep=remove.keep)
            guards, decision.header = guards.after_a_write(), applied.header
            engine.begin_operation(decision)

    async def _emit_deleted(self, decision: Decision, applied: Applied) -> None:
        """Run the hooks of each message that was removed."""
        if self._engine.lifecycle.listens_to("message.deleted"):
            for seq, _ in applied.removed:
                await self._engine.emit("message.deleted", decision, applied.header, seq=seq)
