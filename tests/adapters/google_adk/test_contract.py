"""What ADK's own tests ask of every session service, where the other tests here do not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.tools.tool_confirmation import ToolConfirmation
from google.genai import types

from agent_cores.session.adapters.google_adk import ADKSessionService
from tests.adapters.google_adk.conftest import APP, event, texts


@pytest.mark.filterwarnings("ignore:.*TOOL_CONFIRMATION is enabled:UserWarning")  # ADK 2.12
async def test_a_session_object_equals_what_is_stored(service: ADKSessionService) -> None:
    session = await service.create_session(**APP, session_id="s", state={"k": 1, "user:u": 1})
    assert await service.get_session(**APP, session_id="s") == session
    confirmation = ToolConfirmation(hint="sure?", confirmed=False, payload={"album": ["a", None]})
    search = types.SearchEntryPoint(sdk_blob=b"\x00\xff")
    await service.append_event(
        session,
        Event(
            invocation_id="i",
            author="agent",
            content=types.Content(role="model", parts=[types.Part(text="text")]),
            turn_complete=True,
            partial=False,
            actions=EventActions(
                state_delta={"app:a": [True, {"x": None}], "k": None},
                artifact_delta={"file": 0},
                transfer_to_agent="other",
                escalate=True,
                requested_tool_confirmations={"call": confirmation},
            ),
            long_running_tool_ids={"tool"},
            error_code="code",
            error_message="message",
            interrupted=True,
            grounding_metadata=types.GroundingMetadata(search_entry_point=search),
            usage_metadata=types.GenerateContentResponseUsageMetadata(prompt_token_count=1),
            citation_metadata=types.CitationMetadata(),
            custom_metadata={"key": {"none": None}},
            timestamp=1730615400.123,
            input_transcription=types.Transcription(text="in", finished=True),
            output_transcription=types.Transcription(text="out", finished=True),
        ),
    )
    assert await service.get_session(**APP, session_id="s") == session


@pytest.mark.parametrize("prefix", ["", "app:", "user:"])
async def test_a_delta_replaces_values_whole(service: ADKSessionService, prefix: str) -> None:
    def prefixed(state: dict[str, Any]) -> dict[str, Any]:
        return {f"{prefix}{key}": value for key, value in state.items()}

    first = {"object": {"name": "ada", "role": "admin"}, "set": True, "flag": False}
    session = await service.create_session(**APP, session_id="s", state=prefixed(first))
    delta = {"object": {"name": "bob"}, "set": None, "new": True}
    await service.append_event(session, event(delta=prefixed(delta)))
    stored = await service.get_session(**APP, session_id="s")
    assert stored is not None
    assert stored.state == session.state == prefixed({"flag": False, **delta})
    assert [type(stored.state[f"{prefix}{key}"]) for key in ("flag", "new")] == [bool, bool]


async def test_an_id_is_compared_without_white_space(service: ADKSessionService) -> None:
    created = await service.create_session(**APP, session_id="order\n", state={"keep": 1})
    assert created.id == "order"
    with pytest.raises(AlreadyExistsError):
        await service.create_session(**APP, session_id="  order ", state={"keep": 2})
    created.id = " order"
    await service.append_event(created, event())
    found = await service.get_session(**APP, session_id="order\n")
    assert found is not None
    assert (found.id, found.state, texts(found)) == ("order", {"keep": 1}, ["hi"])
    await service.delete_session(**APP, session_id="\torder")
    assert await service.get_session(**APP, session_id="order") is None
    assert (await service.create_session(**APP, session_id="  ")).id.strip()


async def test_of_two_copies_of_a_session_one_appends(service: ADKSessionService) -> None:
    latest = await service.create_session(**APP, session_id="s")
    for turn in range(5):
        copies = [latest.model_copy(deep=True) for _ in range(2)]
        appended = await asyncio.gather(
            *(service.append_event(copy, event(f"{turn}")) for copy in copies),
            return_exceptions=True,
        )
        [stale] = [each for each in appended if isinstance(each, BaseException)]
        assert isinstance(stale, StaleSessionError)
        assert isinstance(stale, ValueError)
        assert "modified in storage" in str(stale)
        found = await service.get_session(**APP, session_id="s")
        assert found is not None
        latest = found
    assert texts(latest) == ["0", "1", "2", "3", "4"]


async def test_a_service_is_entered_as_that_in_a_database(service: ADKSessionService) -> None:
    async with service as entered:
        assert entered is service
        await service.create_session(**APP, session_id="s")
    assert await service.get_session(**APP, session_id="s") is not None


async def test_those_who_share_state_first_do_so_together(service: ADKSessionService) -> None:
    await asyncio.gather(
        *(
            service.create_session(**APP, session_id=str(n), state={f"app:{n}": n, f"user:{n}": n})
            for n in range(8)
        )
    )
    expected = {f"{prefix}:{n}": n for prefix in ("app", "user") for n in range(8)}
    listed = (await service.list_sessions(**APP)).sessions
    assert [each.state for each in listed] == [expected] * 8


async def test_a_time_that_drifted_is_no_change(service: ADKSessionService) -> None:
    session = await service.create_session(**APP, session_id="s")
    await service.append_event(session, event("first", timestamp=session.last_update_time + 10))
    session.last_update_time -= 0.0001
    await service.append_event(session, event("second", timestamp=session.last_update_time + 10))
    assert texts(await service.get_session(**APP, session_id="s")) == ["first", "second"]


async def test_only_the_session_named_is_deleted(service: ADKSessionService) -> None:
    for user in ("ann", "bob"):
        await service.create_session(app_name="app", user_id=user, session_id="s")
    for other in ({"app_name": "x"}, {"user_id": "x"}, {"session_id": "x"}):
        await service.delete_session(**{**APP, "session_id": "s", **other})
    await service.delete_session(**APP, session_id="s")
    listed = (await service.list_sessions(app_name="app")).sessions
    assert [(each.user_id, each.id) for each in listed] == [("bob", "s")]
