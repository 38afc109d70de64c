"""``AppendOptions``: what an append may carry besides messages; ``AppendingVerbs``: appends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.access.access_control import Action, both
from agent_cores.session.errors import (
    InvalidInputError,
    SessionExistsError,
    SessionMovedError,
    SessionNotFoundError,
)
from agent_cores.session.inputs import expected_state, optional_number
from agent_cores.session.models.header_changes import metadata_fields
from agent_cores.session.models.new_session import read_create
from agent_cores.session.models.representation import hides
from agent_cores.session.models.version import NO_INCARNATION, NOTHING, Expected
from agent_cores.session.verbs.creating import CreatingVerbs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from agent_cores.session.decision import Decision
    from agent_cores.session.inputs import Inputs
    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.models.limits import Limits
    from agent_cores.session.models.message import NewMessage, StoredMessage
    from agent_cores.session.models.new_session import NewSession
    from agent_cores.session.models.session import SessionMetadata

_NO_METADATA: Mapping[str, Any] = {}
_NO_REMOVALS: Iterable[str] = ()


@hides("context_updates", "metadata_updates", "turn")
class AppendOptions(msgspec.Struct, frozen=True, gc=False):
    """What an append changes besides its messages, and what it expects, as the caller gave it."""

    context_updates: Mapping[str, Any] | None = None
    context_removals: Iterable[str] = _NO_REMOVALS
    metadata_updates: Mapping[str, Any] | None = None
    expected_revision: int | None = None
    expected_version: str | None = None
    expected_last_seq: int | None = None
    turn: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was given, as with most appends."""
        return (
            self.context_updates is None
            and self.context_removals is _NO_REMOVALS
            and self.metadata_updates is None
            and self.expected_revision is None
            and self.expected_version is None
            and self.expected_last_seq is None
            and self.turn is None
        )

    def action(self, action: Action) -> Action:
        """Return the action to decide on: this one, and updating where metadata is changed."""
        return action if self.metadata_updates is None else both(action, Action.UPDATE)

    def change(
        self,
        inputs: Inputs,
        decision: Decision,
        append: tuple[StoredMessage, ...],
        *,
        whole: bool = False,
    ) -> Change:
        """Return the change; with ``whole``, all messages must be new or all stored already.

        Raises ``InvalidInputError``.
        """
        if self.is_empty:
            return decision.change(append=append, whole_append=whole)
        context_set = inputs.context(self.context_updates)
        return decision.change(
            self._expected(),
            append=append,
            whole_append=whole,
            metadata=self._metadata(inputs),
            context_set=context_set,
            context_drop=inputs.context_removals(self.context_removals, context_set),
            expected_last_seq=optional_number(self.expected_last_seq, "expected_last_seq", 0),
            turn=inputs.turn(self.turn),
        )

    def may_create(self, inputs: Inputs) -> bool:
        """Whether a missing session is what the caller expects. Raises ``InvalidInputError``."""
        expected = self._expected()
        last_seq = optional_number(self.expected_last_seq, "expected_last_seq", 0)
        return (
            inputs.turn(self.turn) is None
            and last_seq in {None, 0}
            and (expected is NOTHING or expected.incarnation == NO_INCARNATION)
        )

    def first_context(self, inputs: Inputs) -> dict[str, bytes]:
        """Return the context of a new session. Raises ``InvalidInputError``."""
        context_set = inputs.context(self.context_updates)
        inputs.context_removals(self.context_removals, context_set)
        return context_set

    def updated(self, header: SessionMetadata, inputs: Inputs, limits: Limits) -> SessionMetadata:
        """Return the header of a new session after the updates. Raises ``InvalidInputError``."""
        updates = self._metadata(inputs)
        if not updates:
            return header
        return msgspec.structs.replace(header, **metadata_fields(header, updates, limits))

    def reusable(self) -> AppendOptions:
        """Return the same options, of which more than one change can be made."""
        removals = self.context_removals
        if not isinstance(removals, Iterator):
            return self
        return msgspec.structs.replace(self, context_removals=tuple(removals))

    def _expected(self) -> Expected:
        if self.expected_revision is None and self.expected_version is None:
            return NOTHING
        return expected_state(self.expected_revision, self.expected_version)

    def _metadata(self, inputs: Inputs) -> Mapping[str, Any]:
        if self.metadata_updates is None:
            return _NO_METADATA
        return inputs.metadata(self.metadata_updates, "metadata_updates")


class AppendingVerbs(CreatingVerbs):
    """What the verbs that append share."""

    async def _append(
        self,
        decision: Decision,
        drafts: Callable[[datetime], tuple[StoredMessage, ...]],
        options: AppendOptions,
        *,
        whole: bool = False,
    ) -> Applied:
        """Append; with ``whole``, only if all messages are new or all are stored already."""
        try:
            change = options.change(self._inputs, decision, drafts(decision.at), whole=whole)
        except InvalidInputError:
            await self._engine.confirm(decision)  # a caller who may not append gets that error
            raise
        return await self._engine.apply(decision, change, done_if=())

    async def _append_messages(
        self,
        session_id: str,
        user_id: str,
        messages: Sequence[NewMessage | Mapping[str, Any]],
        options: AppendOptions,
        *,
        create: bool | NewSession = False,
        whole: bool = False,
    ) -> Applied:
        """Append many messages; with ``create``, to a new session if there is none."""
        deadline = None
        if create is not False:
            await self._runtime.ready()
            deadline, options = self._engine.begin(), options.reusable()
        action = options.action(Action.APPEND)

        def drafts(at: datetime) -> tuple[StoredMessage, ...]:
            if create is not False:  # an error in it is raised whether or not it is used
                self._first_header(session_id, user_id, options, create)
            return self._drafts(messages, user_id, at)

        try:
            decision = await self._decide(session_id, user_id, action)
            return await self._append(decision, drafts, options, whole=whole)
        except SessionNotFoundError:
            if create is False or not options.may_create(self._inputs):
                raise
        header = self._first_header(session_id, user_id, options, create)
        context, first = options.first_context(self._inputs), drafts(header.created_at)
        change, caller = self._creation(header, context, first), self._scope.caller(header.owner_id)
        try:
            return await self._engine.create(self._scope, caller, change, deadline=deadline)
        except (SessionExistsError, SessionMovedError):
            pass  # a concurrent call created it, or the caller may not read it
        read = await self._read_session(session_id, user_id, action, deadline=deadline)
        return await self._append(read.decision, drafts, options, whole=whole)

    def _first_header(
        self, session_id: str, user_id: str, options: AppendOptions, create: object
    ) -> SessionMetadata:
        """Return the header of the session that an append creates. ``InvalidInputError``."""
        caller = self._scope.caller(self._inputs.user_id(user_id))
        session_id = self._inputs.new_identifier(session_id, "session_id")
        given = read_create(create)
        try:
            header = self._new_header(session_id, caller, given)
        except InvalidInputError as error:
            raise InvalidInputError(f"create/{error.field}", error.problem) from error
        return options.updated(header, self._inputs, self._engine.limits)
