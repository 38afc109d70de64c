"""Appends that failed half way, or were delivered again: completed, and nothing is doubled."""
# ruff: noqa: SLF001, ANN401 - ADK's own protocol, and verbs that are replaced

from __future__ import annotations

from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events.event import Event

from agent_cores.session import SessionManager
from agent_cores.session.adapters.google_adk import ADKSessionService
from agent_cores.session.adapters.google_adk.state import KnownIds
from agent_cores.session.errors import ConflictError, StorageUnavailableError
from tests.adapters.google_adk.conftest import APP, event, texts

DELTA = {"own": 1, "app:a": 1, "user:u": 1, "temp:t": 1}
STORED = {"own": 1, "app:a": 1, "user:u": 1}


@pytest.fixture(params=range(2))
def unavailable(
    request: pytest.FixtureRequest, manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """Let the first, or the second, write of shared state fail until this is undone."""
    update, calls = manager.update_session, []

    async def failing(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) > request.param:
            raise StorageUnavailableError("the store did not respond")
        return await update(*args, **options)

    monkeypatch.setattr(manager, "update_session", failing)
    return monkeypatch


@pytest.mark.parametrize("reloaded", [False, True])
async def test_a_retry_completes_what_is_missing(
    service: ADKSessionService, unavailable: pytest.MonkeyPatch, *, reloaded: bool
) -> None:
    session: Any = await service.create_session(**APP, session_id="s")
    before = session.model_copy(deep=True)
    sent = event("once", delta=dict(DELTA))
    with pytest.raises(StorageUnavailableError):
        await service.append_event(session, sent)
    assert session == before
    assert session._storage_update_marker == before._storage_update_marker
    assert sent.actions.state_delta == DELTA
    unavailable.undo()
    if reloaded:
        session = await service.get_session(**APP, session_id="s")
    assert await service.append_event(session, sent) is sent
    assert sent.actions.state_delta == STORED
    assert texts(session) == ["once"]
    assert session.state == DELTA
    assert session.last_update_time == sent.timestamp
    stored = await service.get_session(**APP, session_id="s")
    assert stored is not None
    assert (texts(stored), stored.state) == (["once"], STORED)
    await service.append_event(session, event("next"))
    assert texts(await service.get_session(**APP, session_id="s")) == ["once", "next"]


async def test_a_create_that_failed_can_be_repeated(
    service: ADKSessionService, unavailable: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageUnavailableError):
        await service.create_session(**APP, session_id="s", state=dict(DELTA))
    assert await service.get_session(**APP, session_id="s") is None
    unavailable.undo()
    assert (await service.create_session(**APP, session_id="s", state=DELTA)).state == STORED


async def test_a_create_that_is_refused_changes_no_state(service: ADKSessionService) -> None:
    await service.create_session(**APP, session_id="s", state=dict(STORED))
    with pytest.raises(AlreadyExistsError):
        await service.create_session(**APP, session_id="s", state={"app:a": 2, "user:u": 2})
    stored = await service.get_session(**APP, session_id="s")
    assert stored is not None
    assert stored.state == STORED


async def test_an_event_delivered_again_is_not_doubled(service: ADKSessionService) -> None:
    session = await service.create_session(**APP, session_id="s")
    first = event("once", delta={"app:k": 1})
    other = event("other", id=first.id, delta={"app:k": 2})
    for sent in (first, first, other, other, first):
        await service.append_event(session, sent)
    stored: Any = await service.get_session(**APP, session_id="s")
    for sent in (first, other, first.model_copy(deep=True)):
        await service.append_event(stored, sent)
    await service.append_event(session, event("more"))
    stored = await service.get_session(**APP, session_id="s")
    assert texts(stored) == texts(session) == ["once", "other", "more"]
    assert stored.state == {"app:k": 2}


async def test_the_last_event_delivered_again_changes_nothing_that_came_later(
    service: ADKSessionService,
) -> None:
    session = await service.create_session(**APP, session_id="1")
    sent = event(delta={"app:k": 1})
    await service.append_event(session, sent)
    other = await service.create_session(**APP, session_id="2")
    await service.append_event(other, event(delta={"app:k": 2}))
    await service.append_event(session, sent)
    assert (await service.create_session(**APP)).state == {"app:k": 2}


async def test_the_order_of_a_set_makes_no_other_event(service: ADKSessionService) -> None:
    ids, grown = {str(n) for n in range(50)}, {str(n) for n in range(1_000)}
    for more in range(50, 1_000):  # it keeps the room for more, in which the same ids lie elsewhere
        grown.discard(str(more))
    session = await service.create_session(**APP, session_id="s")
    sent, again = [event(id="e", timestamp=1.0) for _ in range(2)]
    sent.long_running_tool_ids, again.long_running_tool_ids = ids, grown
    assert list(sent.long_running_tool_ids) != list(again.long_running_tool_ids)
    await service.append_event(session, sent)
    await service.append_event(session, again)
    stored = await service.get_session(**APP, session_id="s")
    assert stored is not None
    assert [each.long_running_tool_ids for each in stored.events] == [ids]


async def test_a_retry_after_events_of_others_is_stale(service: ADKSessionService) -> None:
    mine: Any = await service.create_session(**APP, session_id="s")
    theirs: Any = await service.get_session(**APP, session_id="s")
    sent = event("mine")
    await service.append_event(theirs, event("theirs"))
    await service.append_event(theirs, sent)
    with pytest.raises(StaleSessionError, match="modified in storage"):
        await service.append_event(mine, sent)
    assert texts(await service.get_session(**APP, session_id="s")) == ["theirs", "mine"]


async def test_a_conflict_that_is_not_about_the_id_is_raised(
    service: ADKSessionService, manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await service.create_session(**APP, session_id="s")

    async def conflicting(*_: Any, **__: Any) -> None:
        raise ConflictError("the session changed between reading and writing")

    sent = event("once")
    monkeypatch.setattr(manager, "add_message", conflicting)
    with pytest.raises(ConflictError):
        await service.append_event(session, sent)
    monkeypatch.undo()
    await service.append_event(session, sent)
    await service.append_event(session, sent)
    assert texts(await service.get_session(**APP, session_id="s")) == ["once"]


async def test_the_marker_of_another_service_is_stale(service: ADKSessionService) -> None:
    session = await service.create_session(**APP, session_id="s")
    for marker in ("2026-11-29T12:00:00+00:00", "", "-1", "1" * 30, "²"):
        session._storage_update_marker = marker
        with pytest.raises(StaleSessionError, match=r"another service.*modified in storage"):
            await service.append_event(session, event())
    assert texts(await service.get_session(**APP, session_id="s")) == []


async def test_a_session_object_without_marker_is_compared_by_its_time_and_last_event(
    service: ADKSessionService,
) -> None:
    session = await service.create_session(**APP, session_id="s")
    stale = session.model_copy(deep=True)
    first = event("first", timestamp=session.last_update_time + 10)
    await service.append_event(session, first)
    session._storage_update_marker = None
    session.last_update_time -= 0.0001
    await service.append_event(session, event("second", timestamp=first.timestamp + 10))
    stale._storage_update_marker = None
    with pytest.raises(StaleSessionError, match="modified in storage"):
        await service.append_event(stale, event("third"))
    assert texts(await service.get_session(**APP, session_id="s")) == ["first", "second"]


async def test_what_is_remembered_is_bounded(
    service: ADKSessionService, manager: SessionManager
) -> None:
    service._own, service._shared._opened = KnownIds(2), KnownIds(2)
    sessions = [
        await service.create_session(app_name="app", user_id=str(n), state={"user:n": n})
        for n in range(5)
    ]
    for session in sessions * 2:
        await service.append_event(session, event(delta={"user:m": 1}))
        assert len(service._own._ids) <= 2
        assert len(service._shared._opened._ids) <= 2
    fresh = ADKSessionService(manager)
    for n, session in enumerate(sessions):
        await fresh.append_event(session, Event(author="user"))
        state = await fresh.get_user_state(app_name="app", user_id=str(n))
        assert state == {"n": n, "m": 1}


async def test_state_that_was_erased_is_begun_anew(
    service: ADKSessionService, manager: SessionManager
) -> None:
    session = await service.create_session(**APP, state={"user:a": 1, "app:a": 1})
    await manager.delete_session("adk-user:app:ann", "ann")
    await service.append_event(session, event(delta={"user:b": 2}))
    assert await service.get_user_state(**APP) == {"b": 2}
