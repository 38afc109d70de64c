"""``Verbs``: what all verbs share, from a caller's arguments to the engine."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agent_cores.session.access.access_control import Action, Caller
from agent_cores.session.codec import (
    decode_context,
    decode_messages,
    raw_context,
    raw_messages,
)
from agent_cores.session.errors import InvalidInputError, SessionError, SessionNotFoundError
from agent_cores.session.inputs import (
    DEFAULT_TTL_HOURS,
    optional_number,
    ttl_seconds,
    whole_number,
)
from agent_cores.session.models.effects import RenewEffect
from agent_cores.session.models.expiry import read_renews
from agent_cores.session.models.session import AccessRole, Session, SessionMetadata
from agent_cores.session.models.snapshot import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from agent_cores.session.decision import Decision, ReadResult, Scope
    from agent_cores.session.engine import Engine
    from agent_cores.session.message_inputs import MessageInputs
    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.models.message import Message, StoredMessage
    from agent_cores.session.runtime import Runtime

T = TypeVar("T")
logger: logging.Logger = logging.getLogger("agent_cores.session")


class Created(msgspec.Struct, frozen=True):
    """The result of a create or a fork: the header that was written, for whom and when.

    ``header`` is ``None`` if the session was there before.
    """

    session_id: str
    caller: Caller
    at: datetime
    header: SessionMetadata | None = None


class Verbs:
    """What the verbs of every topic share."""

    def __init__(self, runtime: Runtime, scope: Scope) -> None:
        self._runtime = runtime
        self._scope = scope

    @property
    def runtime(self) -> Runtime:
        """What a manager and its views share: storage, clock, limits and engine.

        For code that extends the manager, such as the HTTP service; applications need only the
        verbs.
        """
        return self._runtime

    @property
    def _engine(self) -> Engine:
        return self._runtime.engine

    @property
    def _inputs(self) -> MessageInputs:
        return self._runtime.inputs

    @property
    def _is_running(self) -> bool:
        """Whether this has been started and not stopped since."""
        return self._runtime.is_ready

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work that must not stop half way to its end, even if its caller is cancelled."""
        await self._runtime.finish(work)

    async def _read_session(
        self,
        session_id: str,
        user_id: str,
        action: Action,
        *,
        context: bool = False,
        window: Window | None = None,
        deadline: float | None = None,
    ) -> ReadResult:
        """Check the ids, read and decide; with a ``deadline``, as part of that operation."""
        await self._runtime.ready()
        caller = self._scope.caller(self._inputs.user_id(user_id))
        session_id = self._inputs.session_id(session_id)
        return await self._engine.read(
            self._scope,
            session_id,
            caller,
            action,
            context=context,
            window=window,
            deadline=deadline,
        )

    async def _decide(
        self, session_id: str, user_id: str, action: Action, field: str = "user_id"
    ) -> Decision:
        """Check the ids, then decide on a write."""
        runtime = self._runtime
        if not runtime.is_ready:
            await runtime.ready()
        decision = runtime.engine.decide_for_owner(self._scope, session_id, user_id, action)
        if decision is not None:
            return decision
        caller = self._scope.caller(self._inputs.user_id(user_id, field))
        session_id = self._inputs.session_id(session_id)
        return await runtime.engine.decide(self._scope, session_id, caller, action)

    async def _valid(
        self, check: Callable[[], T], session_id: str, user_id: str, action: Action
    ) -> T:
        """Return what ``check`` returns; a caller who may not do this gets that error first."""
        try:
            return check()
        except InvalidInputError:
            await self._read_session(session_id, user_id, action)
            raise

    async def _checked(self, decision: Decision, check: Callable[[], T]) -> T:
        """Return what ``check`` returns, for a write that was decided on.

        The decision may rest on a cached header: before arguments are refused, it is confirmed.
        """
        try:
            return check()
        except InvalidInputError:
            await self._engine.confirm(decision)
            raise

    def _decoded(self, messages: Sequence[StoredMessage], decision: Decision) -> list[Message]:
        """Return messages as the caller gets them: decoded, or as JSON where the scope says so."""
        read = raw_messages if self._scope.raw else decode_messages
        return read(messages, *decision.key)

    def _decoded_context(self, entries: Mapping[str, bytes], decision: Decision) -> dict[str, Any]:
        """Return the context as the caller gets it; see :meth:`_decoded`."""
        if self._scope.raw:
            return dict(raw_context(entries, *decision.key))
        return decode_context(entries, *decision.key)

    def _session_of(self, read: ReadResult) -> Session:
        """Return what was read of a session as the caller gets it."""
        decision, snapshot = read.decision, read.snapshot
        context = messages = None
        if read.role.rank >= Action.READ_CONTEXT.rank and snapshot.context is not None:
            context = self._decoded_context(snapshot.context, decision)
        if snapshot.messages is not None:
            messages = self._decoded(snapshot.messages, decision)
        header = snapshot.header
        return Session(
            metadata=self._engine.access.view(header, decision.caller, read.role, decision.at),
            context=context,
            messages=messages,
            access_role=read.role,
            visibility=header.visibility_at(decision.at),
        )

    def _metadata(self, metadata: object, title: object) -> dict[str, Any]:
        """Return metadata, checked, with a title that was given beside it."""
        known = self._inputs.metadata(metadata, "metadata")
        if title is not None:
            if "title" in known:
                raise InvalidInputError("title", "given twice; metadata has a title too")
            known["title"] = self._inputs.title(title)
        return known

    def _idle_seconds(self, ttl_hours: float | None) -> float | None:
        """Return the idle time of a session; ``None`` never expires."""
        if ttl_hours is DEFAULT_TTL_HOURS:
            return self._runtime.settings.default_expiry or None
        return ttl_seconds(ttl_hours)

    def _drafts(self, messages: object, user_id: str, at: datetime) -> tuple[StoredMessage, ...]:
        """Return messages to append, checked and encoded. Operators also import some."""
        imports = self._engine.access.may_import(self._scope.caller(user_id))
        return self._inputs.messages(messages, user_id, at, imports=imports)

    def _window(
        self,
        limit: int,
        before_seq: int | None = None,
        after_seq: int | None = None,
        *,
        field: str = "limit",
        least: int = 1,
    ) -> Window | None:
        limits = self._engine.limits
        if before_seq is not None and after_seq is not None:
            raise InvalidInputError("before_seq", "give before_seq or after_seq, not both")
        limit = whole_number(limit, field, least, limits.page_items)
        if limit == 0:
            return None
        return Window(
            limit=limit,
            before_seq=optional_number(before_seq, "before_seq", 0),
            after_seq=optional_number(after_seq, "after_seq", 0),
            max_bytes=limits.page_bytes,
        )

    async def _renew_by_reading(self, read: ReadResult) -> None:
        """Renew a session that reads renew; if that fails, the read succeeds all the same."""
        header, decision = read.snapshot.header, read.decision
        if read.role is AccessRole.VIEWER or not read_renews(header, decision.at):
            return
        change = decision.change(renew=RenewEffect())
        try:
            await self._engine.apply_once(decision, change)
        except SessionError:
            logger.warning("a session could not be renewed by a read", exc_info=True)

    def _header_of(self, decision: Decision, applied: Applied) -> Session:
        """Return the header after a write, as its caller may see it."""
        return self._shown(applied.header, decision.caller, decision.at)

    def _shown(self, header: SessionMetadata, caller: Caller, at: datetime) -> Session:
        """Return a header as the caller may see it; ``SessionNotFoundError`` if they may not."""
        session = self._engine.session(header, caller, at)
        if session is None:
            raise SessionNotFoundError
        return session

    async def _apply_to_header(self, decision: Decision, change: Change) -> Session:
        """Apply a change and return the session's header after it."""
        applied = await self._engine.apply(decision, change)
        return self._header_of(decision, applied)
