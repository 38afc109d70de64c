"""Share, revoke, set the visibility, transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.access.access_control import Action
from agent_cores.session.errors import InvalidInputError
from agent_cores.session.inputs import choice, expected_state, future
from agent_cores.session.models.effects import AccessEffect
from agent_cores.session.models.session import AccessRole, Grant, Session, Visibility, without
from agent_cores.session.verbs.base import Verbs

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.access.access_control import Caller
    from agent_cores.session.decision import Decision
    from agent_cores.session.models.change import Change

GIVEN = (AccessRole.VIEWER, AccessRole.EDITOR)


class SharingVerbs(Verbs):
    """Verbs on who may do what."""

    async def share_session(
        self,
        session_id: str,
        owner_id: str,
        target_user_id: str,
        *,
        role: AccessRole | str = AccessRole.VIEWER,
        expires_at: datetime | None = None,
    ) -> Grant:
        """Give a user, or ``group:<name>``, a role in the session; a later grant replaces it.

        Raises ``AccessDeniedError`` for all but the owner.
        """
        decision = await self._decide(session_id, owner_id, Action.SHARE, "owner_id")

        def new_grant() -> Grant:
            subject = self._inputs.subject(target_user_id, "target_user_id")
            if subject == decision.header.owner_id:
                raise InvalidInputError("target_user_id", "is the owner, who needs no grant")
            return Grant(
                subject=subject,
                role=choice(role, AccessRole, "role", GIVEN),
                granted_by=decision.caller.user_id,
                granted_at=decision.at,
                expires_at=future(expires_at, "expires_at", decision.at),
            )

        grant = await self._checked(decision, new_grant)
        change = decision.change(access=AccessEffect(grant=(grant,)))
        applied = await self._engine.apply(decision, change)
        return applied.header.grants.get(grant.subject, grant)

    async def revoke_access(self, session_id: str, user_id: str, target_user_id: str) -> bool:
        """Remove a grant: the owner may remove any, everybody else their own.

        Returns ``False`` if there was none.
        """
        action = Action.LEAVE if target_user_id == user_id else Action.REVOKE
        decision = await self._decide(session_id, user_id, action)
        subject = await self._checked(
            decision, lambda: self._inputs.subject(target_user_id, "target_user_id")
        )
        change = decision.change(access=AccessEffect(revoke=(subject,)))
        applied = await self._engine.apply(decision, change)
        before = applied.before
        return before is not None and subject in before.grants

    async def set_visibility(
        self,
        session_id: str,
        user_id: str,
        visibility: Visibility | str,
        *,
        expected_revision: int | None = None,
        expected_version: str | None = None,
    ) -> Session:
        """Make the session public or not: ``shared`` keeps the grants, ``private`` revokes them.

        Every user of the namespace who knows its id may read a public session. No list shows it.
        """
        decision = await self._decide(session_id, user_id, Action.SET_VISIBILITY)

        def change() -> Change:
            wanted = choice(visibility, Visibility, "visibility")
            return decision.change(
                expected_state(expected_revision, expected_version),
                access=AccessEffect(
                    public=wanted is Visibility.PUBLIC, revoke_all=wanted is Visibility.PRIVATE
                ),
            )

        return await self._apply_to_header(decision, await self._checked(decision, change))

    async def transfer_ownership(
        self,
        session_id: str,
        owner_id: str,
        new_owner_id: str,
        *,
        keep_role: AccessRole | str | None = None,
        expected_revision: int | None = None,
        expected_version: str | None = None,
    ) -> Session | None:
        """Make another user the owner. The old one keeps ``keep_role``, or nothing.

        Returns the header, or ``None`` if the old owner can no longer read the session.
        """
        decision = await self._decide(session_id, owner_id, Action.TRANSFER, "owner_id")
        expected = await self._checked(
            decision, lambda: expected_state(expected_revision, expected_version)
        )
        effect = await self._checked(
            decision, lambda: self._transfer(decision, new_owner_id, keep_role)
        )
        caller = await self._with_groups_after(decision, effect)
        change = decision.change(expected, access=effect)
        applied = await self._engine.apply(decision, change)
        return self._engine.session(applied.header, caller, decision.at)

    async def _with_groups_after(self, decision: Decision, effect: AccessEffect) -> Caller:
        """Return the caller, with the groups that may still let them read after the transfer.

        ``groups_of`` is called before the write: if it fails, nothing has been written.
        """
        header = decision.header
        grants = without(header.grants, effect.revoke) | {g.subject: g for g in effect.grant}
        after = msgspec.structs.replace(header, owner_id=effect.owner_id, grants=grants)
        caller = decision.caller
        if self._engine.access.needs_groups(after, caller, Action.READ, decision.at):
            return await self._scope.with_groups(caller, until=decision.deadline)
        return caller

    def _transfer(
        self, decision: Decision, new_owner_id: str, keep_role: AccessRole | str | None
    ) -> AccessEffect:
        new_owner = self._inputs.user_id(new_owner_id, "new_owner_id")
        old_owner = decision.header.owner_id
        grants: tuple[Grant, ...] = ()
        if keep_role is not None and new_owner != old_owner:
            kept = Grant(
                subject=old_owner,
                role=choice(keep_role, AccessRole, "keep_role", GIVEN),
                granted_by=decision.caller.user_id,
                granted_at=decision.at,
            )
            grants = (kept,)
        return AccessEffect(owner_id=new_owner, revoke=(new_owner,), grant=grants)
