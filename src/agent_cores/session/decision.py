"""What was read and decided: ``Scope``, ``Decision`` and ``ReadResult``."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.access.access_control import Action, Caller
from agent_cores.session.access.groups import GroupsOf, ask_for_groups
from agent_cores.session.errors import UnauthenticatedError
from agent_cores.session.models.limits import DEFAULT_LIMITS
from agent_cores.session.models.session import AccessRole, SessionMetadata
from agent_cores.session.models.snapshot import Snapshot

if TYPE_CHECKING:
    from agent_cores.session.models.change import Change


class Scope(msgspec.Struct, frozen=True):
    """Where a manager or a view of it works: one namespace, and how its groups are found.

    ``until`` is the end of the credential that a view acts on; what is decided holds until then.
    ``raw``: content, metadata and context are handed out as the JSON that is stored.
    """

    namespace: str
    groups_of: GroupsOf | None = None
    max_groups: int = DEFAULT_LIMITS.groups
    timeout: float = 10.0
    until: datetime | None = None
    raw: bool = False

    def check_credential(self, at: datetime) -> None:
        """Refuse what the credential has not lived to see decided: the store may be slow."""
        if self.until is not None and at >= self.until:
            raise UnauthenticatedError("the credential has expired")

    async def with_groups(self, caller: Caller, *, until: float | None = None) -> Caller:
        """Return the caller with their groups, asked for anew; see ``ask_for_groups``.

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


class Decision(msgspec.Struct):
    """A yes: this caller may do this with the session that ``header`` shows.

    It holds before ``valid_until``, if that is given. ``fresh``: the header was read for this
    decision, not taken from the cache. ``clock`` tells how old it is by the time it is applied, and
    ``deadline`` is when the operation has to be over, as ``time.monotonic()`` counts.
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
    valid_until: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and session id."""
        return self.scope.namespace, self.session_id

    def guard(self, change: Change) -> Change:
        """Return the change with what must still stand for this decision to hold."""
        header = self.header
        if change.basis is header and change.at is self.at:
            return change  # made for this decision
        return msgspec.structs.replace(
            change,
            at=self.at,
            clock=self.clock,
            basis=header,
            valid_until=self.valid_until,
            incarnation=header.incarnation,
            access_revision=header.access_revision,
        )


class ReadResult(msgspec.Struct, frozen=True):
    """What was read, for whom, and as what they read it."""

    snapshot: Snapshot
    decision: Decision
    role: AccessRole
