"""A manager in a Flask application.

    app = Flask(__name__)
    init_app(app, SyncSessionManager())

    @app.post("/chats")
    def create():
        return {"id": current_sessions().create_session(user_id())}

Who the user is, the application decides. The manager starts with its first call, also in a forked
worker, and is closed at the end of the program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, current_app

from agent_cores.session.errors import ConfigurationError, SessionError
from agent_cores.session.integrations.problems import PROBLEM_TYPE, reported
from agent_cores.session.integrations.reply import EVENT_STREAM
from agent_cores.session.integrations.wsgi_reply import saved
from agent_cores.session.sync_manager import SyncSessionManager

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Unpack

    from flask import Flask

    from agent_cores.session.integrations.reply import ReplyOptions

__all__ = ["current_sessions", "error_response", "init_app", "streamed_reply"]

_EXTENSION = "agent_cores.session"


def init_app(app: Flask, sessions: SyncSessionManager) -> None:
    """Give the application its manager, and report each ``SessionError`` with its status."""
    app.extensions[_EXTENSION] = sessions
    app.register_error_handler(SessionError, error_response)


def current_sessions() -> SyncSessionManager:
    """Return the manager of the application that handles the current request."""
    sessions = current_app.extensions.get(_EXTENSION)
    if not isinstance(sessions, SyncSessionManager):
        raise ConfigurationError("the application has no sessions; call init_app(app, manager)")
    return sessions


def error_response(error: Exception) -> Response:
    """Return the response that reports an error, as ``application/problem+json``."""
    status, headers, body = reported(error)
    return Response(body, status, headers, content_type=PROBLEM_TYPE)


def streamed_reply(
    session_id: str,
    user_id: str,
    chunks: Iterable[str],
    **options: Unpack[ReplyOptions],
) -> Response:
    """Return a response that streams a reply and saves it, whole or as far as it came.

    Arguments, events and marks are those of ``fastapi.StreamedReply``. The server notices at the
    next chunk that the client went away.
    """
    body = saved(current_sessions(), session_id, user_id, chunks, **options)
    kind = EVENT_STREAM if options.get("events") else "text/plain"
    return Response(body, mimetype=kind, headers={"Cache-Control": "no-store"})
