"""Change the end of a conversation: rewind, replace or pop messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.access.access_control import Action
from agent_cores.session.backoff import Backoff
from agent_cores.session.codec import decode_messages
from agent_cores.session.errors import (
    ConflictError,
    LastSeqMismatchError,
    RevisionMismatchError,
)
from agent_cores.session.inputs import expected_state, optional_number, whole_number
from agent_cores.session.models.selection import END, SeqRange
from agent_cores.session.models.version import NOTHING, Expected
from agent_cores.session.verbs.appending import AppendingVerbs, AppendOptions
from agent_cores.session.verbs.half_way import raise_half_way

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent_cores.session.decision import Decision
    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.models.message import Message, NewMessage
    from agent_cores.session.models.session import Session
    from agent_cores.session.models.snapshot import Window

_KEPT_CHANGING = "others changed the session at each attempt within SESSION_TIMEOUT"
_LONGEST_PAUSE = 0.05
"""In seconds. An attempt succeeds only if no other change comes between its read and its write."""


class TailVerbs(AppendingVerbs):
    """Verbs on the last messages of a session, for its owner."""

    async def rewind_session(
        self,
        session_id: str,
        user_id: str,
        to_seq: int,
        *,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> Session:
        """Remove every message after ``to_seq``, last first; return the header afterwards.

        Each write removes at most 10,000 messages. What others append concurrently stays, and
        removed seqs are never used again. ``expected_last_seq`` is compared before the first write,
        ``turn`` before each.
        """
        read = await self._read_session(session_id, user_id, Action.REWIND)
        decision, last = read.decision, read.snapshot.header.last_seq
        first = whole_number(to_seq, "to_seq", 0) + 1
        expected = expected_state(expected_revision, expected_version)
        expected_last_seq = optional_number(expected_last_seq, "expected_last_seq", 0)
        turn = self._inputs.turn(turn)
        done: Applied | None = None
        while True:
            change = decision.change(
                expected,
                remove=SeqRange(first, last),
                expected_last_seq=expected_last_seq,
                turn=turn,
            )
            try:
                applied = await self._engine.apply(decision, change)
            except BaseException as error:
                if done is not None:
                    await self._finish(self._stopped_half_way(decision, done, error))
                raise
            if applied.removed:
                done = applied
            if len(applied.removed) < self._engine.limits.rewind_messages:
                break
            expected, expected_last_seq = NOTHING, None
            last = applied.removed[-1][0] - 1
            decision.header = applied.header
            self._engine.begin_operation(decision)
        if done is not None:
            await self._engine.emit("session.rewound", decision, applied.header, seq=to_seq)
        return self._header_of(decision, applied)

    async def _stopped_half_way(
        self, decision: Decision, done: Applied, error: BaseException
    ) -> None:
        """Report how far an interrupted rewind came, to the hooks and in the raised error."""
        seq = done.removed[-1][0] - 1
        await self._engine.emit("session.rewound", decision, done.header, seq=seq)
        detail = f"the rewind stopped half way: every message after seq {seq} is removed"
        raise_half_way(error, detail)

    async def replace_messages(
        self,
        session_id: str,
        user_id: str,
        messages: Sequence[NewMessage | Mapping[str, Any]],
        *,
        after_seq: int,
        context_updates: Mapping[str, Any] | None = None,
        context_removals: Iterable[str] = (),
        metadata_updates: Mapping[str, Any] | None = None,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> list[Message]:
        """Remove every message after ``after_seq`` and append these, in one write, all or nothing.

        Use it to compact a conversation, or to edit a message and answer again. Returns the new
        messages as stored. They get new seqs, and may reuse the ids of the messages that they
        replace. A concurrent append comes either before, and is replaced too, or after;
        ``expected_last_seq`` refuses the first case. Fewer than 10,000 messages can be replaced in
        one call; rewind first if there are more (``InvalidInputError``). The cost is proportional
        to the messages removed and added. ``metadata_updates`` are those of ``add_messages``.
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
        applied = await self._replace(session_id, user_id, messages, options, after_seq=after_seq)
        return decode_messages(applied.messages, self._scope.namespace, session_id)

    async def _replace(
        self,
        session_id: str,
        user_id: str,
        messages: Sequence[NewMessage | Mapping[str, Any]],
        options: AppendOptions,
        *,
        after_seq: int,
    ) -> Applied:
        decision = await self._decide(session_id, user_id, options.action(Action.REPLACE))

        def checked() -> tuple[int, Change]:
            first = whole_number(after_seq, "after_seq", 0) + 1
            append = self._drafts(messages, user_id, decision.at)
            return first, options.change(self._inputs, decision, append)

        first, change = await self._checked(decision, checked)
        given = options.expected_last_seq
        change = msgspec.structs.replace(
            change,
            remove=SeqRange(first, END),
            expected_last_seq=decision.header.last_seq if given is None else given,
            stored_after=given,
        )
        try:
            return await self._engine.apply(decision, change, done_if=())
        except LastSeqMismatchError as error:
            if given is not None:
                raise
            # Only after a lost response does it matter what was the last seq. From here on, what
            # others append is replaced too, so that they cannot prevent this however fast they are.
            decision.header = msgspec.structs.replace(decision.header, last_seq=error.actual)
        change = msgspec.structs.replace(change, expected_last_seq=None)
        return await self._engine.apply(decision, change, done_if=())

    async def pop_messages(
        self,
        session_id: str,
        user_id: str,
        count: int = 1,
        *,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> list[Message]:
        """Remove the last ``count`` messages in one write and return them, oldest first.

        Concurrent calls never return the same message. What others append once the messages have
        been read stays; ``expected_last_seq`` refuses that. One call removes at most 1,000
        messages, and no more than fit on a page (4 MiB, ``SESSION_MAX_PAGE_BYTES``). The list is
        empty if there are no messages. If the response is lost,
        ``StorageUnavailableError.outcome_unknown`` is true.
        """
        action = Action.POP

        def checked() -> tuple[Window | None, int | None, str | None]:
            return (
                self._window(count, field="count"),
                optional_number(expected_last_seq, "expected_last_seq", 0),
                self._inputs.turn(turn),
            )

        window, last_seq, token = await self._valid(checked, session_id, user_id, action)
        backoff: Backoff | None = None
        while True:
            deadline = None if backoff is None else backoff.until
            read = await self._read_session(
                session_id, user_id, action, window=window, deadline=deadline
            )
            decision, header = read.decision, read.snapshot.header
            backoff = backoff or Backoff(until=decision.deadline, longest=_LONGEST_PAUSE)
            found = read.snapshot.messages or []
            first = found[0].seq if found else header.last_seq + 1
            change = decision.change(
                Expected(header.revision, header.incarnation),
                remove=SeqRange(first, header.last_seq),
                expected_last_seq=last_seq,
                turn=token,
                removable=tuple([(message.seq, message.id) for message in found]),
            )
            change = msgspec.structs.replace(change, basis=header)
            try:
                applied = await self._engine.apply(decision, change)
            except RevisionMismatchError as error:
                await _wait(backoff, error)
            else:
                if applied.removed:
                    event = "session.rewound"
                    await self._engine.emit(event, decision, applied.header, seq=first - 1)
                return self._decoded(found, decision)


async def _wait(backoff: Backoff, error: Exception) -> None:
    """Pause before another attempt; raise ``ConflictError`` if no time is left for one."""
    if not await backoff.pause() or backoff.is_over:
        raise ConflictError(_KEPT_CHANGING) from error
