"""Where the sessions of ADK and their state are kept: ids, tags, marks. It needs no ADK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.adapters.ids import id_of, id_of_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND = "adk"
APP_OWNER = "%google-adk"
"""Who owns the state of apps. No user of ADK: ``user_id_of`` writes ``%`` as ``%25``."""
NAMES = ("adk_app", "adk_user", "adk_session")
MARK: dict[str, Any] = {"id": "mark", "role": "adk-state", "content": None}
"""The first message of a session that keeps shared state."""


def session_id_of(app_name: str, user_id: str, name: str) -> str:
    """Return the id of the session that keeps one of ADK's."""
    return id_of_parts(KIND, app_name, user_id, name.strip())


def app_tag(app_name: str) -> str:
    """Return the tag of the sessions of an app."""
    return id_of_parts(KIND, app_name)


def names_of(app_name: str, user_id: str, name: str) -> dict[str, Any]:
    """Return what the metadata of a session says of the one of ADK that it keeps."""
    return dict(zip(NAMES, (app_name, user_id, name), strict=True))


def role_of(author: str | None) -> str:
    """Return the role of the message that keeps an event."""
    return id_of(author or "event")


def app_state_id(app_name: str) -> str:
    """Return the id of the session that keeps what the sessions of an app share."""
    return id_of_parts(f"{KIND}-app", app_name)


def user_state_id(app_name: str, user_id: str) -> str:
    """Return the id of the session that keeps what those of a user in an app share."""
    return id_of_parts(f"{KIND}-user", app_name, user_id)


def entries_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return state, which is JSON, as context; keys of state may be longer, or empty."""
    return {id_of(key): {"key": key, "value": value} for key, value in state.items()}
