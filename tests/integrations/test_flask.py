"""A manager in Flask: what routes get, how errors are reported, how replies are saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, request
from werkzeug.test import run_wsgi_app

from agent_cores.session import Message, SyncSessionManager
from agent_cores.session.errors import ConfigurationError, SessionNotFoundError
from agent_cores.session.integrations import wsgi_reply
from agent_cores.session.integrations.flask import current_sessions, init_app, streamed_reply

CHAT = "chat"


class Agent:
    """Produces "Three ", then "hotels.", or fails there."""

    def __init__(self) -> None:
        self.fails = False
        self.is_closed = False

    def reply(self) -> Iterator[str]:
        try:
            yield "Three "
            if self.fails:
                raise ZeroDivisionError
            yield "hotels."
        finally:
            self.is_closed = True


@pytest.fixture
def sessions() -> Iterator[SyncSessionManager]:
    with SyncSessionManager("memory://") as sessions:
        sessions.create_session("ann", session_id=CHAT)
        yield sessions


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def app(sessions: SyncSessionManager, agent: Agent) -> Flask:
    app = Flask(__name__)
    init_app(app, sessions)

    @app.get("/chats/<session_id>")
    def get(session_id: str) -> dict[str, str]:
        session = current_sessions().get_session(session_id, request.headers["X-User-Id"])
        return {"id": session.id}

    @app.post("/<way>")
    def reply(way: str) -> Response:
        return streamed_reply(
            CHAT, "ann", agent.reply(), finish=way == "finish", events=way == "events"
        )

    return app


def saved(sessions: SyncSessionManager) -> list[Message]:
    return list(sessions.get_session_messages(CHAT, "ann"))


def streamed(app: Flask, path: str) -> Iterator[bytes]:
    """Return the body as the server gets it, before it is read."""
    environ = app.test_client().application.test_request_context(path, method="POST")
    body, _, _ = run_wsgi_app(app, environ.request.environ)
    return iter(body)


def close(body: Any) -> None:  # noqa: ANN401 - an iterator that can be closed, of several types
    """Do what a WSGI server does when the client has gone away."""
    body.close()


def test_a_route_gets_the_manager_and_an_error_is_a_problem(app: Flask) -> None:
    client = app.test_client()
    found = client.get(f"/chats/{CHAT}", headers={"X-User-Id": "ann"})
    assert found.get_json() == {"id": CHAT}
    refused = client.get(f"/chats/{CHAT}", headers={"X-User-Id": "eve"})
    assert (refused.status_code, refused.mimetype) == (404, "application/problem+json")
    assert refused.get_json(force=True)["code"] == "session_not_found"


def test_an_application_without_a_manager_is_told_what_to_do() -> None:
    with Flask(__name__).app_context(), pytest.raises(ConfigurationError, match="init_app"):
        current_sessions()


def test_a_reply_that_ended_is_saved_whole(app: Flask, sessions: SyncSessionManager) -> None:
    answer = app.test_client().post("/stop")
    assert answer.text == "Three hotels."
    [message] = saved(sessions)
    assert (message.role, message.content, message.metadata) == ("assistant", "Three hotels.", {})


def test_a_body_that_the_server_closes_is_saved_as_far_as_it_came(
    app: Flask, sessions: SyncSessionManager, agent: Agent
) -> None:
    body = streamed(app, "/stop")
    assert next(body) == b"Three "
    close(body)
    [message] = saved(sessions)
    assert (message.content, message.metadata) == ("Three ", {"incomplete": "disconnected"})
    assert agent.is_closed


def test_a_reply_to_be_finished_is_saved_whole_though_the_server_closed_it(
    app: Flask, sessions: SyncSessionManager, agent: Agent
) -> None:
    body = streamed(app, "/finish")
    assert next(body) == b"Three "
    close(body)
    [message] = saved(sessions)
    assert (message.content, message.metadata) == ("Three hotels.", {})
    assert agent.is_closed


@pytest.mark.parametrize(
    ("path", "leaves"), [("/stop", False), ("/finish", False), ("/finish", True)]
)
def test_a_producer_that_fails_leaves_what_it_produced(
    app: Flask, sessions: SyncSessionManager, agent: Agent, path: str, leaves: bool
) -> None:
    agent.fails = True
    body = streamed(app, path)
    assert next(body) == b"Three "
    with pytest.raises(ZeroDivisionError):
        close(body) if leaves else next(body)
    [message] = saved(sessions)
    assert (message.content, message.metadata) == ("Three ", {"incomplete": "failed"})


class Source:
    """Produces the chunks, and knows whether it was closed."""

    def __init__(self, *chunks: str) -> None:
        self._chunks = iter(chunks)
        self.is_closed = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._chunks)

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("events", [False, True])
def test_a_chunk_that_cannot_be_sent_is_a_failure_of_the_producer(
    sessions: SyncSessionManager, events: bool
) -> None:
    source = Source("one", "\ud83d", "two")
    with pytest.raises(ValueError, match="chunks: must not hold a lone surrogate"):
        list(wsgi_reply.saved(sessions, CHAT, "ann", source, events=events))
    [message] = saved(sessions)
    assert (message.content, message.metadata) == ("one", {"incomplete": "failed"})
    assert source.is_closed


@pytest.mark.parametrize("leaves", [False, True])
def test_the_producer_is_closed_and_the_error_logged_if_its_reply_cannot_be_saved(
    sessions: SyncSessionManager, caplog: pytest.LogCaptureFixture, leaves: bool
) -> None:
    source = Source("one")
    body = wsgi_reply.saved(sessions, CHAT, "ann", source)
    next(body)
    sessions.delete_session(CHAT, "ann")
    with pytest.raises(SessionNotFoundError):
        _ = body.close() if leaves else next(body)  # type: ignore[attr-defined]
    assert source.is_closed
    assert caplog.text.count("was not saved in session 'chat'") == 1


def test_events_carry_the_chunks_and_at_last_the_stored_message(app: Flask) -> None:
    answer = app.test_client().post("/events")
    assert answer.mimetype == "text/event-stream"
    first, second, last, end = answer.text.split("\n\n")
    assert (first, second, end) == ('data: "Three "', 'data: "hotels."', "")
    assert last.startswith('event: saved\ndata: {"seq":1,')
