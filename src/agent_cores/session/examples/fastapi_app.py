"""The manager in a FastAPI application, with a reply that is streamed and saved.

Run it with ``uvicorn agent_cores.session.examples.fastapi_app:app`` after ``pip install uvicorn``
and the extra ``[fastapi]``. It trusts a header to name the caller: replace that with your own
authentication. The agent only repeats the question: replace that too.
"""

# FastAPI reads the annotations at run time: no `from __future__ import annotations` here.
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Header
from pydantic import BaseModel

from agent_cores.session import SessionManager, Turn
from agent_cores.session.integrations.fastapi import (
    MessagePageResponse,
    SessionResponse,
    Sessions,
    StreamedReply,
    add_error_handler,
)

UserId = Annotated[str, Header(alias="X-User-Id")]


class Question(BaseModel):
    """What a user says."""

    content: str


async def hold_turn(sessions: Sessions, user_id: UserId, session_id: str) -> AsyncIterator[Turn]:
    """Hold the turn until the reply is saved: one reply at a time in a conversation."""
    async with sessions.turn(session_id, user_id) as turn:
        yield turn


async def agent(question: str) -> AsyncIterator[str]:
    """Reply word by word, as a model would."""
    yield "You said:"
    for word in question.split():
        yield f" {word}"


def create_app(storage: str | None = None) -> FastAPI:
    """Return the application. ``storage`` is that of ``SessionManager``."""
    app = FastAPI(lifespan=SessionManager(storage).lifespan)
    add_error_handler(app)

    @app.post("/conversations", status_code=201)
    async def create(sessions: Sessions, user_id: UserId) -> SessionResponse:
        return await sessions.get_session(await sessions.create_session(user_id), user_id)

    @app.post("/conversations/{session_id}/messages")
    async def ask(
        sessions: Sessions,
        user_id: UserId,
        session_id: str,
        turn: Annotated[Turn, Depends(hold_turn)],
        body: Question,
    ) -> StreamedReply:
        await sessions.add_message(session_id, user_id, "user", body.content, turn=turn.token)
        reply = agent(body.content)
        return StreamedReply(sessions, session_id, user_id, reply, turn=turn.token)

    @app.get("/conversations/{session_id}/messages")
    async def messages(sessions: Sessions, user_id: UserId, session_id: str) -> MessagePageResponse:
        return await sessions.get_session_messages(session_id, user_id)

    return app


app: FastAPI = create_app()
