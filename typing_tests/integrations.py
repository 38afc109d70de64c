"""The types of the integrations: what a route declares is what the manager returns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

from flask import Flask

from agent_cores.session import Message, Page, Session, SessionManager, SyncSessionManager
from agent_cores.session.integrations import django, flask
from agent_cores.session.integrations.fastapi import (
    MessagePageResponse,
    MessageResponse,
    SessionPageResponse,
    SessionResponse,
    Sessions,
    StreamedReply,
)


async def a_route_of_fastapi(sessions: Sessions, chunks: AsyncIterator[str]) -> MessageResponse:
    assert_type(sessions, SessionManager)
    reply = StreamedReply(sessions, "id", "ann", chunks, finish=True)
    assert_type(reply.message, Message | None)
    StreamedReply(sessions, "id", "ann", ["text"])  # type: ignore[arg-type]
    return await sessions.add_message("id", "ann", "user", "Hello")


def the_models_of_responses_are_the_models(
    message: MessageResponse,
    session: SessionResponse,
    messages: MessagePageResponse,
    sessions: SessionPageResponse,
) -> None:
    assert_type(message, Message)
    assert_type(session, Session)
    assert_type(messages, Page[Message])
    assert_type(sessions, Page[Session])


def flask_and_django_have_blocking_managers(app: Flask) -> None:
    flask.init_app(app, SyncSessionManager("memory://"))
    assert_type(flask.current_sessions(), SyncSessionManager)
    assert_type(django.sessions(), SyncSessionManager)
    assert_type(django.async_sessions(), SessionManager)
