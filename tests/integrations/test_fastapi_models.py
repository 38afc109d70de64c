"""The library's types in Pydantic models."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from agent_cores.session import SessionManager
from agent_cores.session.integrations.fastapi import (
    MessagePageResponse,
    MessageResponse,
    SessionPageResponse,
    SessionResponse,
)


class Chat(BaseModel):
    session: SessionResponse
    last: MessageResponse | None = None


class Pages(BaseModel):
    sessions: SessionPageResponse
    messages: MessagePageResponse


async def test_a_session_and_a_message_come_back_from_json_as_they_were() -> None:
    async with SessionManager("memory://") as sessions:
        session_id = await sessions.create_session("ann", metadata={"a": [1]}, ttl_hours=1)
        await sessions.share_session(session_id, "ann", "bob", role="editor")
        message = await sessions.add_message(session_id, "bob", "user", ["Hi"], metadata={"k": 1})
        session = await sessions.get_session(session_id, "ann")
    chat = Chat(session=session, last=message)
    assert chat.last is message
    again = Chat.model_validate_json(chat.model_dump_json())
    assert again.last == message
    assert again.session.messages == session.messages
    assert again.session.metadata.grants == session.metadata.grants
    assert again.session.metadata.expires_at == session.metadata.expires_at
    assert again.model_dump() == chat.model_dump()


async def test_pages_come_back_from_json_as_they_were() -> None:
    async with SessionManager("memory://") as sessions:
        for name in ("one", "two"):
            await sessions.create_session("ann", title=name)
        session_id = await sessions.create_session("ann", title="three")
        await sessions.add_message(session_id, "ann", "user", "Hello")
        await sessions.add_message(session_id, "ann", "user", "Again")
        pages = Pages(
            sessions=await sessions.list_user_sessions("ann", limit=2),
            messages=await sessions.get_session_messages(session_id, "ann", 1),
        )
    again = Pages.model_validate_json(pages.model_dump_json())
    assert [each.id for each in again.sessions] == [each.id for each in pages.sessions]
    assert again.sessions.has_more
    assert again.sessions.next_cursor == pages.sessions.next_cursor
    assert again.messages == pages.messages
    assert (again.messages.has_more, again.messages.last_seq) == (True, 2)


@pytest.mark.parametrize("value", [{"seq": "1"}, 7, {"seq": 1, "id": "m"}])
def test_what_is_no_message_is_refused_as_pydantic_refuses(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(MessageResponse).validate_python(value)
