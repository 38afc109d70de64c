"""``Engine``: read, decide, apply. Every verb of the manager goes through here, and only here.

Header and messages are read in one round trip if the cached header lets the caller read them, else
the header first. A write goes out on a cached header if that allows it; a refusal is decided on a
fresh read only. The storage accepts a write only if what the decision relied on still stands, so
that nothing slips between the check and the write.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.access.access_control import (
    AccessController,
    Action,
    Caller,
    owner_view,
)
from agent_cores.session.backoff import Backoff
from agent_cores.session.codec import decode_message
from agent_cores.session.deadline import Deadlines
from agent_cores.session.decision import Decision, ReadResult, Scope
from agent_cores.session.errors import (
    ReplacementError,
    SessionError,
    SessionExpiredError,
    SessionMovedError,
    SessionNotFoundError,
    StaleHeaderError,
    StorageUnavailableError,
)
from agent_cores.session.header_cache import CACHED_BYTES, HeaderCache
from agent_cores.session.lifecycle.events import SessionEvent, session_event_name
from agent_cores.session.models.change import Applied, Change
from agent_cores.session.models.expiry import earlier, fresh_end
from agent_cores.session.models.session import AccessRole, Session, SessionMetadata
from agent_cores.session.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager
    from agent_cores.session.lifecycle.store_clock import StoreClock
    from agent_cores.session.models.limits import Limits
    from agent_cores.session.models.message import Message
    from agent_cores.session.models.query import Found, Query
    from agent_cores.session.models.snapshot import Window
    from agent_cores.session.storage.base import Counts, StorageProvider


class Engine:
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
        cached_header_bytes: int = CACHED_BYTES,
    ) -> None:
        self.storage = storage
        self.lifecycle = lifecycle
        self.limits = limits
        self.clock = clock
        self.access = AccessController()
        self._timeout = timeout
        self._deadlines = Deadlines(timeout)
        self._headers = HeaderCache(cached_headers, cached_header_bytes)

    def start(self) -> None:
        """Begin to work in the running event loop."""
        self._deadlines = Deadlines(self._timeout)

    def stop(self) -> None:
        """Leave nothing behind in the event loop."""
        self._deadlines.close()

    def decision(
        self,
        scope: Scope,
        session_id: str,
        caller: Caller,
        action: Action,
        header: SessionMetadata,
        *,
        at: datetime | None = None,
        deadline: float | None = None,
        fresh: bool = True,
    ) -> Decision:
        """Return a yes that was decided on this header, ``at`` that instant, now if left out.

        It begins an operation, unless it is given the ``deadline`` of one.
        """
        if at is None:
            at = self.clock()
        until = None
        if header.owner_id != caller.user_id:
            until = self.access.allowed_until(header, caller, action, at)
        if scope.until is not None:
            scope.check_credential(at)
            until = earlier(until, scope.until)
        return Decision(
            scope=scope,
            session_id=session_id,
            caller=caller,
            action=action,
            header=header,
            at=at,
            fresh=fresh,
            clock=self.clock.now,
            deadline=self._deadlines.begin() if deadline is None else deadline,
            valid_until=until,
        )

    def begin_operation(self, decision: Decision) -> None:
        """Begin the next operation on the same session: its time counts anew."""
        decision.at, decision.deadline = self.clock(), self._deadlines.begin()

    async def find(self, query: Query) -> Found:
        """Return a page of a listing, in time."""
        with self._in_time(self._deadlines.begin()):
            return await self.storage.find(query)

    async def count(self, namespace: str) -> Counts:
        """Count the sessions of a namespace, in time."""
        with self._in_time(self._deadlines.begin()):
            return await self.storage.count(namespace, self.clock())

    async def send(self, decision: Decision, change: Change) -> Applied:
        """Send the change once, guarded by what was decided on; run no hook."""
        with self._in_time(decision.deadline, writes=True):
            return await self.storage.apply(decision.guard(change))

    @contextmanager
    def _in_time(self, deadline: float, *, writes: bool = False) -> Iterator[None]:
        """Bound a call of the storage; past the deadline it is ``StorageUnavailableError``."""
        try:
            with self._deadlines.until(deadline):
                yield
        except TimeoutError as error:
            raise self._too_late(outcome_unknown=writes) from error

    def _too_late(self, *, outcome_unknown: bool = False) -> StorageUnavailableError:
        detail = f"the store did not answer within SESSION_TIMEOUT, {self._timeout:g} s"
        return StorageUnavailableError(detail, outcome_unknown=outcome_unknown)

    async def read(
        self,
        scope: Scope,
        session_id: str,
        caller: Caller,
        action: Action,
        *,
        context: bool = False,
        window: Window | None = None,
        deadline: float | None = None,
    ) -> ReadResult:
        """Read the session, and decide on what was read; raises the refusal.

        Who may not read it makes nothing be read but its header: one round trip, as for a session
        that is not there. Context and messages come with the header in one round trip where the
        cached header lets the caller read them; else the header comes first, and they by a second.

        It begins an operation, unless it is given the ``deadline`` of one.
        """
        if deadline is None:
            deadline = self._deadlines.begin()
        wanted = Action.READ_CONTEXT if context else action  # a stronger role may come by a group
        read = partial(self._read_once, scope, session_id, wanted=wanted, deadline=deadline)
        if not context and window is None:
            return await read(caller, action)
        caller, role = await self._cached_role(
            scope, session_id, caller, action, wanted=wanted, deadline=deadline
        )
        if role is None:
            first = await read(caller, action)
            caller, role = first.decision.caller, first.role
        while True:
            allowed = context and role.rank >= Action.READ_CONTEXT.rank
            result = await read(caller, action, context=allowed, window=window)
            if allowed or not context or result.role.rank < Action.READ_CONTEXT.rank:
                return result
            role = result.role  # an editor by now, who may read the context too

    async def _read_once(
        self,
        scope: Scope,
        session_id: str,
        caller: Caller,
        action: Action,
        *,
        wanted: Action,
        deadline: float,
        context: bool = False,
        window: Window | None = None,
    ) -> ReadResult:
        """Read once, and decide on the header that was read."""
        key = scope.namespace, session_id
        with self._in_time(deadline):
            snapshot = await self.storage.read(*key, context=context, window=window)
        if snapshot is None:
            self._headers.forget(key)
            raise SessionNotFoundError
        header, at = snapshot.header, self.clock()
        self._headers.renew(key, header)
        if self.access.needs_groups(header, caller, wanted, at):
            caller = await scope.with_groups(caller, until=deadline)
            at = self.clock()
        role = self.access.check(header, caller, action, at)
        self._headers.put(key, header)
        decision = self.decision(
            scope, session_id, caller, action, header, at=at, deadline=deadline
        )
        return ReadResult(snapshot, decision, role)

    async def _cached_role(
        self,
        scope: Scope,
        session_id: str,
        caller: Caller,
        action: Action,
        *,
        wanted: Action,
        deadline: float,
    ) -> tuple[Caller, AccessRole | None]:
        """Return the role by the cached header, with the caller's groups if they were asked for.

        ``None``: the cached header does not let them do it, or there is none.
        """
        header = self._headers.get((scope.namespace, session_id))
        if header is None:
            return caller, None
        at = self.clock()
        if self.access.needs_groups(header, caller, wanted, at):
            caller = await scope.with_groups(caller, until=deadline)
            at = self.clock()
        allowed = self.access.allows(header, caller, action, at)
        return caller, self.access.role(header, caller, at) if allowed else None

    def decide_for_owner(
        self, scope: Scope, session_id: str, user_id: str, action: Action
    ) -> Decision | None:
        """Decide for a write by the owner of a session whose header is cached.

        The ids need no check then: they are those of a stored session. ``None``: nothing is known
        that would allow it.
        """
        if not (isinstance(session_id, str) and isinstance(user_id, str)):
            return None
        header = self._headers.get((scope.namespace, session_id))
        if header is None or header.owner_id != user_id:
            return None
        caller, at = Caller(header.owner_id), self.clock.now()
        if not self.access.allows(header, caller, action, at):
            return None
        if scope.until is not None:
            scope.check_credential(at)
        return Decision(
            scope=scope,
            session_id=header.session_id,
            caller=caller,
            action=action,
            header=header,
            at=at,
            fresh=False,
            clock=self.clock.now,
            deadline=self._deadlines.begin(),
            valid_until=scope.until,
        )

    async def decide(
        self, scope: Scope, session_id: str, caller: Caller, action: Action
    ) -> Decision:
        """Decide for a write: on the cached header if it says yes, else on a fresh read."""
        header = self._headers.get((scope.namespace, session_id))
        if header is not None:
            at = self.clock()
            if self.access.allows(header, caller, action, at):
                return self.decision(scope, session_id, caller, action, header, at=at, fresh=False)
        result = await self.read(scope, session_id, caller, action)
        return result.decision

    async def apply(
        self,
        decision: Decision,
        change: Change,
        *,
        done_if: tuple[type[SessionError], ...] | None = None,
    ) -> Applied:
        """Send the change, guarded by what was decided on; look and decide again where that fell.

        ``decision`` is brought up to date on the way. A change with ``done_if`` tells its own
        repetition and is sent again after a lost answer; then these refusals mean that it had
        been carried out. An append is stored by its repetition only if no message can have been
        removed since: what was stored and then removed does not come back.

        Pauses grow, jittered, until ``SESSION_TIMEOUT``; then ``ConflictError``, or
        ``StorageUnavailableError`` after a lost answer.
        """
        deadlines, applied = self._deadlines, None
        refusal: SessionError | None = None
        task = deadlines.enter(decision.deadline)
        try:
            applied = await self.storage.apply(decision.guard(change))
        except SessionError as error:
            refusal = error
        except asyncio.CancelledError:
            if not deadlines.leave(task):
                raise
        finally:
            deadlines.leave(task)
        if applied is None:
            refusal = refusal or self._too_late(outcome_unknown=True)
            policy = RetryPolicy(Backoff(until=decision.deadline), change, decision.header, done_if)
            applied = await self._retry(decision, change, policy, refusal)
        self._remember(decision, applied)
        if self.lifecycle.listens:
            await self._emit_change(decision, change, applied)
        return applied

    async def _retry(
        self, decision: Decision, change: Change, policy: RetryPolicy, refusal: SessionError
    ) -> Applied:
        """Send the change until it is carried out, or refused for good."""
        while True:
            if isinstance(refusal, StorageUnavailableError):
                await policy.response_lost(refusal, decision.header)
            else:
                applied = await self._after_refusal(decision, change, policy, refusal)
                if applied is not None:
                    return applied
            try:
                return await self.send(decision, policy.to_retry(change))
            except SessionError as error:
                refusal = error

    async def _after_refusal(
        self, decision: Decision, change: Change, policy: RetryPolicy, refusal: SessionError
    ) -> Applied | None:
        """Read and decide again where that may help; ``None`` means: send the change again."""
        final = refusal
        if _may_be_stale(refusal, decision):
            self._headers.forget(decision.key)
            if decision.fresh:
                await policy.wait(refusal)
            try:
                await self._refresh(decision)
                policy.check_same_session(decision.header)
            except SessionError as error:
                final = error
            except (
                Exception
            ) as error:  # what the caller gave us to ask for groups may raise anything
                if policy.lost is None:
                    raise
                raise policy.lost from error
            else:
                return None
        if isinstance(final, SessionExpiredError) and decision.caller.user_id != (
            decision.header.owner_id
        ):
            final = SessionNotFoundError()  # that it has ended is told to its owner alone
        if policy.proves_applied(final):
            header = policy.header
            return Applied(before=header, header=header, deleted=change.delete)
        if policy.lost is not None and (
            final is not refusal or policy.outcome_still_unknown(final)
        ):
            raise policy.lost from final
        raise final

    async def create(self, scope: Scope, caller: Caller, change: Change) -> Applied:
        """Send a change that creates a session; after a lost answer, again.

        It takes the place of a session that has ended only once the time is confirmed.
        """
        deadline = self._deadlines.begin()
        backoff = Backoff(until=deadline)
        change = msgspec.structs.replace(change, replaces=False)
        told: int | None = None
        applied: Applied | None = None
        lost = False
        while applied is None:
            scope.check_credential(change.at)
            try:
                with self._in_time(deadline, writes=True):
                    applied = await self.storage.apply(change)
            except ReplacementError:
                change = await self._confirmed(change, deadline)
                told = await self._emit_predecessor_expired(change, deadline)
            except StaleHeaderError:
                if not await backoff.pause():
                    raise
            except StorageUnavailableError as error:
                lost = lost or error.outcome_unknown
                if not lost or not await backoff.pause():
                    error.outcome_unknown = lost
                    raise
        decision = self.decision(
            scope, change.session_id, caller, Action.READ, applied.header, at=change.at
        )
        replaced = applied.replaced
        if replaced is not None and replaced.incarnation != told:
            await self.lifecycle.emit_expired(*decision.key, replaced, change.at)
        self._remember(decision, applied)
        await self._emit_change(decision, change, applied)
        return applied

    async def _confirmed(self, change: Change, deadline: float) -> Change:
        """Return a create that may replace an ended session, at an instant that is beyond doubt."""
        with self._in_time(deadline):
            certain = await self.clock.measure()
        if not certain:
            detail = "the store's clock has jumped; an ended session is not replaced until it holds"
            raise StorageUnavailableError(detail)
        header, at = change.create, self.clock()
        if header is None:
            return change
        header = msgspec.structs.replace(header, created_at=at, updated_at=at, last_active_at=at)
        header = msgspec.structs.replace(header, expires_at=fresh_end(header, at))
        return msgspec.structs.replace(change, at=at, create=header, replaces=True)

    async def _emit_predecessor_expired(self, change: Change, deadline: float) -> int | None:
        """Tell that the session which the new one replaces has ended; return its incarnation.

        Before the write, since its answer may be lost, and the hook runs at least once.
        """
        if not self.lifecycle.listens_to("session.expired"):
            return None
        key = change.namespace, change.session_id
        with self._in_time(deadline):
            snapshot = await self.storage.read(*key)
        if snapshot is None or not snapshot.header.is_expired(change.at):
            return None
        await self.lifecycle.emit_expired(*key, snapshot.header, change.at)
        return snapshot.header.incarnation

    def session(self, header: SessionMetadata, caller: Caller, at: datetime) -> Session | None:
        """Return a header as the caller may see it; ``None`` if they may not read it (any more)."""
        role = self.access.role(header, caller, at)
        if role is None:
            return None
        return Session(
            metadata=self.access.view(header, caller, role, at),
            access_role=role,
            visibility=header.visibility_at(at),
        )

    async def emit(
        self, name: str, decision: Decision, header: SessionMetadata, *, seq: int | None = None
    ) -> None:
        """Run the hooks of an event that a verb, not a single change, makes."""
        if self.lifecycle.listens_to(name):
            seen = None if name.startswith("message.") else owner_view(header, decision.at)
            await self.lifecycle.emit(_event(name, decision, session=seen, seq=seq))

    async def confirm(self, decision: Decision) -> None:
        """Decide on a fresh read if that was not done: before a refusal is told, whatever it is."""
        if not decision.fresh:
            await self._refresh(decision)

    async def _refresh(self, decision: Decision) -> None:
        """Bring a decision up to date; raises the refusal if it no longer stands."""
        caller = Caller(decision.caller.user_id)
        result = await self.read(
            decision.scope,
            decision.session_id,
            caller,
            decision.action,
            deadline=decision.deadline,
        )
        again = result.decision
        decision.caller, decision.header = again.caller, again.header
        decision.at, decision.fresh = again.at, True
        decision.valid_until = again.valid_until

    def _remember(self, decision: Decision, applied: Applied) -> None:
        if applied.deleted:
            self._headers.forget(decision.key)
        else:
            self._headers.put(decision.key, applied.header)

    async def _emit_change(self, decision: Decision, change: Change, applied: Applied) -> None:
        """Run the hooks of what was carried out."""
        if applied.replayed or applied.header.hold is not None:
            return
        if change.remove is not None and change.append and applied.removed:
            seq = change.remove.first - 1
            await self.emit("session.rewound", decision, applied.header, seq=seq)
        if applied.added and self.lifecycle.listens_to("message.appended"):
            for stored in applied.added:
                message = decode_message(stored, *decision.key)
                event = _event("message.appended", decision, message=message, seq=message.seq)
                await self.lifecycle.emit(event)
        name = session_event_name(change, applied)
        if name is not None:
            await self.emit(name, decision, applied.header)


def _may_be_stale(refusal: SessionError, decision: Decision) -> bool:
    """Whether a refusal by the storage may fall once the header is read again."""
    if isinstance(refusal, SessionMovedError):
        return not decision.fresh
    return isinstance(refusal, StaleHeaderError | SessionNotFoundError)


def _event(
    name: str,
    decision: Decision,
    *,
    session: SessionMetadata | None = None,
    message: Message | None = None,
    seq: int | None = None,
) -> SessionEvent:
    return SessionEvent(
        name=name,
        at=decision.at,
        namespace=decision.scope.namespace,
        session_id=decision.session_id,
        user_id=decision.caller.user_id,
        session=session,
        message=message,
        seq=seq,
    )
