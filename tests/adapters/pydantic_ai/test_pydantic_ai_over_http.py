"""Conversations on a client of the service."""

from __future__ import annotations

from agent_cores.session import SessionManager
from agent_cores.session.adapters.pydantic_ai import SessionConversationStore
from tests.adapters.pydantic_ai import test_conversation_store


async def test_an_agent_continues_a_conversation_over_http(client: SessionManager) -> None:
    store = SessionConversationStore(client, user_id="ann")
    await test_conversation_store.test_an_agent_continues_a_conversation(store)
    await test_conversation_store.test_of_writers_at_once_one_wins(store)
