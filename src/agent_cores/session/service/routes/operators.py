"""Lists and counts of all owners' sessions, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.models.query import SessionCount
from agent_cores.session.service.auth.authentication import user_header
from agent_cores.session.service.routing import Route
from agent_cores.session.wire import shapes
from agent_cores.session.wire.conversion import session_shape

if TYPE_CHECKING:
    from agent_cores.session.service.request.call import Call
    from agent_cores.session.service.responses import Response

_FILTERS = {
    "status": "status",
    "tag": "texts",
    "metadata": "object",
    "created_after": "time",
    "active_after": "time",
    "cursor": "text",
}


async def list_sessions(call: Call) -> Response:
    """List sessions, whoever owns them."""
    query = call.query()
    page = await call.view.list_sessions(
        **_filters(call, query),
        order=query.get("order"),
        include=query.get("include", ()),
        limit=query.get("limit", 10),
    )
    data = [session_shape(session) for session in page]
    return call.json(shapes.SessionPage(data, page.has_more, page.next_cursor))


async def count_sessions(call: Call) -> Response:
    """Count sessions, whoever owns them."""
    return call.json(await call.view.count_sessions(**_filters(call, call.query())))


def _filters(call: Call, query: dict[str, Any]) -> dict[str, Any]:
    return {
        "owner_id": user_header(call.headers, b"x-owner-id"),
        "status": query.get("status"),
        "tags": query.get("tag"),
        "metadata": query.get("metadata"),
        "created_after": query.get("created_after"),
        "active_after": query.get("active_after"),
        "cursor": query.get("cursor"),
    }


ROUTES = (
    Route(
        method="GET",
        path="/v1/operator/sessions",
        handler=list_sessions,
        right="operator",
        summary="List sessions, whoever owns them",
        query={**_FILTERS, "order": "text", "include": "texts", "limit": "integer"},
        responses={200: shapes.SessionPage},
        names={"tags": "tag"},
    ),
    Route(
        method="GET",
        path="/v1/operator/sessions/count",
        handler=count_sessions,
        right="operator",
        summary="Count sessions, whoever owns them",
        query=_FILTERS,
        responses={200: SessionCount},
        names={"tags": "tag"},
    ),
)
