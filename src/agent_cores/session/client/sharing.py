"""The client's verbs on access and turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.client import arguments
from agent_cores.session.client.calls import Request
from agent_cores.session.client.conversations import ConversationCalls
from agent_cores.session.client.pool import NO_CONTENT
from agent_cores.session.client.reading import read_grant, read_nothing, read_turn
from agent_cores.session.errors import TurnLostError
from agent_cores.session.inputs import new_id
from agent_cores.session.models.session import AccessRole
from agent_cores.session.wire import shapes

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.models.session import Grant, Session, Turn, Visibility

_SUBJECT = {"subject": "target_user_id"}
_TOKEN = {"turn": "token"}


class SharingCalls(ConversationCalls):
    """Share, revoke, set visibility, transfer; take, renew and release the turn."""

    async def share_session(
        self,
        session_id: str,
        owner_id: str,
        target_user_id: str,
        *,
        role: AccessRole | str = AccessRole.VIEWER,
        expires_at: datetime | None = None,
    ) -> Grant:
        """Give a user, or ``group:<name>``, a role in the session; sharing again replaces it."""
        reply = await self._ask(
            "PUT",
            session_id,
            owner_id,
            "/grants",
            lambda: Request(
                shapes.ShareSession(
                    subject=arguments.raw(target_user_id, "target_user_id"),
                    role=arguments.raw(role, "role"),
                    expires_at=arguments.instant(expires_at, "expires_at"),
                )
            ),
            names=_SUBJECT,
            user_field="owner_id",
        )
        return read_grant(reply)

    async def revoke_access(self, session_id: str, user_id: str, target_user_id: str) -> bool:
        """Revoke a grant: the owner anyone's, others their own. ``False``: there was none."""
        reply = await self._ask(
            "POST",
            session_id,
            user_id,
            "/grants/revoke",
            lambda: Request(
                shapes.RevokeAccess(subject=arguments.raw(target_user_id, "target_user_id"))
            ),
            names=_SUBJECT,
        )
        read_nothing(reply)
        return reply.headers.get("had-grant") == "true"

    async def set_visibility(
        self,
        session_id: str,
        user_id: str,
        visibility: Visibility | str,
        *,
        expected_revision: int | None = None,
        expected_version: str | None = None,
    ) -> Session:
        """Make the session public or not; ``shared`` keeps the grants, ``private`` revokes them."""
        reply = await self._ask(
            "PUT",
            session_id,
            user_id,
            "/visibility",
            lambda: Request(
                shapes.SetVisibility(visibility=arguments.raw(visibility, "visibility")),
                headers=arguments.expected(expected_revision, expected_version),
            ),
        )
        return self._read(reply)

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
        """Make another user the owner. ``None``: the old owner can no longer read the session."""
        reply = await self._ask(
            "PUT",
            session_id,
            owner_id,
            "/owner",
            lambda: Request(
                shapes.TransferOwnership(
                    owner_id=arguments.raw(new_owner_id, "new_owner_id"),
                    keep_role=arguments.raw(keep_role, "keep_role"),
                ),
                headers=arguments.expected(expected_revision, expected_version),
            ),
            names={"owner_id": "new_owner_id"},
            user_field="owner_id",
            groups_tell=True,
        )
        return None if reply.status == NO_CONTENT else self._read(reply)

    async def take_turn(
        self,
        session_id: str,
        user_id: str,
        *,
        lease_seconds: float = 30,
        token: str | None = None,
    ) -> Turn:
        """Take the turn. Over HTTP, leases are whole seconds, rounded up."""

        def request() -> Request:
            chosen: Any = new_id() if token is None else arguments.raw(token, "token")
            return Request(
                shapes.TakeTurn(turn=chosen, lease_seconds=arguments.lease(lease_seconds))
            )

        reply = await self._ask(
            "POST", session_id, user_id, "/turn", request, names=_TOKEN, repeatable=True
        )
        return read_turn(reply)

    async def renew_turn(
        self, session_id: str, user_id: str, token: str, *, lease_seconds: float = 30
    ) -> Turn:
        """Restart the lease. Raises ``TurnLostError`` if another worker has the turn."""
        reply = await self._ask(
            "PUT",
            session_id,
            user_id,
            "/turn/-",
            lambda: Request(
                shapes.RenewTurn(lease_seconds=arguments.lease(lease_seconds)), tail=_held(token)
            ),
            names=_TOKEN,
            repeatable=True,
        )
        return read_turn(reply)

    async def release_turn(self, session_id: str, user_id: str, token: str) -> bool:
        """Release the turn. Raises ``TurnLostError`` if it is not held with this token."""
        reply = await self._ask(
            "DELETE",
            session_id,
            user_id,
            "/turn/-",
            lambda: Request(tail=_held(token)),
            names=_TOKEN,
            repeatable=True,
            done_if=TurnLostError,
        )
        read_nothing(reply)
        return True


def _held(token: str) -> str:
    return f"/turn/{arguments.segment(arguments.INPUTS.name(token, 'token'))}"
