"""Events of ADK as messages, and sessions of ours as those of ADK.

Anybody may write to the sessions they own, or may edit, without this adapter. So what is read here
is checked: which sessions are ADK's, and which of their messages are events.
"""

from __future__ import annotations

import hashlib
import logging
import math
from typing import TYPE_CHECKING, Any

import msgspec
from google.adk.events.event import Event
from google.adk.sessions.session import Session as AdkSession
from google.adk.sessions.state import State
from pydantic import ValidationError

from agent_cores.session.adapters.google_adk.state import values_of
from agent_cores.session.adapters.ids import id_of, id_of_parts, user_id_of
from agent_cores.session.adapters.layouts.google_adk import (
    NAMES,
    app_tag,
    names_of,
    role_of,
    session_id_of,
)
from agent_cores.session.adapters.reading import latest_messages
from agent_cores.session.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.adapters.owner import Acting
    from agent_cores.session.models.message import Message
    from agent_cores.session.models.session import Session, SessionMetadata

log: logging.Logger = logging.getLogger(__name__)

STEP = 100
"""How many messages are read at a time where it is not known how many are needed."""
_PAGE = 1_000


def metadata_of(app_name: str, user_id: str, name: str) -> dict[str, Any]:
    """Return the metadata of the session that keeps one of ADK's."""
    return {"tags": [app_tag(app_name)], **names_of(app_name, user_id, name)}


def is_adk_session(header: SessionMetadata) -> bool:
    """Whether the session is the one of ADK that its metadata names, and belongs to that user."""
    app_name, user_id, name = (header.attributes.get(key) for key in NAMES)
    if not (isinstance(app_name, str) and isinstance(user_id, str) and isinstance(name, str)):
        return False
    return (header.session_id, header.owner_id) == (
        session_id_of(app_name, user_id, name),
        user_id_of(user_id),
    )


def adk_session(found: Session, shared: Mapping[str, Any]) -> AdkSession:
    """Return ADK's session without events; the time of its last event is that of the session."""
    app_name, user_id, name = (found.metadata.attributes[key] for key in NAMES)
    session = AdkSession(
        app_name=app_name,
        user_id=user_id,
        id=name,
        state={**values_of(found.context), **shared},
        last_update_time=last_update_time(found),
    )
    session._storage_update_marker = str(found.metadata.last_seq)  # noqa: SLF001 - ADK's own
    return session


def last_update_time(found: Session) -> float:
    """Return the time of the last message that was read, in seconds since 1970."""
    return _time(found.messages[-1]) if found.messages else found.metadata.created_at.timestamp()


def last_event_id(found: Session) -> str | None:
    """Return the id of the last message that was read, if it is an event."""
    content: Any = found.messages[-1].content if found.messages else None
    return content.get("id") if isinstance(content, dict) else None


def shows_state(session: AdkSession, event: Event) -> bool:
    """Whether the session object shows all that the event sets."""
    missing = object()
    delta = event.actions.state_delta
    return all(session.state.get(key, missing) == value for key, value in delta.items())


def check_time(event: Event) -> None:
    """Raise ``InvalidInputError`` for a time that JSON cannot hold: the event would not be read."""
    if not math.isfinite(event.timestamp):
        raise InvalidInputError("event/timestamp", f"must be finite, not {event.timestamp}")


def without_temporary_state(event: Event) -> Event:
    """Return the event as it is stored; the event itself keeps its temporary state."""
    delta = event.actions.state_delta
    kept = {key: value for key, value in delta.items() if not key.startswith(State.TEMP_PREFIX)}
    if len(kept) == len(delta):
        return event
    actions = event.actions.model_copy(update={"state_delta": kept})
    return event.model_copy(update={"actions": actions})


def message_of(event: Event) -> dict[str, Any]:
    """Return an event as a message to append. Equal events give equal messages."""
    content = event.model_dump_json(exclude_none=True).encode()
    role = role_of(event.author)
    return {"message_id": id_of(event.id), "role": role, "content": msgspec.Raw(content)}


def of_a_taken_id(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message with an id made from its content too: another event has its id."""
    digest = hashlib.sha256(message["content"]).hexdigest()
    return {**message, "message_id": id_of_parts(message["message_id"], digest)}


def event_of(message: Message) -> Event | None:
    """Return the event that a message keeps; ``None``, and a warning, if ADK cannot read it."""
    try:
        return Event.model_validate_json(msgspec.json.encode(message.content))
    except ValidationError as error:
        problems = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
        log.warning("message %s is no event: %s; it is left out", message.id, problems)
        return None


async def latest_events(
    acting: Acting, found: Session, most: int, after: float | None
) -> list[Event]:
    """Return the latest events, as far back as the time; the messages that were read are used."""
    messages = list(found.messages or ())
    kept = [message for message in messages if _is_event(message, acting.user_id)]
    while (
        len(kept) < most
        and messages
        and messages[0].seq > 1
        and (after is None or _time(messages[0]) >= after)
    ):
        count = min(most - len(kept), _PAGE if after is None else STEP)
        messages = await latest_messages(acting, found.id, count, before_seq=messages[0].seq)
        kept[:0] = [message for message in messages if _is_event(message, acting.user_id)]
    chosen = kept[len(kept) - min(most, len(kept)) :]
    if after is not None:
        old = [place for place, message in enumerate(chosen) if _time(message) < after]
        chosen = chosen[old[-1] + 1 if old else 0 :]
    return [event for message in chosen if (event := event_of(message)) is not None]


def _is_event(message: Message, owner: str) -> bool:
    """Whether this adapter wrote the message: it writes for the owner, and events have a time.

    The role is that of the event's author: who may append only some roles forges no other's event.
    """
    if message.author_id != owner or _event_time(message) is None:
        return False
    content: Any = message.content
    author = content.get("author")
    if not isinstance(content.get("id"), str):
        return False
    return message.role == role_of(author if isinstance(author, str) else None)


def _time(message: Message) -> float:
    time = _event_time(message)
    return message.created_at.timestamp() if time is None else time


def _event_time(message: Message) -> float | None:
    content: Any = message.content
    time = content.get("timestamp") if isinstance(content, dict) else None
    if not isinstance(time, int | float) or isinstance(time, bool):
        return None
    try:
        return float(time)
    except OverflowError:
        return None
