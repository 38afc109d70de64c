"""A manager in Django: what views get, how errors are reported, how replies are saved."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import path

from agent_cores.session.integrations import django as integration

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["testserver"],
        AGENT_SESSIONS="memory://",
        MIDDLEWARE=["agent_cores.session.integrations.django.SessionErrorMiddleware"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="of a test",
    )
    django.setup()


def create(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"id": integration.sessions().create_session(request.GET["user"])})


def get(request: HttpRequest, session_id: str) -> JsonResponse:
    session = integration.sessions().get_session(session_id, request.GET["user"])
    return JsonResponse({"messages": [message.content for message in session.messages or ()]})


async def async_get(request: HttpRequest, session_id: str) -> JsonResponse:
    session = await integration.async_sessions().get_session(session_id, request.GET["user"])
    return JsonResponse({"id": session.id})


def reply(request: HttpRequest, session_id: str) -> StreamingHttpResponse:
    return integration.streamed_reply(session_id, "ann", iter(["Three ", "hotels."]))


def fail(request: HttpRequest) -> JsonResponse:
    raise ZeroDivisionError


urlpatterns = [
    path("create", create),
    path("chats/<session_id>", get),
    path("async/chats/<session_id>", async_get),
    path("reply/<session_id>", reply),
    path("fail", fail),
]
PAGE = Path(__file__).parents[2] / "docs" / "django.md"


@pytest.fixture
def session_id() -> Iterator[Any]:
    yield Client().get("/create?user=ann").json()["id"]
    integration.sessions().shutdown()


def test_views_and_asynchronous_views_share_one_manager(session_id: str) -> None:
    found = asyncio.run(AsyncClient().get(f"/async/chats/{session_id}?user=ann"))
    assert found.json() == {"id": session_id}
    assert Client().get(f"/chats/{session_id}?user=ann").json() == {"messages": []}


def test_an_error_is_a_problem_also_in_an_asynchronous_view(session_id: str) -> None:
    answers = [
        Client().get(f"/chats/{session_id}?user=eve"),
        asyncio.run(AsyncClient().get(f"/async/chats/{session_id}?user=eve")),
    ]
    for answer in answers:
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "session_not_found"


def test_the_errors_of_others_are_left_alone() -> None:
    with pytest.raises(ZeroDivisionError):
        Client().get("/fail")


def test_a_reply_is_saved_whole_or_as_far_as_it_came(session_id: str) -> None:
    whole = Client().get(f"/reply/{session_id}")
    assert b"".join(whole) == b"Three hotels."
    cut = Client().get(f"/reply/{session_id}")
    assert next(iter(cut)) == b"Three "
    cut.close()  # what a WSGI server does when the client went away
    assert Client().get(f"/chats/{session_id}?user=ann").json() == {
        "messages": ["Three hotels.", "Three "]
    }
