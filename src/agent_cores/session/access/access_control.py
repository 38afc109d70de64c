"""``AccessController``: who may do what with a session. Pure functions of the header; no I/O.

| may | viewer | editor | owner |
| -- | -- | -- | -- |
| read the header (only your own grant) and messages; fork; leave | x | x | x |
| read context; append; update; take a turn; update or delete messages you wrote | | x | x |
| see all grants; share, revoke, set visibility, transfer, archive, renew, delete | | | x |
| rewind; replace and pop messages; update or delete any message; delete old messages | | | x |

An operator acts for the program itself: it has the role owner in every session of its namespace.
Only code that holds a manager, or a key with the right ``operator``, makes such a caller; no user
id does.

A caller who may not read a session gets the error of an id that does not exist; one who may read
it, but not perform the action, gets ``AccessDeniedError``. An expired session is absent for
everybody; only its owner learns that it has expired.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import (
    AccessDeniedError,
    SessionExpiredError,
    SessionMovedError,
    SessionNotFoundError,
)
from agent_cores.session.models.session import (
    GROUP_PREFIX,
    AccessRole,
    Grant,
    Hold,
    SessionMetadata,
    Subjects,
    Turn,
    grants_to,
)
from agent_cores.session.models.values import copy_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


class Action(Enum):
    """An action on a session: its name in error messages, and the role that it requires."""

    READ = ("reading", AccessRole.VIEWER)
    FORK = ("forking", AccessRole.VIEWER)
    LEAVE = ("leaving", AccessRole.VIEWER)
    READ_CONTEXT = ("reading the context", AccessRole.EDITOR)
    APPEND = ("appending", AccessRole.EDITOR)
    UPDATE = ("updating", AccessRole.EDITOR)
    TAKE_TURN = ("taking a turn", AccessRole.EDITOR)
    UPDATE_OWN_MESSAGE = ("updating a message", AccessRole.EDITOR)
    UPDATE_MESSAGE = ("updating another's message", AccessRole.OWNER)
    DELETE_OWN_MESSAGE = ("deleting a message", AccessRole.EDITOR)
    DELETE_MESSAGE = ("deleting another's message", AccessRole.OWNER)
    SHARE = ("sharing", AccessRole.OWNER)
    REVOKE = ("revoking", AccessRole.OWNER)
    SET_VISIBILITY = ("setting the visibility", AccessRole.OWNER)
    TRANSFER = ("transferring", AccessRole.OWNER)
    ARCHIVE = ("archiving", AccessRole.OWNER)
    RENEW = ("renewing", AccessRole.OWNER)
    REWIND = ("rewinding", AccessRole.OWNER)
    REPLACE = ("replacing messages", AccessRole.OWNER)
    POP = ("popping messages", AccessRole.OWNER)
    TRIM = ("deleting old messages", AccessRole.OWNER)
    DELETE = ("deleting", AccessRole.OWNER)

    def __init__(self, label: str, role: AccessRole) -> None:
        self.label = label
        self.role = role
        self.rank: int = role.rank


def both(first: Action, second: Action) -> Action:
    """Return the one that requires the higher role: whoever may do it may do both."""
    return second if second.rank > first.rank else first


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Who acts. ``groups`` are bare names, ``None`` until an action needs them.

    ``operator`` is the name of the operator that acts in the name of ``user_id``; for users it is
    ``None``.
    """

    user_id: str
    groups: tuple[str, ...] | None = None
    _subjects: Subjects | None = None
    operator: str | None = None

    def owns(self, header: SessionMetadata) -> bool:
        """Whether the caller has the rights of the session's owner."""
        return header.owner_id == self.user_id or self.operator is not None

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects whose grants apply to this caller."""
        if self._subjects is not None:
            return self._subjects
        return (self.user_id, *(GROUP_PREFIX + group for group in self.groups or ()))

    def in_groups(self, groups: tuple[str, ...]) -> Caller:
        """Return the caller as a member of these groups."""
        bare = Caller(self.user_id, groups, None, self.operator)
        if not groups:
            return bare
        return Caller(self.user_id, groups, Subjects.of(bare.subjects), self.operator)


class AccessController:
    """Decides from a header, a caller and an instant."""

    def role(self, header: SessionMetadata, caller: Caller, at: datetime) -> AccessRole | None:
        """Return the caller's role, or ``None`` if the session may not even be read."""
        if caller.owns(header):
            return AccessRole.OWNER
        best: AccessRole | None = AccessRole.VIEWER if header.public else None
        if header.grants:
            for grant in grants_to(header.grants, caller.subjects):
                if grant.is_live(at) and (best is None or grant.role.rank > best.rank):
                    best = grant.role
        return best

    def allows(self, header: SessionMetadata, caller: Caller, action: Action, at: datetime) -> bool:
        """Whether :meth:`check` would allow the action."""
        if header.expires_at is not None and at >= header.expires_at:
            return False
        hold = header.hold
        # Most sessions have no hold, and on Python 3.11 a member of an enum is slow to look up.
        if hold is not None and (hold is Hold.OPENING or hold is Hold.MOVED):
            return False
        if caller.owns(header):
            return True
        role = self.role(header, caller, at)
        return role is not None and role.rank >= action.rank

    def check(
        self, header: SessionMetadata, caller: Caller, action: Action, at: datetime
    ) -> AccessRole:
        """Return the caller's role if the action is allowed; raise why not otherwise.

        Raises ``SessionNotFoundError``, ``SessionExpiredError`` (to the owner),
        ``SessionMovedError`` (to callers who may read) or ``AccessDeniedError``.
        """
        role = self.role(header, caller, at)
        if role is None or header.hold is Hold.OPENING:
            raise SessionNotFoundError
        if header.is_expired(at):
            raise SessionExpiredError if role is AccessRole.OWNER else SessionNotFoundError
        if header.hold is Hold.MOVED:
            raise SessionMovedError
        if role.rank < action.rank:
            article = "an" if role is AccessRole.EDITOR else "a"
            detail = f"{action.label} requires the {action.role} role; you are {article} {role}"
            raise AccessDeniedError(detail)
        return role

    def check_operator(self, caller: Caller) -> None:
        """Raise ``AccessDeniedError`` unless the caller may list the sessions of all owners."""
        if caller.operator is None:
            raise AccessDeniedError("listing the sessions of other owners requires an operator")

    def may_import(self, caller: Caller) -> bool:
        """Whether the caller may say when, and by whom, a message was created."""
        return caller.operator is not None

    def deletion_of(self, caller: Caller, authors: Iterable[str]) -> Action:
        """Return the action that is required to delete messages of these authors."""
        own = all(author == caller.user_id for author in authors)
        return Action.DELETE_OWN_MESSAGE if own else Action.DELETE_MESSAGE

    def allowed_until(
        self, header: SessionMetadata, caller: Caller, action: Action, at: datetime
    ) -> datetime | None:
        """Return when the caller stops being allowed this: the latest end of their grants.

        Return ``None`` if there is no end: the caller has the owner's rights, the session is
        public, or a grant has no end.
        """
        viewer = action.rank <= AccessRole.VIEWER.rank
        if caller.owns(header) or (header.public and viewer):
            return None
        grants = (header.grants.get(subject) for subject in caller.subjects)
        ends = [g.expires_at for g in grants if g and g.is_live(at) and g.role.rank >= action.rank]
        return None if None in ends else max((end for end in ends if end), default=None)

    def needs_groups(
        self, header: SessionMetadata, caller: Caller, action: Action, at: datetime
    ) -> bool:
        """Whether the action is refused without groups, but the caller's groups might allow it."""
        return (
            caller.groups is None
            and not self.allows(header, caller, action, at)
            and any(subject.startswith(GROUP_PREFIX) for subject in header.grants)
        )

    def view(
        self, header: SessionMetadata, caller: Caller, role: AccessRole, at: datetime
    ) -> SessionMetadata:
        """Return the header as the caller may see it, in a copy that shares nothing mutable.

        The turn's token and the fields for providers are left out. The owner sees all live grants,
        everyone else their own.
        """
        return _without_secrets(header, self.visible_grants(header, caller, role, at), at)

    def visible_grants(
        self, header: SessionMetadata, caller: Caller, role: AccessRole, at: datetime
    ) -> dict[str, Grant]:
        """Return the live grants that the caller may see."""
        if role is AccessRole.OWNER:
            visible: Iterable[Grant] = header.grants.values()
        else:
            visible = grants_to(header.grants, caller.subjects)
        return {grant.subject: grant for grant in visible if grant.is_live(at)}


def owner_view(header: SessionMetadata, at: datetime) -> SessionMetadata:
    """Return the header as its owner may see it."""
    live = {subject: grant for subject, grant in header.grants.items() if grant.is_live(at)}
    return _without_secrets(header, live, at)


def _without_secrets(
    header: SessionMetadata, grants: dict[str, Grant], at: datetime
) -> SessionMetadata:
    turn = header.turn
    held = turn is not None and at < turn.expires_at
    return msgspec.structs.replace(
        header,
        attributes=copy_json(header.attributes),
        grants=grants,
        turn=Turn(None, turn.expires_at) if turn is not None and held else None,
        access_revision=None,
        hold=None,
        request_digest=None,
        listed_at=None,
        due_at=None,
        context_bytes=None,
    )
