"""What a user wrote or changed by hand in the sessions of ADK: it stops nothing."""

from __future__ import annotations

from typing import Any

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.adapters.google_adk import ADKSessionService
from tests.adapters.google_adk.conftest import APP, event, texts

SESSION = "adk:app:ann:s"
GOOD: dict[str, Any] = {"id": "mine", "author": "user", "timestamp": 1.0}
ODD: dict[str, Any] = {
    "text": "hello",
    "nothing": None,
    "list": [1],
    "odd content": {**GOOD, "content": 5},
    "odd actions": {**GOOD, "actions": "none"},
    "odd id": {**GOOD, "id": 5},
    "no id": {"author": "user", "timestamp": 1.0},
    "a time beyond a float": {**GOOD, "timestamp": 10**400},
    "true as time": {**GOOD, "timestamp": True},
}


@pytest.mark.parametrize("odd", ODD)
async def test_a_message_of_another_shape_is_no_event(
    service: ADKSessionService, manager: SessionManager, odd: str
) -> None:
    session = await service.create_session(**APP, session_id="s")
    await service.append_event(session, event("first"))
    await manager.add_message(SESSION, "ann", "user", ODD[odd], message_id="mine")
    found = await service.get_session(**APP, session_id="s")
    assert found is not None
    assert texts(found) == ["first"]
    assert len((await service.list_sessions(**APP)).sessions) == 1
    await service.append_event(found, event("second"))
    found = await service.get_session(**APP, session_id="s")
    assert found is not None
    assert texts(found) == ["first", "second"]


async def test_shared_state_survives_a_message_in_its_session(
    service: ADKSessionService, manager: SessionManager
) -> None:
    session = await service.create_session(**APP, session_id="s", state={"user:k": 1})
    await manager.add_message("adk-user:app:ann", "ann", "note", "mine")
    fresh = ADKSessionService(manager)
    assert await fresh.get_user_state(**APP) == {"k": 1}
    await fresh.append_event(session, event("first", delta={"user:k": 2}))
    assert await service.get_user_state(**APP) == {"k": 2}
