"""``Engine``: read, decide, apply. Every verb of the manager goes through here.

``Reader`` reads and decides. The engine applies: the store accepts a write only if what the
decision relied on still holds, so nothing can slip between the check and the write. Where a
decision turns out to be stale, the session is read and decided on again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent_cores.session.access.access_control import Action, Caller, owner_view
from agent_cores.session.backoff import Backoff
from agent_cores.session.codec import decode_message
from agent_cores.session.creation import Creation
from agent_cores.session.errors import (
    SessionError,
    SessionExpiredError,
    SessionMovedError,
    SessionNotFoundError,
    StaleHeaderError,
    StorageUnavailableError,
)
from agent_cores.session.lifecycle.events import session_event_name
from agent_cores.session.models.change import Applied, Change
from agent_cores.session.models.selection import SeqRange
from agent_cores.session.models.session import Session, SessionMetadata
from agent_cores.session.reader import Reader
from agent_cores.session.retry import RetryPolicy

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.decision import Decision, Scope
    from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager
    from agent_cores.session.lifecycle.store_clock import StoreClock
    from agent_cores.session.models.limits import Limits
    from agent_cores.session.models.message import StoredMessage
    from agent_cores.session.storage.base import StorageProvider


class Engine(Reader):
    """Reads, decides and applies, for one storage. It knows no verb."""

    def __init__(
        self,
        storage: StorageProvider,
        lifecycle: LifecycleManager,
        limits: Limits,
        clock: StoreClock,
        *,
        timeout: float,
        cached_headers: int,
        cached_header_bytes: int,
    ) -> None:
        super().__init__(
            storage,
            limits,
            clock,
            timeout=timeout,
            cached_headers=cached_headers,
            cached_header_bytes=cached_header_bytes,
        )
        self.lifecycle = lifecycle

    async def create(
        self, scope: Scope, caller: Caller, change: Change, *, deadline: float | None = None
    ) -> Applied:
        """Apply a change that creates a session; see :class:`Creation`.

        This begins an operation, unless it is given the ``deadline`` of one.
        """
        creation = Creation(self, self.lifecycle, scope, change, deadline)
        applied = await creation.apply()
        change = creation.change
        decision = self.decision(
            scope, change.session_id, caller, Action.READ, applied.header, at=change.at
        )
        self._remember(decision, applied)
        await self._emit_change(decision, change, applied)
        return applied

    async def apply(
        self,
        decision: Decision,
        change: Change,
        *,
        done_if: tuple[type[SessionError], ...] | None = None,
    ) -> Applied:
        """Apply a change that ``decision`` made; where that is stale, decide again and retry.

        ``decision`` is updated on the way. A change with ``done_if`` can recognise its own replay
        and is sent again after a lost response; a refusal by one of these errors then means that it
        had been applied. An append is sent again only if no message can have been removed since, so
        that a removed message does not come back.

        Pauses between retries grow until just before ``SESSION_TIMEOUT``, so that the last attempt
        has its response by then. After that ``ConflictError`` is raised, or
        ``StorageUnavailableError`` after a lost response.
        """
        deadlines, applied = self._deadlines, None
        refusal: SessionError | None = None
        task = deadlines.enter(decision.deadline)
        try:
            applied = await self.storage.apply(change)
        except SessionError as error:
            refusal = error
        except asyncio.CancelledError:
            if not deadlines.leave(task):
                raise
        finally:
            deadlines.leave(task)
        if applied is None:
            backoff = Backoff(until=self.last_start(decision.deadline))
            policy = RetryPolicy(backoff, change, decision.header, done_if)
            refusal = refusal or self.too_late(outcome_unknown=True)
            applied = await self._retry(decision, change, policy, refusal)
        self._remember(decision, applied)
        if self.lifecycle.listens:
            await self._emit_change(decision, change, applied)
        return applied

    async def apply_once(self, decision: Decision, change: Change) -> Applied:
        """Apply a change without retries and hooks."""
        with self.in_time(decision.deadline, writes=True):
            return await self.storage.apply(change)

    async def _retry(
        self, decision: Decision, change: Change, policy: RetryPolicy, refusal: SessionError
    ) -> Applied:
        """Send the change until it is applied, or refused in a way that a retry cannot help."""
        while True:
            if isinstance(refusal, StorageUnavailableError):
                await policy.response_lost(refusal, decision.header)
            else:
                applied = await self._after_refusal(decision, change, policy, refusal)
                if applied is not None:
                    return applied
            policy.check_time(refusal)
            try:
                return await self.apply_once(decision, decision.guard(policy.to_retry(change)))
            except SessionError as error:
                refusal = error

    async def _after_refusal(
        self, decision: Decision, change: Change, policy: RetryPolicy, refusal: SessionError
    ) -> Applied | None:
        """Decide again where the decision may be stale; ``None`` means: send the change again."""
        final = refusal
        if _may_be_stale(refusal, decision):
            self.headers.forget(decision.key)
            if decision.fresh:
                await policy.wait(refusal)
            try:
                await self.refresh(decision)
                policy.check_same_session(decision.header)
            except SessionError as error:
                final = error
            except Exception as error:  # groups_of may raise anything
                if policy.lost is None:
                    raise
                raise policy.lost from error
            else:
                return None
        if isinstance(final, SessionExpiredError) and not decision.caller.owns(decision.header):
            final = SessionNotFoundError()  # only its owner may know that it has expired
        if policy.proves_applied(final):
            header = policy.header
            return Applied(before=header, header=header, deleted=change.delete)
        if policy.lost is not None and (
            final is not refusal or policy.outcome_still_unknown(final)
        ):
            raise policy.lost from final
        raise final

    def _remember(self, decision: Decision, applied: Applied) -> None:
        """Keep the cached header up to date."""
        if applied.deleted:
            self.headers.forget(decision.key)
        else:
            self.headers.put(decision.key, applied.header)

    async def _emit_change(self, decision: Decision, change: Change, applied: Applied) -> None:
        """Run the hooks of what was applied."""
        if applied.replayed or applied.header.hold is not None:
            return
        if isinstance(change.remove, SeqRange) and change.append and applied.removed:
            seq = change.remove.first - 1
            await self.emit("session.rewound", decision, applied.header, seq=seq)
        name = session_event_name(change, applied)
        if name is not None and change.create is not None:  # before its first messages
            await self.emit(name, decision, applied.header)
        if applied.added and self.lifecycle.listens_to("message.appended"):
            for stored in applied.added:
                await self._emit_message("message.appended", decision, stored)
        if applied.updated is not None:
            await self._emit_message("message.updated", decision, applied.updated)
        if name is not None and change.create is None:
            await self.emit(name, decision, applied.header)

    async def _emit_message(self, name: str, decision: Decision, stored: StoredMessage) -> None:
        if self.lifecycle.listens_to(name):
            message = decode_message(stored, *decision.key)
            await self.lifecycle.emit(decision.event(name, message=message, seq=message.seq))

    async def emit(
        self, name: str, decision: Decision, header: SessionMetadata, *, seq: int | None = None
    ) -> None:
        """Run the hooks of an event of the session, or of one message by its ``seq``."""
        if self.lifecycle.listens_to(name):
            shown = None if name.startswith("message.") else owner_view(header, decision.at)
            await self.lifecycle.emit(decision.event(name, session=shown, seq=seq))

    def session(self, header: SessionMetadata, caller: Caller, at: datetime) -> Session | None:
        """Return a header as the caller may see it; ``None`` if they may not read it."""
        role = self.access.role(header, caller, at)
        if role is None:
            return None
        return Session(
            metadata=self.access.view(header, caller, role, at),
            access_role=role,
            visibility=header.visibility_at(at),
        )


def _may_be_stale(refusal: SessionError, decision: Decision) -> bool:
    """Whether the store may have refused because the decision rests on a stale header."""
    if isinstance(refusal, SessionMovedError):
        return not decision.fresh
    return isinstance(refusal, StaleHeaderError | SessionNotFoundError)
