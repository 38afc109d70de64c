"""Who is calling, erasure, statistics, health."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.service.routing import Route
from agent_cores.session.wire import health, shapes

if TYPE_CHECKING:
    from agent_cores.session.service.request.call import Call
    from agent_cores.session.service.responses import Response

_MOST_RECORDED = 1_000
"""Characters of a user id in the audit log: one that will be refused may be as long as a body."""


async def me(call: Call) -> Response:
    """Return who the caller is, according to the credential."""
    who = call.principal
    return call.json(
        shapes.Me(
            namespace=who.namespace,
            user_id=who.user_id,
            groups=list(who.groups),
            rights=list(who.rights),
            key_id=who.key_id,
        )
    )


async def erase_user(call: Call) -> Response:
    """Erase the sessions that a user owns, and the user's grants."""
    body: shapes.EraseUser = call.body()
    call.erased_user = body.user_id[:_MOST_RECORDED]
    receipt = await call.view.erase_user(body.user_id)
    call.is_complete = receipt.complete
    return call.json(
        shapes.Erased(
            receipt.sessions,
            receipt.messages,
            receipt.grants,
            receipt.complete,
            list(receipt.failed),
        )
    )


async def get_statistics(call: Call) -> Response:
    """Count the sessions of the namespace."""
    counts = await call.view.get_statistics()
    return call.json(shapes.Statistics(counts["sessions"], counts["due"]))


async def healthz(call: Call) -> Response:
    """Return 200 while the process is running."""
    return call.json(health.Health())


async def readyz(call: Call) -> Response:
    """Report whether the service is ready: started, not stopping, and the store available."""
    reason = await call.why_not_ready()
    if reason is None:
        return call.json(health.Health())
    return call.json(health.Unavailable(reason), 503)


ROUTES = (
    Route(
        method="GET",
        path="/v1/me",
        handler=me,
        right="any",
        summary="Who is calling",
        responses={200: shapes.Me},
    ),
    Route(
        method="POST",
        path="/v1/users/erase",
        handler=erase_user,
        right="admin",
        summary="Erase a user",
        request=shapes.EraseUser,
        responses={200: shapes.Erased},
    ),
    Route(
        method="GET",
        path="/v1/statistics",
        handler=get_statistics,
        right="admin",
        summary="Count the sessions of the namespace",
        responses={200: shapes.Statistics},
    ),
    Route(
        method="GET",
        path="/healthz",
        handler=healthz,
        right="open",
        summary="Whether the process answers",
        responses={200: health.Health},
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=readyz,
        right="open",
        summary="Whether requests may be sent here",
        responses={200: health.Health, 503: health.Unavailable},
    ),
)
