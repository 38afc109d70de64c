"""``Reader``: the first two steps of every operation, read and decide.

Reads need no cache, but a cached header saves a round trip: if it lets the caller read, header,
context and messages are read together; if not, the header is read first. A decision for a write may
rest on the cached header, because the store compares what it relied on. A cached header only ever
approves: each refusal is decided on a fresh read.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agent_cores.session.access.access_control import AccessController, Action, Caller
from agent_cores.session.deadline import Deadlines, InTime, margin_of
from agent_cores.session.decision import Decision, ReadResult, Scope
from agent_cores.session.errors import (
    CorruptRecordError,
    SessionNotFoundError,
    StorageUnavailableError,
)
from agent_cores.session.header_cache import HeaderCache
from agent_cores.session.models.expiry import earlier
from agent_cores.session.storage.headers import UnreadableRecords

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent_cores.session.lifecycle.store_clock import StoreClock
    from agent_cores.session.models.limits import Limits
    from agent_cores.session.models.query import Found, Query
    from agent_cores.session.models.session import AccessRole, SessionMetadata
    from agent_cores.session.models.snapshot import Snapshot, Window
    from agent_cores.session.storage.base import Counts, StorageProvider


class Reader:
    """Reads sessions of one storage, and decides what a caller may do with them."""

    def __init__(
        self,
        storage: StorageProvider,
        limits: Limits,
        clock: StoreClock,
        *,
        timeout: float,
        cached_headers: int,
        cached_header_bytes: int,
    ) -> None:
        self.storage = storage
        self.limits = limits
        self.clock = clock
        self.access: AccessController = AccessController()
        self._timeout = timeout
        self._deadlines = Deadlines(timeout)
        self.headers: HeaderCache = HeaderCache(cached_headers, cached_header_bytes)
        self._unreadable = UnreadableRecords("lists that include what it holds leave it out")

    def start(self) -> None:
        """Begin to work in the running event loop."""
        self._deadlines = Deadlines(self._timeout)

    def stop(self) -> None:
        """Leave no timer behind in the event loop."""
        self._deadlines.close()

    async def find(self, query: Query, deadline: float | None = None) -> Found:
        """Return a page of a listing, as part of the operation with that ``deadline`` if given."""
        with self.in_time(self.begin() if deadline is None else deadline):
            return await self.storage.find(query)

    async def count(self, namespace: str) -> Counts:
        """Count the sessions of a namespace."""
        with self.in_time(self.begin()):
            return await self.storage.count(namespace, self.clock())

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
        """Read the session, and decide on what was read; raise the refusal.

        For a caller who may not read the session, only its header is read: one round trip, as for
        an id that does not exist. Otherwise context and messages come with the header in one round
        trip if the cached header lets the caller read them, and in a second one if not.

        This begins an operation, unless it is given the ``deadline`` of one.
        """
        if deadline is None:
            deadline = self.begin()
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

    async def read_listed(
        self,
        scope: Scope,
        caller: Caller,
        headers: Sequence[SessionMetadata],
        *,
        deadline: float,
        context: bool = False,
        window: Window | None = None,
    ) -> list[ReadResult]:
        """Read the sessions that a listing has just found, and decide on each as it was read.

        The context is read where the listed header lets the caller read it. Sessions that are gone
        or that the caller may no longer read are left out, and so are records that cannot be read.
        """
        at = self.clock()
        with_context: list[SessionMetadata] = []
        without: list[SessionMetadata] = []
        for header in headers:
            may = context and self.access.allows(header, caller, Action.READ_CONTEXT, at)
            (with_context if may else without).append(header)
        read: dict[str, Snapshot | CorruptRecordError | None] = {}
        for some in (with_context, without):
            ids = [header.session_id for header in some]
            if not ids:
                continue
            names = [(scope.namespace, session_id) for session_id in ids]
            with self.in_time(deadline):
                snapshots = await self.storage.read_several(
                    names, context=some is with_context, window=window
                )
            read |= zip(ids, snapshots, strict=True)
        results = (
            self._listed(scope, caller, header, read[header.session_id], deadline=deadline)
            for header in headers
        )
        return [result for result in results if result is not None]

    def _listed(
        self,
        scope: Scope,
        caller: Caller,
        listed: SessionMetadata,
        snapshot: Snapshot | CorruptRecordError | None,
        *,
        deadline: float,
    ) -> ReadResult | None:
        """Decide on what was read of a session that a listing has found; ``None`` leaves it out."""
        if isinstance(snapshot, CorruptRecordError):
            self.leave_out(snapshot)
            return None
        key = scope.namespace, listed.session_id
        if snapshot is None:
            self.headers.forget(key)
            return None
        header, at = snapshot.header, self.clock()
        self.headers.update(key, header)
        if not self.access.allows(header, caller, Action.READ, at):
            return None
        role = self.access.check(header, caller, Action.READ, at)
        decision = self.decision(
            scope, listed.session_id, caller, Action.READ, header, at=at, deadline=deadline
        )
        return ReadResult(snapshot, decision, role)

    def leave_out(self, error: CorruptRecordError) -> None:
        """Log, once, that lists leave out a session whose context or messages cannot be read."""
        self._unreadable.log((error.namespace, error.session_id), error)

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
        """Return the caller's role by the cached header; the caller has groups if it needed them.

        ``None``: there is no cached header, or it does not allow the action.
        """
        header = self.headers.get((scope.namespace, session_id))
        if header is None:
            return caller, None
        at = self.clock()
        if self.access.needs_groups(header, caller, wanted, at):
            caller = await scope.with_groups(caller, until=deadline)
            at = self.clock()
        allowed = self.access.allows(header, caller, action, at)
        return caller, self.access.role(header, caller, at) if allowed else None

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
        with self.in_time(deadline):
            snapshot = await self.storage.read(*key, context=context, window=window)
        if snapshot is None:
            self.headers.forget(key)
            raise SessionNotFoundError
        header, at = snapshot.header, self.clock()
        self.headers.update(key, header)
        if self.access.needs_groups(header, caller, wanted, at):
            caller = await scope.with_groups(caller, until=deadline)
            at = self.clock()
        role = self.access.check(header, caller, action, at)
        self.headers.put(key, header)
        decision = self.decision(
            scope, session_id, caller, action, header, at=at, deadline=deadline
        )
        return ReadResult(snapshot, decision, role)

    def decide_for_owner(
        self, scope: Scope, session_id: str, user_id: str, action: Action
    ) -> Decision | None:
        """Approve a write by the owner of a session whose header is cached.

        The ids need no check then: they are those of a stored session. ``None``: the cache does
        not tell.
        """
        if not (isinstance(session_id, str) and isinstance(user_id, str)):
            return None
        header = self.headers.get((scope.namespace, session_id))
        if header is None or header.owner_id != user_id:
            return None
        caller, at = Caller(header.owner_id), self.clock.now()
        if not self.access.allows(header, caller, action, at):
            return None
        return self.decision(scope, header.session_id, caller, action, header, at=at, fresh=False)

    async def decide(
        self, scope: Scope, session_id: str, caller: Caller, action: Action
    ) -> Decision:
        """Decide on a write: by the cached header if that approves it, else by a fresh read."""
        header = self.headers.get((scope.namespace, session_id))
        if header is not None:
            at = self.clock()
            if self.access.allows(header, caller, action, at):
                return self.decision(scope, session_id, caller, action, header, at=at, fresh=False)
        return (await self.read(scope, session_id, caller, action)).decision

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
        """Return the approval of an action that ``header`` allows, as of ``at`` (default: now).

        This begins an operation, unless it is given the ``deadline`` of one.
        """
        if at is None:
            at = self.clock()
        until = scope.until
        if until is not None:
            scope.check_credential(at)
        if header.owner_id != caller.user_id:
            until = earlier(until, self.access.allowed_until(header, caller, action, at))
        return Decision(
            scope=scope,
            session_id=session_id,
            caller=caller,
            action=action,
            header=header,
            at=at,
            fresh=fresh,
            clock=self.clock.now,
            deadline=self.begin() if deadline is None else deadline,
            limits=self.limits,
            valid_until=until,
        )

    async def confirm(self, decision: Decision) -> None:
        """Make sure that the decision rests on a fresh read; raise the refusal if it fell.

        To be called before any other refusal is raised: whoever may no longer do this gets that
        answer.
        """
        if not decision.fresh:
            await self.refresh(decision)

    async def refresh(self, decision: Decision) -> None:
        """Decide again on a fresh read; raise the refusal if the action is no longer allowed."""
        result = await self.read(
            decision.scope,
            decision.session_id,
            decision.scope.caller(decision.caller.user_id),
            decision.action,
            deadline=decision.deadline,
        )
        again = result.decision
        decision.caller, decision.header = again.caller, again.header
        decision.at, decision.fresh = again.at, True
        decision.valid_until = again.valid_until

    def begin(self) -> float:
        """Return the deadline of an operation that begins now, as ``time.monotonic()`` counts."""
        return self._deadlines.begin()

    def last_start(self, deadline: float) -> float:
        """Return the last instant at which an operation with that deadline may be tried again."""
        return deadline - margin_of(self._timeout)

    def begin_operation(self, decision: Decision) -> None:
        """Begin the next operation on the same session, with a deadline of its own."""
        decision.at, decision.deadline = self.clock(), self.begin()

    def in_time(self, deadline: float, *, writes: bool = False) -> InTime:
        """Bound a call of the storage; past the deadline raise ``StorageUnavailableError``."""
        too_late = partial(self.too_late, outcome_unknown=writes)
        return InTime(self._deadlines, deadline, too_late)

    def too_late(self, *, outcome_unknown: bool) -> StorageUnavailableError:
        """Return the error of an operation that ran past its deadline."""
        detail = f"the store did not respond within SESSION_TIMEOUT, {self._timeout:g} s"
        return StorageUnavailableError(detail, outcome_unknown=outcome_unknown)
