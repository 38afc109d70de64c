"""A manager in a FastAPI or Starlette application.

    manager = SessionManager()
    app = FastAPI(lifespan=manager.lifespan)
    add_error_handler(app)

    @app.get("/chats/{session_id}/messages")
    async def messages(sessions: Sessions, user_id: UserId, session_id: str) -> MessagePageResponse:
        return await sessions.get_session_messages(session_id, user_id)

Who the user is, the application decides: ``UserId`` is a dependency of its own.
"""

# FastAPI reads the annotations at run time: no `from __future__ import annotations` here.
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from agent_cores.session.errors import ConfigurationError, SessionError
from agent_cores.session.integrations.fastapi_models import (
    MessagePageResponse,
    MessageResponse,
    ProblemResponse,
    SessionPageResponse,
    SessionResponse,
)
from agent_cores.session.integrations.fastapi_reply import StreamedReply
from agent_cores.session.integrations.problems import PROBLEM_TYPE, reported
from agent_cores.session.manager import SessionManager

__all__ = [
    "MessagePageResponse",
    "MessageResponse",
    "ProblemResponse",
    "SessionPageResponse",
    "SessionResponse",
    "Sessions",
    "StreamedReply",
    "add_error_handler",
    "error_response",
    "sessions_in",
    "sessions_of",
]

_POLICY_VIOLATION, _INTERNAL_ERROR, _FIRST_OF_THE_SERVER = 1008, 1011, 500


def sessions_of(connection: HTTPConnection) -> SessionManager:
    """Return the manager whose lifespan the application has.

    Tests replace it: ``app.dependency_overrides[sessions_of] = lambda: manager``.
    """
    manager = getattr(connection.state, "sessions", None)
    if not isinstance(manager, SessionManager):
        detail = (
            "the application was started without the manager's lifespan; make it with"
            " FastAPI(lifespan=manager.lifespan), and a TestClient as a context manager"
        )
        raise ConfigurationError(detail)
    return manager


Sessions = Annotated[SessionManager, Depends(sessions_of)]
"""The manager, as the parameter of a route."""


def sessions_in(namespace_of: Callable[..., Any]) -> Callable[..., SessionManager]:
    """Return a dependency: the view of the namespace that another dependency returns.

    ``Annotated[SessionManager, Depends(sessions_in(tenant_of))]`` reaches one tenant's sessions.
    """

    def view(
        sessions: Sessions, namespace: Annotated[str, Depends(namespace_of)]
    ) -> SessionManager:
        return sessions.for_namespace(namespace)

    return view


def add_error_handler(app: Starlette) -> None:
    """Report each ``SessionError`` with its ``http_status``, as ``application/problem+json``.

    The body has ``code``, ``detail`` and what else the HTTP interface sends. ``Retry-After`` is
    set where a retry can help. A web socket is closed, with the code as the reason.
    """
    handler: Any = _handle  # for requests and web sockets, which Starlette's types keep apart
    app.add_exception_handler(SessionError, handler)


def error_response(error: Exception) -> Response:
    """Return the response that reports an error, for a handler of the application's own."""
    status, headers, body = reported(error)
    return Response(body, status, headers, PROBLEM_TYPE)


async def _handle(connection: HTTPConnection, error: SessionError) -> Response | None:
    response = error_response(error)
    if not isinstance(connection, WebSocket):
        return response
    is_ours = response.status_code >= _FIRST_OF_THE_SERVER
    await connection.close(_INTERNAL_ERROR if is_ours else _POLICY_VIOLATION, error.code)
    return None
