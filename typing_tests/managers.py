"""The types of the managers, and of what their verbs return."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, assert_type

from agent_cores.session import (
    Grant,
    Message,
    NewMessage,
    Page,
    Session,
    SessionManager,
    SessionOperator,
    SessionSettings,
    SyncSessionManager,
    SyncSessionOperator,
    Turn,
    __version__,
    get_session_manager,
)
from agent_cores.session.client import SessionClient
from agent_cores.session.errors import SessionError

assert_type(__version__, str)


def the_entry_point_returns_a_manager_or_a_client() -> None:
    assert_type(get_session_manager(), SessionManager)
    assert_type(get_session_manager("memory://", any_loop=True), SessionManager)
    assert_type(get_session_manager(storage="redis"), SessionManager)
    assert_type(get_session_manager("https://sessions.example.com", api_key="ask"), SessionClient)
    assert_type(get_session_manager(settings=SessionSettings(), api_key="ask"), SessionClient)
    get_session_manager(7)  # type: ignore[call-overload]


def a_client_can_stand_where_a_manager_is_wanted(client: SessionClient) -> SessionManager:
    return client


def views_have_the_type_of_what_they_view(
    manager: SessionManager, client: SessionClient, blocking: SyncSessionManager
) -> None:
    assert_type(manager.for_namespace("acme"), SessionManager)
    assert_type(manager.as_operator("support"), SessionOperator)
    assert_type(client.for_namespace("acme"), SessionClient)
    assert_type(blocking.for_namespace("acme"), SyncSessionManager)
    assert_type(blocking.as_operator("support"), SyncSessionOperator)
    assert_type(SyncSessionManager.of(manager), SyncSessionManager)


async def a_block_has_the_manager(client: SessionClient) -> None:
    async with SessionManager("memory://") as manager:
        assert_type(manager, SessionManager)
    async with client as entered:
        assert_type(entered, SessionClient)
    assert_type(manager.lifespan(), AbstractAsyncContextManager[dict[str, SessionManager]])
    assert_type(client.lifespan(), AbstractAsyncContextManager[dict[str, SessionClient]])


async def verbs_return_the_types_of_the_models(manager: SessionManager) -> None:
    session_id = await manager.create_session("ann", {"a": 1}, 24)
    assert_type(session_id, str)
    assert_type(await manager.get_session(session_id, "ann"), Session)
    assert_type(await manager.add_message(session_id, "ann", "user", "Hello"), Message)
    assert_type(
        await manager.add_messages(
            session_id, "ann", [NewMessage("user", "Hello"), {"role": "user", "content": None}]
        ),
        list[Message],
    )
    page = await manager.get_session_messages(session_id, "ann")
    assert_type(page, Page[Message])
    assert_type(page[0], Message)
    assert_type(page.has_more, bool)
    assert_type(await manager.list_user_sessions("ann"), Page[Session])
    async with manager.turn(session_id, "ann") as turn:
        assert_type(turn, Turn)
    await manager.add_message(session_id, "ann", "user", object())  # type: ignore[arg-type]
    await manager.add_message(session_id, "ann", "user")  # type: ignore[call-arg]


def blocking_verbs_return_the_same(manager: SyncSessionManager) -> None:
    session_id = manager.create_session("ann")
    assert_type(session_id, str)
    assert_type(manager.add_message(session_id, "ann", "user", "Hello"), Message)
    assert_type(manager.list_user_sessions("ann"), Page[Session])
    with manager.turn(session_id, "ann") as turn:
        assert_type(turn, Turn)


def models_have_their_fields(session: Session, grant: Grant, error: SessionError) -> None:
    assert_type(session.messages, list[Message] | None)
    assert_type(session.context, dict[str, Any] | None)
    assert_type(session.metadata.title, str | None)
    assert_type(grant.subject, str)
    assert_type(error.code, str)
    assert_type(error.http_status, int)
    session.metadata = session.metadata  # type: ignore[misc]
