"""Who may do what: grants, visibility, owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.access.access_control import Action
from agent_cores.session.errors import InvalidInputError
from agent_cores.session.models.times import whole_millis
from agent_cores.session.service.responses import Response
from agent_cores.session.service.routes.sessions import S
from agent_cores.session.service.routing import Route
from agent_cores.session.wire import shapes
from agent_cores.session.wire.conversion import grant_shape

if TYPE_CHECKING:
    from agent_cores.session.service.request.call import Call


async def list_grants(call: Call) -> Response:
    """List the grants that the caller may see."""
    session = await call.view.get_session(call.session_id, call.user_id, message_limit=0)
    data = [grant_shape(grant) for grant in session.metadata.grants.values()]
    return call.json(shapes.GrantPage(data, has_more=False, next_cursor=None))


async def share_session(call: Call) -> Response:
    """Give a user or group a role."""
    body: shapes.ShareSession = call.body()
    expires_at = body.expires_at
    if expires_at is not None:
        try:
            expires_at = whole_millis(expires_at)
        except OverflowError as error:
            await call.view.check(call.session_id, call.user_id, Action.SHARE)
            raise InvalidInputError("expires_at", "must be in the years 1 to 9999") from error
    grant = await call.view.share_session(
        call.session_id, call.user_id, body.subject, role=body.role, expires_at=expires_at
    )
    return call.json(grant_shape(grant))


async def revoke_access(call: Call) -> Response:
    """Revoke a grant."""
    body: shapes.RevokeAccess = call.body()
    had = await call.view.revoke_access(call.session_id, call.user_id, body.subject)
    return Response(204, headers=[(b"had-grant", b"true" if had else b"false")])


async def set_visibility(call: Call) -> Response:
    """Make a session public, shared or private."""
    body: shapes.SetVisibility = call.body()
    return call.session(
        await call.view.set_visibility(
            call.session_id,
            call.user_id,
            body.visibility,
            **call.expected,
        )
    )


async def transfer_ownership(call: Call) -> Response:
    """Make another user the owner."""
    body: shapes.TransferOwnership = call.body()
    session = await call.view.transfer_ownership(
        call.session_id,
        call.user_id,
        body.owner_id,
        keep_role=body.keep_role,
        **call.expected,
    )
    return Response(204) if session is None else call.session(session)


ROUTES = (
    Route(
        method="GET",
        path=f"{S}/grants",
        handler=list_grants,
        right="read",
        role="owner (others: their own)",
        action=Action.READ,
        summary="List grants",
        responses={200: shapes.GrantPage},
    ),
    Route(
        method="PUT",
        path=f"{S}/grants",
        handler=share_session,
        right="write",
        role="owner",
        action=Action.SHARE,
        summary="Give a user or group a role",
        request=shapes.ShareSession,
        responses={200: shapes.Grant},
        names={"target_user_id": "subject"},
    ),
    Route(
        method="POST",
        path=f"{S}/grants/revoke",
        handler=revoke_access,
        right="write",
        role="owner, or oneself",
        action=Action.LEAVE,
        summary="Revoke a role",
        request=shapes.RevokeAccess,
        responses={204: None},
        names={"target_user_id": "subject"},
    ),
    Route(
        method="PUT",
        path=f"{S}/visibility",
        handler=set_visibility,
        right="write",
        role="owner",
        action=Action.SET_VISIBILITY,
        summary="Make a session public, shared or private",
        request=shapes.SetVisibility,
        responses={200: shapes.Session},
        if_match=True,
    ),
    Route(
        method="PUT",
        path=f"{S}/owner",
        handler=transfer_ownership,
        right="write",
        role="owner",
        action=Action.TRANSFER,
        summary="Make another user the owner",
        request=shapes.TransferOwnership,
        responses={200: shapes.Session, 204: None},
        names={"new_owner_id": "owner_id"},
        if_match=True,
    ),
)
