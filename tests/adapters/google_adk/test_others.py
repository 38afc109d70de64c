"""What others made or wrote, under ids that can be guessed: none of it is the user's."""

from __future__ import annotations

import logging

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError

from agent_cores.session import SessionManager
from agent_cores.session.adapters.google_adk import ADKSessionService
from agent_cores.session.adapters.ids import user_id_of
from agent_cores.session.adapters.layouts.google_adk import APP_OWNER
from agent_cores.session.errors import AccessDeniedError, SessionExistsError
from tests.adapters.google_adk.conftest import APP, event, texts

STATES = {"app:k": ("adk-app:app", APP_OWNER), "user:k": ("adk-user:app:ann", "ann")}
EVIL = {"k": {"key": "k", "value": "evil"}}


async def squat(manager: SessionManager, session_id: str, owner: str, how: str) -> None:
    """Let Eve make a session that is another's by its id, and pass it on."""
    metadata = {"tags": ["adk:app"], "adk_app": "app", "adk_user": "ann", "adk_session": "s"}
    await manager.create_session("eve", metadata, session_id=session_id, context=EVIL)
    await manager.add_message(session_id, "eve", "adk-state", None)
    if how == "share":
        await manager.share_session(session_id, "eve", owner, role="editor")
    if how == "give away":
        await manager.transfer_ownership(session_id, "eve", owner, keep_role="editor")


@pytest.mark.parametrize("how", ["keep", "share", "give away"])
@pytest.mark.parametrize("key", STATES)
async def test_shared_state_that_others_made_is_neither_read_nor_written(
    service: ADKSessionService, manager: SessionManager, key: str, how: str
) -> None:
    session_id, owner = STATES[key]
    session = await service.create_session(**APP, session_id="s")
    await squat(manager, session_id, owner, how)
    found = await service.get_session(**APP, session_id="s")
    assert found is not None
    assert found.state == {}
    [listed] = (await service.list_sessions(**APP)).sessions
    assert listed.state == {}
    assert await service.get_user_state(**APP) == {}
    with pytest.raises(SessionExistsError, match=f"'{session_id}'.* is somebody else's"):
        await service.append_event(session, event(delta={key: "secret"}))
    with pytest.raises(SessionExistsError, match=f"'{session_id}'.* is somebody else's"):
        await service.create_session(**APP, session_id="2", state={key: "secret"})
    found = await service.get_session(**APP, session_id="s")
    assert found is not None
    assert found.events == session.events == []
    assert await service.get_session(**APP, session_id="2") is None
    stored = await manager.as_operator("test").get_session(session_id, "test")
    assert stored.context == EVIL


async def test_no_user_of_adk_owns_the_state_of_an_app(
    service: ADKSessionService, manager: SessionManager
) -> None:
    for user in ("google-adk", APP_OWNER):
        session = await service.create_session(app_name="app", user_id=user, state={"app:k": 1})
        listed = await manager.list_user_sessions(user_id_of(user))
        assert [each.id for each in listed] == [f"adk:app:{user_id_of(user)}:{session.id}"]
        await service.delete_session(app_name="app", user_id=user, session_id=session.id)
    assert (await manager.erase_user("google-adk")).sessions == 0
    assert (await service.create_session(**APP)).state == {"app:k": 1}


@pytest.mark.parametrize("how", ["share", "give away"])
async def test_a_session_that_others_made_is_not_the_users(
    service: ADKSessionService, manager: SessionManager, how: str
) -> None:
    session = await service.create_session(**APP, session_id="s")
    await service.delete_session(**APP, session_id="s")
    await manager.create_session("eve", {"adk_app": "app"}, session_id="adk:app:ann:s")
    await manager.share_session("adk:app:ann:s", "eve", "ann", role="editor")
    if how == "give away":
        await manager.transfer_ownership("adk:app:ann:s", "eve", "ann")
    assert await service.get_session(**APP, session_id="s") is None
    assert (await service.list_sessions(**APP)).sessions == []
    with pytest.raises(SessionNotFoundError):
        await service.append_event(session, event("secret"))
    stored = await manager.as_operator("test").get_session("adk:app:ann:s", "test")
    assert stored.messages == []
    with pytest.raises(AlreadyExistsError):
        await service.create_session(**APP, session_id="s", state={"app:k": 1})
    assert (await service.create_session(**APP, session_id="t")).state == {}


async def test_what_others_wrote_is_no_event(
    service: ADKSessionService, manager: SessionManager
) -> None:
    session = await service.create_session(**APP, session_id="s", state={"k": 1})
    await service.append_event(session, event("mine"))
    await manager.share_session("adk:app:ann:s", "ann", "eve", role="editor")
    forged = event("forged").model_dump(mode="json", exclude_none=True)
    await manager.add_message("adk:app:ann:s", "eve", "user", forged)
    await manager.update_session("adk:app:ann:s", "eve", {"x": "no state", "y": {"key": 1}})
    await manager.add_message("adk:app:ann:s", "ann", "user", "no event")
    await manager.add_message("adk:app:ann:s", "ann", "user", {**forged, "author": "agent"})
    found = await service.get_session(**APP, session_id="s")
    assert found is not None
    assert (texts(found), found.state) == (["mine"], {"k": 1})
    await service.append_event(found, event("again"))
    assert texts(await service.get_session(**APP, session_id="s")) == ["mine", "again"]
    [listed] = (await service.list_sessions(app_name="app")).sessions
    assert listed.state == {"k": 1}


async def test_lists_leave_out_what_only_bears_the_tag(
    service: ADKSessionService, manager: SessionManager
) -> None:
    await service.create_session(**APP, session_id="s")
    for metadata in (
        {},
        {"adk_app": "app", "adk_user": "ann", "adk_session": "t"},
        {"adk_app": "app", "adk_user": "eve", "adk_session": 7},
        {"adk_app": "app", "adk_user": "eve", "adk_session": "t"},
    ):
        await manager.create_session("eve", {"tags": ["adk:app"], **metadata})
    for user in ("ann", None):
        listed = (await service.list_sessions(app_name="app", user_id=user)).sessions
        assert [(each.user_id, each.id) for each in listed] == [("ann", "s")]
    assert (await service.list_sessions(app_name="app", user_id="eve")).sessions == []


async def test_what_is_not_the_users_is_deleted_by_nobody_and_silently(
    service: ADKSessionService, manager: SessionManager
) -> None:
    await squat(manager, "adk:app:ann:s", "ann", "share")
    await service.delete_session(**APP, session_id="s")
    assert (await manager.get_session("adk:app:ann:s", "eve")).metadata.owner_id == "eve"


async def test_a_right_that_is_missing_is_not_silent(
    service: ADKSessionService, manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.create_session(**APP, session_id="s")

    async def denied(*_: object) -> None:
        raise AccessDeniedError("this key lacks the right write")

    monkeypatch.setattr(manager, "delete_session", denied)
    with pytest.raises(AccessDeniedError, match="lacks the right"):
        await service.delete_session(**APP, session_id="s")


async def test_only_lists_of_all_users_are_those_of_an_operator(
    service: ADKSessionService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agent_cores.session.audit")
    session = await service.create_session(**APP, session_id="s", state={"app:k": 1, "user:k": 1})
    await service.append_event(session, event(delta={"app:k": 2, "user:k": 2}))
    await service.get_session(**APP, session_id="s")
    await service.list_sessions(**APP)
    assert caplog.records == []
    await service.list_sessions(app_name="app")
    assert ["list_sessions" in record.getMessage() for record in caplog.records] == [True]
