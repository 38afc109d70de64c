"""``Scope``: what a verb works in. ``Decision``: what it may do. ``ReadResult``: what it read."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.access.access_control import Action, Caller
from agent_cores.session.access.groups import GroupsOf, ask_for_groups
from agent_cores.session.errors import UnauthenticatedError
from agent_cores.session.lifecycle.events import SessionEvent
from agent_cores.session.models.change import Change
from agent_cores.session.models.limits import DEFAULT_LIMITS, Limits
from agent_cores.session.models.session import AccessRole, SessionMetadata
from agent_cores.session.models.snapshot import Snapshot
from agent_cores.session.models.version import NOTHING, Expected

if TYPE_CHECKING:
    from agent_cores.session.models.message import Message


class Scope(msgspec.Struct, frozen=True):
    """What a manager, or a view of it, works in: one namespace, and where groups come from.

    ``until`` is when the credential of a view expires; no decision holds longer. ``raw``: content,
    metadata and context are returned as the JSON that is stored. ``operator`` is the name of the
    operator whose view it is.
    """

    namespace: str
    groups_of: GroupsOf | None = None
    max_groups: int = DEFAULT_LIMITS.groups
    timeout: float = 10.0
    until: datetime | None = None
    raw: bool = False
    operator: str | None = None

    def caller(self, user_id: str) -> Caller:
        """Return the caller that acts here in the name of a user."""
        return Caller(user_id, None, None, self.operator)

    def check_credential(self, at: datetime) -> None:
        """Raise ``UnauthenticatedError`` if the credential has expired while something waited."""
        if self.until is not None and at >= self.until:
            raise UnauthenticatedError("the credential has expired")

    async def with_groups(self, caller: Caller, *, until: float | None = None) -> Caller:
        """Return the caller with their groups, never from a cache; see ``ask_for_groups``.

        ``until`` is the deadline of the operation, as ``time.monotonic()`` counts; without one
        ``groups_of`` has the whole ``SESSION_TIMEOUT``.
        """
        if self.groups_of is None:
            return caller.in_groups(())
        seconds = self.timeout if until is None else max(until - time.monotonic(), 0.0)
        groups = await ask_for_groups(
            self.groups_of, caller.user_id, most=self.max_groups, seconds=seconds
        )
        return caller.in_groups(groups)


class Decision(msgspec.Struct, gc=False):
    """The approval of an action: this caller may do it to the session that ``header`` shows.

    It was made as of ``at`` and holds before ``valid_until``, if that is given. ``fresh``: the
    header was read for this decision, not taken from the cache. ``clock`` gives the time now, and
    ``deadline`` is when the operation must be over, as ``time.monotonic()`` counts.
    """

    scope: Scope
    session_id: str
    caller: Caller
    action: Action
    header: SessionMetadata
    at: datetime
    fresh: bool
    clock: Callable[[], datetime]
    deadline: float
    limits: Limits
    valid_until: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and session id."""
        return self.scope.namespace, self.session_id

    def change(
        self,
        expected: Expected = NOTHING,
        **effects: Any,  # noqa: ANN401 - Change checks
    ) -> Change:
        """Return a change of the session, guarded by what this decision relied on."""
        header = self.header
        return Change(
            namespace=self.scope.namespace,
            session_id=self.session_id,
            at=self.at,
            clock=self.clock,
            limits=self.limits,
            basis=header,
            valid_until=self.valid_until,
            incarnation=header.incarnation,
            access_revision=header.access_revision,
            expected_revision=expected.revision,
            expected_incarnation=expected.incarnation,
            **effects,
        )

    def guard(self, change: Change) -> Change:
        """Return the change, guarded by this decision as it is after a refresh."""
        header = self.header
        if change.basis is header and change.at is self.at:
            return change
        return msgspec.structs.replace(
            change,
            at=self.at,
            clock=self.clock,
            basis=header,
            valid_until=self.valid_until,
            incarnation=header.incarnation,
            access_revision=header.access_revision,
        )

    def event(
        self,
        name: str,
        *,
        session: SessionMetadata | None = None,
        message: Message | None = None,
        seq: int | None = None,
    ) -> SessionEvent:
        """Return an event about the session, by the caller."""
        return SessionEvent(
            name=name,
            at=self.at,
            namespace=self.scope.namespace,
            session_id=self.session_id,
            user_id=self.caller.user_id,
            session=session,
            message=message,
            seq=seq,
        )


class ReadResult(msgspec.Struct, frozen=True):
    """What was read, the decision to allow it, and the role in which the caller reads."""

    snapshot: Snapshot
    decision: Decision
    role: AccessRole
