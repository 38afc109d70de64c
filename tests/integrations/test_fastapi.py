"""A manager in FastAPI: its lifespan, what routes get, and how errors are reported."""

# ruff: noqa: ANN401 - documents of any shape

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Header, Request
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.websockets import WebSocket, WebSocketDisconnect

from agent_cores.session import SessionManager, errors
from agent_cores.session.integrations.fastapi import (
    MessagePageResponse,
    MessageResponse,
    ProblemResponse,
    SessionPageResponse,
    SessionResponse,
    Sessions,
    add_error_handler,
    sessions_in,
    sessions_of,
)

UserId = Annotated[str, Header(alias="X-User-Id")]
ANN, EVE = {"X-User-Id": "ann"}, {"X-User-Id": "eve"}
RAISED = {
    "held": errors.SessionMovedError(),
    "gone": errors.SessionExpiredError(),
    "setting": errors.ConfigurationError("the password is hunter2"),
}


def tenant_of(x_tenant: Annotated[str, Header()]) -> str:
    return x_tenant


TenantSessions = Annotated[SessionManager, Depends(sessions_in(tenant_of))]


def application(manager: SessionManager) -> FastAPI:
    app = FastAPI(lifespan=manager.lifespan)
    add_error_handler(app)

    @app.post("/chats", status_code=201)
    async def create(sessions: Sessions, user_id: UserId) -> SessionResponse:
        session_id = await sessions.create_session(user_id, title="Trip")
        return await sessions.get_session(session_id, user_id)

    @app.get("/chats")
    async def chats(sessions: Sessions, user_id: UserId) -> SessionPageResponse:
        return await sessions.list_user_sessions(user_id)

    @app.post("/chats/{session_id}/messages", responses={404: {"model": ProblemResponse}})
    async def say(sessions: Sessions, user_id: UserId, session_id: str) -> MessageResponse:
        return await sessions.add_message(session_id, user_id, "user", {"text": "你好"})

    @app.get("/chats/{session_id}/messages")
    async def messages(sessions: Sessions, user_id: UserId, session_id: str) -> MessagePageResponse:
        return await sessions.get_session_messages(session_id, user_id)

    @app.get("/tenant/chats")
    async def of_tenant(sessions: TenantSessions, user_id: UserId) -> SessionPageResponse:
        await sessions.create_session(user_id)
        return await sessions.list_user_sessions(user_id)

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise RAISED[name]

    @app.websocket("/ws/{session_id}")
    async def talk(socket: WebSocket, sessions: Sessions, session_id: str) -> None:
        await socket.accept()
        if session_id in RAISED:
            raise RAISED[session_id]
        await sessions.get_session(session_id, "ann")

    return app


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(application(SessionManager("memory://"))) as client:
        yield client


def test_a_manager_starts_and_stops_with_the_application() -> None:
    manager = SessionManager("memory://")
    for _ in range(2):
        with TestClient(application(manager)) as client:
            assert client.post("/chats", headers=ANN).status_code == 201
            assert not manager.is_over
        assert manager.is_over


def test_a_manager_for_any_loop_is_a_lifespan_too() -> None:
    manager = SessionManager("memory://", any_loop=True)
    with TestClient(application(manager)) as client:
        assert client.post("/chats", headers=ANN).status_code == 201
    assert manager.is_over


def test_a_starlette_application_finds_it_in_the_state_of_the_request() -> None:
    async def create(request: Request) -> JSONResponse:
        return JSONResponse(await request.state.sessions.create_session("ann"))

    manager = SessionManager("memory://")
    app = Starlette(routes=[Route("/", create)], lifespan=manager.lifespan)
    with TestClient(app) as client:
        assert client.get("/").status_code == 200


def test_an_application_without_the_lifespan_is_told_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = TestClient(application(SessionManager("memory://")))
    answer = client.post("/chats", headers=ANN)  # not as a context manager: no lifespan
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "FastAPI(lifespan=manager.lifespan)" in caplog.text


async def test_a_test_may_replace_the_manager() -> None:
    app = application(SessionManager("memory://"))
    async with SessionManager("memory://", any_loop=True) as other:
        await other.create_session("ann", title="Rome")
        app.dependency_overrides[sessions_of] = lambda: other
        listed = TestClient(app).get("/chats", headers=ANN).json()
    assert [session["title"] for session in listed["data"]] == ["Rome"]


def test_routes_answer_in_the_shapes_of_the_http_interface(client: TestClient) -> None:
    made = client.post("/chats", headers=ANN).json()
    assert (made["title"], made["status"], made["access_role"]) == ("Trip", "active", "owner")
    path = f"/chats/{made['id']}/messages"
    said = client.post(path, headers=ANN).json()
    assert (said["seq"], said["content"], said["author_id"]) == (1, {"text": "你好"}, "ann")
    page = client.get(path, headers=ANN).json()
    assert page == {"data": [said], "has_more": False, "last_seq": 1}
    listed = client.get("/chats", headers=ANN).json()
    assert [session["id"] for session in listed["data"]] == [made["id"]]
    assert listed["has_more"] is False


def test_a_tenants_routes_reach_its_own_sessions_alone(client: TestClient) -> None:
    counts = []
    for tenant in ("acme", "globex", "acme"):
        answer = client.get("/tenant/chats", headers={**ANN, "X-Tenant": tenant})
        counts.append(len(answer.json()["data"]))
    assert counts == [1, 1, 2]
    assert client.get("/chats", headers=ANN).json()["data"] == []


def test_an_error_is_a_problem_with_its_status_and_code(client: TestClient) -> None:
    session_id = client.post("/chats", headers=ANN).json()["id"]
    refused = client.get(f"/chats/{session_id}/messages", headers=EVE)
    assert refused.status_code == errors.SessionNotFoundError.http_status == 404
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json() == {
        "type": "urn:agent-sessions:error:session_not_found",
        "title": "Session not found",
        "status": 404,
        "code": "session_not_found",
        "detail": "session not found",
    }
    invalid = client.post("/chats", headers={"X-User-Id": "group:staff"})
    assert (invalid.status_code, invalid.json()["code"]) == (422, "invalid_input")
    assert invalid.json()["errors"][0]["field"] == "/user_id"


def test_a_refusal_that_may_pass_says_when_to_retry(client: TestClient) -> None:
    answer = client.get("/raise/held")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "retry-after" not in client.get("/raise/gone").headers


def test_a_fault_of_the_program_is_logged_and_not_described(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "agent_cores.session"):
        answer = client.get("/raise/setting")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "hunter2" not in answer.text
    assert "hunter2" in caplog.text


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [("nowhere", 1008, "session_not_found"), ("setting", 1011, "invalid_configuration")],
)
def test_a_web_socket_is_closed_with_the_code(
    client: TestClient, name: str, code: int, reason: str
) -> None:
    with (
        client.websocket_connect(f"/ws/{name}") as socket,
        pytest.raises(WebSocketDisconnect) as closed,
    ):
        socket.receive_text()
    assert (closed.value.code, closed.value.reason) == (code, reason)


def test_the_openapi_document_describes_the_shapes(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    def schema(path: str, method: str, status: str) -> Any:
        content = paths[path][method]["responses"][status]["content"]
        return content["application/json"]["schema"]

    message = schema("/chats/{session_id}/messages", "post", "200")
    assert message["properties"]["seq"] == {"type": "integer"}
    session = schema("/chats", "post", "201")
    assert {"id", "owner_id", "version"} <= set(session["properties"])
    page = schema("/chats/{session_id}/messages", "get", "200")
    assert page["properties"]["data"]["items"]["properties"] == message["properties"]
    problem = schema("/chats/{session_id}/messages", "post", "404")
    assert problem["required"] == ["type", "title", "status", "code", "detail"]
    assert "$ref" not in str(message) + str(session) + str(page) + str(problem)
