"""Turns: one worker at a time answers in a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.access.access_control import Action
from agent_cores.session.service.responses import Response
from agent_cores.session.service.routes.sessions import S
from agent_cores.session.service.routing import Route
from agent_cores.session.wire import shapes
from agent_cores.session.wire.conversion import wire_time

if TYPE_CHECKING:
    from agent_cores.session import models
    from agent_cores.session.service.request.call import Call


async def take_turn(call: Call) -> Response:
    """Take the turn, or fail if it is held."""
    body: shapes.TakeTurn = call.body()
    turn = await call.view.take_turn(
        call.session_id, call.user_id, lease_seconds=body.lease_seconds, token=body.turn
    )
    return call.json(_shape(turn), 201)


async def renew_turn(call: Call) -> Response:
    """Extend the lease of a turn."""
    body: shapes.RenewTurn = call.body()
    turn = await call.view.renew_turn(
        call.session_id, call.user_id, call.path[1], lease_seconds=body.lease_seconds
    )
    return call.json(_shape(turn))


async def release_turn(call: Call) -> Response:
    """Release a turn."""
    await call.view.release_turn(call.session_id, call.user_id, call.path[1])
    return Response(204)


def _shape(turn: models.Turn) -> shapes.Turn:
    return shapes.Turn(turn.token or "", wire_time(turn.expires_at))


ROUTES = (
    Route(
        method="POST",
        path=f"{S}/turn",
        handler=take_turn,
        right="write",
        role="editor",
        action=Action.TAKE_TURN,
        summary="Take the turn",
        request=shapes.TakeTurn,
        responses={201: shapes.Turn},
        names={"token": "turn"},
    ),
    Route(
        method="PUT",
        path=f"{S}/turn/{{turn}}",
        handler=renew_turn,
        right="write",
        role="holder",
        action=Action.TAKE_TURN,
        summary="Renew the lease of the turn",
        request=shapes.RenewTurn,
        responses={200: shapes.Turn},
        names={"token": "turn"},
    ),
    Route(
        method="DELETE",
        path=f"{S}/turn/{{turn}}",
        handler=release_turn,
        right="write",
        role="holder",
        action=Action.TAKE_TURN,
        summary="Release the turn",
        responses={204: None},
        names={"token": "turn"},
    ),
)
