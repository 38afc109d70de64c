"""A service on each store, and events to append."""
# ruff: noqa: ANN401 - fields of ADK's events, and its sessions or none

from __future__ import annotations

from typing import Any

import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai import types

from agent_cores.session import SessionManager
from agent_cores.session.adapters.google_adk import ADKSessionService

APP: dict[str, Any] = {"app_name": "app", "user_id": "ann"}


@pytest.fixture
def service(manager: SessionManager) -> ADKSessionService:
    """Return a service on an empty store."""
    return ADKSessionService(manager)


def event(text: str = "hi", **fields: Any) -> Event:
    """Return an event of the user; ``delta`` is its state delta."""
    delta = fields.pop("delta", {})
    content = types.Content(role="user", parts=[types.Part(text=text)])
    actions = EventActions(state_delta=delta)
    return Event(author="user", content=content, actions=actions, **fields)


def texts(session: Any) -> list[str]:
    """Return the texts of a session's events."""
    return [each.content.parts[0].text for each in session.events]
