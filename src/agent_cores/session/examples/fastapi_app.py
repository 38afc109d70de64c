"""The manager in a FastAPI application: one per process, passed to each route by ``Depends``.

Run it with ``uvicorn agent_cores.session.examples.fastapi_app:app`` after ``pip install fastapi
uvicorn``. It trusts a header to name the caller: replace that with your own authentication.
"""

# FastAPI reads the annotations at run time: no `from __future__ import annotations` here.
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse

from agent_cores.session import SessionManager
from agent_cores.session.errors import (
    AccessDeniedError,
    InvalidInputError,
    SessionError,
    SessionNotFoundError,
)

STATUS: dict[type[SessionError], int] = {
    InvalidInputError: 422,
    SessionNotFoundError: 404,
    AccessDeniedError: 403,
}


def sessions_of(request: Request) -> SessionManager:
    """Return the manager of the application that got the request."""
    manager: SessionManager = request.app.state.sessions
    return manager


Sessions = Annotated[SessionManager, Depends(sessions_of)]
UserId = Annotated[str, Header(alias="X-User-Id")]


async def refuse(_request: Request, error: Exception) -> JSONResponse:
    """Turn an error of the manager into a response with its stable code."""
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)
    code = error.code if isinstance(error, SessionError) else "internal"
    return JSONResponse({"code": code, "detail": str(error)}, status)


def create_app(storage: str | None = None) -> FastAPI:
    """Return the application. ``storage`` is that of ``SessionManager``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with SessionManager(storage) as manager:
            app.state.sessions = manager
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_exception_handler(SessionError, refuse)

    @app.post("/conversations", status_code=201)
    async def create(sessions: Sessions, user_id: UserId) -> dict[str, str]:
        return {"id": await sessions.create_session(user_id)}

    @app.post("/conversations/{session_id}/messages", status_code=201)
    async def append(
        sessions: Sessions, user_id: UserId, session_id: str, body: dict[str, str]
    ) -> dict[str, Any]:
        message = await sessions.add_message(session_id, user_id, "user", body.get("content", ""))
        answer: dict[str, Any] = msgspec.to_builtins(message)
        return answer

    @app.get("/conversations/{session_id}/messages")
    async def messages(sessions: Sessions, user_id: UserId, session_id: str) -> list[Any]:
        page = await sessions.get_session_messages(session_id, user_id)
        return [msgspec.to_builtins(message) for message in page]

    return app


app = create_app()
