"""A manager in a Django project.

    # settings.py
    AGENT_SESSIONS = "postgresql://localhost/chat"
    MIDDLEWARE = [..., "agent_cores.session.integrations.django.SessionErrorMiddleware"]

    # views.py
    def create(request):
        return JsonResponse({"id": sessions().create_session(str(request.user.pk))})

    async def create(request):
        return JsonResponse({"id": await async_sessions().create_session(str(request.user.pk))})

``AGENT_SESSIONS`` is the storage, as ``SessionManager`` takes it. Without it, the storage is the
configured one. Both functions return views of one manager, which starts with its first call, also
in a forked worker, and is closed at the end of the program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse

from agent_cores.session.errors import SessionError
from agent_cores.session.integrations.problems import PROBLEM_TYPE, reported
from agent_cores.session.integrations.reply import EVENT_STREAM
from agent_cores.session.integrations.wsgi_reply import saved
from agent_cores.session.session_manager import get_session_manager
from agent_cores.session.sync_manager import SyncSessionManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Unpack

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from agent_cores.session.integrations.reply import ReplyOptions
    from agent_cores.session.manager import SessionManager

__all__ = ["SessionErrorMiddleware", "async_sessions", "sessions", "streamed_reply"]


def async_sessions() -> SessionManager:
    """Return the project's manager, for asynchronous views; it works in any event loop."""
    storage = getattr(settings, "AGENT_SESSIONS", None)
    return get_session_manager(storage, any_loop=True)


def sessions() -> SyncSessionManager:
    """Return the blocking verbs of the project's manager, for ordinary views."""
    return SyncSessionManager.of(async_sessions())


class SessionErrorMiddleware:
    """Report each ``SessionError`` of a view with its status, as ``application/problem+json``."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Respond to a request."""
        return self._get_response(request)

    def process_exception(self, _request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Return the response that reports an error; ``None`` for those of others."""
        if not isinstance(error, SessionError):
            return None
        status, headers, body = reported(error)
        return HttpResponse(body, content_type=PROBLEM_TYPE, status=status, headers=headers)


def streamed_reply(
    session_id: str,
    user_id: str,
    chunks: Iterable[str],
    **options: Unpack[ReplyOptions],
) -> StreamingHttpResponse:
    """Return a response that streams a reply and saves it, whole or as far as it came.

    For WSGI servers; Django reads the whole of a blocking iterator before it sends it over ASGI.
    Arguments, events and marks are those of ``fastapi.StreamedReply``. The server notices at the
    next chunk that the client went away.
    """
    body = saved(sessions(), session_id, user_id, chunks, **options)
    kind = EVENT_STREAM if options.get("events") else "text/plain; charset=utf-8"
    return StreamingHttpResponse(body, content_type=kind, headers={"Cache-Control": "no-store"})
