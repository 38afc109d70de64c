"""The life of a session: archive, renew, fork."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from agent_cores.session.access.access_control import Action
from agent_cores.session.errors import SessionExistsError
from agent_cores.session.service.routes.sessions import (
    REPLAYED,
    S,
    cannot_choose_id,
    created_answer,
    hours,
    is_replay,
    location,
    may_choose_id,
)
from agent_cores.session.service.routing import Route
from agent_cores.session.wire import shapes

if TYPE_CHECKING:
    from agent_cores.session.service.request.call import Call
    from agent_cores.session.service.responses import Response


async def archive_session(call: Call) -> Response:
    """Make a session read-only."""
    call.body()
    return call.session(await call.view.archive_session(call.session_id, call.user_id))


async def unarchive_session(call: Call) -> Response:
    """Make an archived session active again."""
    call.body()
    return call.session(await call.view.unarchive_session(call.session_id, call.user_id))


async def renew_session(call: Call) -> Response:
    """Restart a session's idle time."""
    body: shapes.RenewSession = call.body()
    ttl_hours = UNSET if body.ttl_seconds is UNSET else hours(body.ttl_seconds)
    return call.session(
        await call.view.renew_session(call.session_id, call.user_id, ttl_hours=ttl_hours)
    )


async def fork_session(call: Call) -> Response:
    """Copy a session."""
    body: shapes.ForkSession = call.body()
    view = call.view
    if not may_choose_id(call, body.id):
        await view.check(call.session_id, call.user_id, Action.FORK)
        raise cannot_choose_id()
    derived = body.id is None and call.key is not None
    target = call.key.derived_id() if derived and call.key is not None else body.id
    digest = await call.digest()
    try:
        forked = await view.fork(
            call.session_id,
            call.user_id,
            new_session_id=target,
            up_to_seq=body.up_to_seq,
            title=body.title,
            metadata=body.metadata,
            ttl_hours=hours(body.ttl_seconds),
            request_digest=digest,
        )
    except SessionExistsError as exists:
        if target is None or digest is None:
            raise
        if not await is_replay(call, target, digest, exists, derived=derived):
            raise
        return await created_answer(call, target, REPLAYED)
    if forked.session is None:
        return await created_answer(call, forked.session_id)
    return call.session(forked.session, 201, location(call, forked.session_id))


ROUTES = (
    Route(
        method="POST",
        path=f"{S}/archive",
        handler=archive_session,
        right="write",
        role="owner",
        action=Action.ARCHIVE,
        summary="Make a session read-only",
        request=shapes.Empty,
        responses={200: shapes.Session},
    ),
    Route(
        method="POST",
        path=f"{S}/unarchive",
        handler=unarchive_session,
        right="write",
        role="owner",
        action=Action.ARCHIVE,
        summary="Make an archived session active again",
        request=shapes.Empty,
        responses={200: shapes.Session},
    ),
    Route(
        method="POST",
        path=f"{S}/renew",
        handler=renew_session,
        right="write",
        role="owner",
        action=Action.RENEW,
        summary="Renew the idle time",
        request=shapes.RenewSession,
        responses={200: shapes.Session},
        names={"ttl_hours": "ttl_seconds"},
    ),
    Route(
        method="POST",
        path=f"{S}/fork",
        handler=fork_session,
        right="write",
        role="viewer",
        action=Action.FORK,
        summary="Copy a session into your own",
        request=shapes.ForkSession,
        responses={201: shapes.Session},
        names={"new_session_id": "id", "ttl_hours": "ttl_seconds"},
        idempotent=True,
    ),
)
